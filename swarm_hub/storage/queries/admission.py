"""Invitations, and which nodes were admitted or wait for it."""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.admission import AdmissionPolicy, Applicant, InviteRecord, Verdict
from swarm_hub.storage import schema
from swarm_hub.storage.queries.leases import STORE_TIME
from swarm_hub.storage.write import Write

_NODES = schema.nodes
_INVITES = schema.invites

APPROVED: Final = "approved"
PENDING: Final = "pending"

# Anyone may ask, so only a bounded number of unanswered requests is kept: the newest, for a day.
PENDING_MAX: Final = 64
_PENDING_FOR_S: Final = 86_400.0
# A waiting node asks every few seconds; that it still waits is written once a minute.
_PENDING_AGAIN_S: Final = 60.0
_USED_KEPT_S: Final = 30 * 86_400.0

_INSERT_INVITE: Final = insert(_INVITES)
_FORGET_INVITES: Final = delete(_INVITES).where(_INVITES.c.expires_at < bindparam("before"))
_INSERT_NODE = insert(_NODES)
_APPROVE: Final = _INSERT_NODE.on_conflict_do_update(
    index_elements=["peer_id"], set_={"admission": _INSERT_NODE.excluded.admission}
)
_OWN: Final = (
    update(_NODES)
    .where(_NODES.c.peer_id == bindparam("b_peer_id"))
    .values(
        owner=select(_INVITES.c.owner)
        .where(_INVITES.c.token_sha == bindparam("b_token_sha"))
        .scalar_subquery(),
        standing_at=STORE_TIME,
    )
)
_ASK: Final = _INSERT_NODE.on_conflict_do_update(
    index_elements=["peer_id"],
    set_={
        name: _INSERT_NODE.excluded[name]
        for name in ("name", "kid", "public_key", "last_seen", "admission")
    },
)
_WAITING: Final = (_NODES.c.admission == PENDING) & _NODES.c.banned_at.is_(None)


def create_invite(token_sha: str, now: float, expires_at: float, owner: str | None) -> list[Write]:
    """Return the row of a new invitation, and the removal of those that expired long ago."""
    row = {
        "token_sha": token_sha,
        "created_at": now,
        "expires_at": expires_at,
        "owner": owner,
    }
    return [
        Write(_FORGET_INVITES, [{"before": now - _USED_KEPT_S}]),
        Write(_INSERT_INVITE, [row]),
    ]


def all_invites(connection: Connection) -> list[InviteRecord]:
    """Return every invitation that is kept, oldest first."""
    rows = connection.execute(select(_INVITES).order_by(_INVITES.c.created_at))
    return [InviteRecord(**row._mapping) for row in rows]


def revoke_invite(connection: Connection, token_sha: str) -> bool:
    """Remove an invitation; returns whether it was there."""
    return (
        connection.execute(delete(_INVITES).where(_INVITES.c.token_sha == token_sha)).rowcount > 0
    )


def approve(peer_id: str, now: float) -> Write:
    """Return the write that admits a node, also one that has never connected."""
    row = {"name": "", "first_seen": now, "last_seen": now, "admission": APPROVED}
    return Write(_APPROVE, [{"peer_id": peer_id, **row}])


def ask(
    connection: Connection, policy: AdmissionPolicy, applicant: Applicant, now: float
) -> Verdict:
    """Decide on a node and keep the decision, in the caller's transaction.

    An invitation is used up by the node that it admits; it admits no other.
    """
    known = connection.execute(
        select(_NODES).where(_NODES.c.peer_id == applicant.peer_id)
    ).one_or_none()
    if known is not None and known.admission == APPROVED:
        return Verdict.ADMITTED
    verdict = Verdict.WITHOUT_INVITE
    if applicant.token_sha is not None:
        verdict = _use_invite(connection, applicant.token_sha, applicant.peer_id, now)
        if verdict is Verdict.ADMITTED:
            connection.execute(_APPROVE, [_row(applicant, APPROVED, now)])
            whose = {"b_peer_id": applicant.peer_id, "b_token_sha": applicant.token_sha}
            connection.execute(_OWN, whose)
            return verdict
    if policy is AdmissionPolicy.OPEN:
        return Verdict.ADMITTED
    if policy is AdmissionPolicy.MANUAL:
        _wait(connection, applicant, known, now)
        return Verdict.PENDING
    return verdict


def _use_invite(connection: Connection, token_sha: str, peer_id: str, now: float) -> Verdict:
    # Two gateways of a shared store may be shown the same token: one of the updates finds it.
    used = connection.execute(
        update(_INVITES)
        .where(
            _INVITES.c.token_sha == token_sha,
            _INVITES.c.used_at.is_(None),
            _INVITES.c.expires_at > now,
        )
        .values(used_at=now, used_by=peer_id)
    )
    if used.rowcount == 1:
        return Verdict.ADMITTED
    invite = connection.execute(
        select(_INVITES).where(_INVITES.c.token_sha == token_sha)
    ).one_or_none()
    if invite is None:
        return Verdict.UNKNOWN_INVITE
    if invite.used_by == peer_id:
        return Verdict.ADMITTED
    return Verdict.EXPIRED_INVITE if invite.used_by is None else Verdict.USED_INVITE


def _wait(connection: Connection, applicant: Applicant, known: Any, now: float) -> None:
    if (
        known is not None
        and known.admission == PENDING
        and (known.name, known.public_key) == (applicant.name, applicant.public_key)
        and now - known.last_seen < _PENDING_AGAIN_S
    ):
        return
    connection.execute(_ASK, [_row(applicant, PENDING, now)])
    newest = (
        select(_NODES.c.peer_id)
        .where(_WAITING)
        .order_by(_NODES.c.last_seen.desc(), _NODES.c.peer_id)
        .limit(PENDING_MAX)
    )
    connection.execute(
        delete(_NODES).where(
            _WAITING,
            or_(_NODES.c.last_seen < now - _PENDING_FOR_S, _NODES.c.peer_id.not_in(newest)),
        )
    )


def _row(applicant: Applicant, admission: str, now: float) -> dict[str, Any]:
    return {
        "peer_id": applicant.peer_id,
        "name": applicant.name,
        "kid": applicant.kid,
        "public_key": applicant.public_key,
        "first_seen": now,
        "last_seen": now,
        "admission": admission,
    }
