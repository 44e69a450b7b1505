"""Queries on nodes and their bans."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Double, Integer, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.node import NodeRecord, ProgramSpeed
from swarm_hub.storage import schema
from swarm_hub.storage.queries.leases import STORE_TIME
from swarm_hub.storage.write import Write
from swarm_hub.util.plain import shallow

_T = schema.nodes
_INSERT = insert(_T)
_SEE: Final = _INSERT.on_conflict_do_update(
    index_elements=["peer_id"],
    set_={
        "name": _INSERT.excluded.name,
        "kid": _INSERT.excluded.kid,
        "public_key": _INSERT.excluded.public_key,
        "last_seen": _INSERT.excluded.last_seen,
    },
)
_KNOW: Final = _INSERT.on_conflict_do_nothing()
_BAN: Final = (
    update(_T)
    .where(_T.c.peer_id == bindparam("b_peer_id"))
    .values(
        banned_at=bindparam("b_at"),
        ban_reason=bindparam("b_reason"),
        ban_until=bindparam("b_until"),
    )
)

_PIN: Final = (
    update(_T)
    .where(_T.c.peer_id == bindparam("b_peer_id"))
    .values(kid=bindparam("b_kid"), public_key=bindparam("b_public_key"))
)
_DRAIN: Final = (
    update(_T)
    .where(_T.c.peer_id == bindparam("b_peer_id"))
    .values(drain_reason=bindparam("b_reason"))
)
_LABEL: Final = (
    update(_T).where(_T.c.peer_id == bindparam("b_peer_id")).values(labels=bindparam("b_labels"))
)
# `b_agreed` is 1 or 0, so a result that is contradicted ends the row of agreements.
_JUDGE: Final = (
    update(_T)
    .where(_T.c.peer_id == bindparam("b_peer_id"))
    .values(
        agreements=_T.c.agreements * bindparam("b_agreed", type_=Integer)
        + bindparam("b_agreed", type_=Integer),
        contradictions=_T.c.contradictions + bindparam("b_contradicted", type_=Integer),
        standing_at=STORE_TIME,
    )
)
_JUDGED: Final = select(_T).where(
    # As the index says: of the comparison alone not every planner knows that it implies this.
    _T.c.standing_at.is_not(None),
    _T.c.standing_at > STORE_TIME - bindparam("b_within", type_=Double),
)

_MEASURED: Final = (
    update(_T).where(_T.c.peer_id == bindparam("b_peer_id")).values(speeds=bindparam("b_speeds"))
)


def see(peer_id: str, name: str, kid: str | None, public_key: bytes | None, now: float) -> Write:
    """Return the row of a node that was just admitted."""
    return Write(
        _SEE,
        [
            {
                "peer_id": peer_id,
                "name": name,
                "kid": kid,
                "public_key": public_key,
                "first_seen": now,
                "last_seen": now,
            }
        ],
    )


def pin(peer_id: str, kid: str, public_key: bytes) -> Write:
    """Return the write that binds another key to a node that is known."""
    return Write(_PIN, [{"b_peer_id": peer_id, "b_kid": kid, "b_public_key": public_key}])


def unpin(peer_id: str) -> Write:
    """Return the write by which a node's next hello binds a key anew."""
    return Write(_PIN, [{"b_peer_id": peer_id, "b_kid": None, "b_public_key": None}])


def pinned(connection: Connection, peer_id: str) -> bytes | None:
    """Return the key of a node that was admitted; one that waits for approval has none yet."""
    found = connection.execute(
        select(_T.c.public_key, _T.c.admission).where(_T.c.peer_id == peer_id)
    )
    row = found.one_or_none()
    return None if row is None or row.admission == "pending" else row.public_key


def ban(peer_id: str, reason: str, now: float, until: float | None) -> list[Write]:
    """Return the writes that ban a node, also one that was never admitted."""
    known = {"peer_id": peer_id, "name": "", "first_seen": now, "last_seen": now}
    row = {"b_peer_id": peer_id, "b_at": now, "b_reason": reason, "b_until": until}
    return [Write(_KNOW, [known]), Write(_BAN, [row])]


def unban(peer_id: str) -> Write:
    """Return the write that lifts a ban."""
    return Write(_BAN, [{"b_peer_id": peer_id, "b_at": None, "b_reason": None, "b_until": None}])


def drain(peer_id: str, reason: str | None) -> Write:
    """Return the write that keeps a node from getting work; None gives it work again."""
    return Write(_DRAIN, [{"b_peer_id": peer_id, "b_reason": reason}])


def label(peer_id: str, labels: Mapping[str, str]) -> Write:
    """Return the write of the labels that a node is given; they replace those given before."""
    text = json.dumps(dict(labels), separators=(",", ":")) if labels else None
    return Write(_LABEL, [{"b_peer_id": peer_id, "b_labels": text}])


def judge(judged: Sequence[tuple[str, bool]]) -> Write:
    """Return the write that counts results which others confirmed (True) or contradicted."""
    return Write(
        _JUDGE,
        [
            {"b_peer_id": peer_id, "b_agreed": int(agreed), "b_contradicted": int(not agreed)}
            for peer_id, agreed in judged
        ],
    )


def measured(peer_id: str, speeds: Sequence[ProgramSpeed]) -> Write:
    """Return the write that notes how fast a node runs each program."""
    text = json.dumps([shallow(each) for each in speeds], separators=(",", ":"))
    return Write(_MEASURED, [{"b_peer_id": peer_id, "b_speeds": text}])


def get(connection: Connection, peer_id: str) -> NodeRecord | None:
    """Return a node, None if it was never admitted or banned."""
    row = connection.execute(select(_T).where(_T.c.peer_id == peer_id)).one_or_none()
    return None if row is None else NodeRecord(**row._mapping)


def names_of(connection: Connection, peer_ids: Collection[str]) -> dict[str, str]:
    """Return the names of the nodes that are known, by their ids."""
    rows = connection.execute(select(_T.c.peer_id, _T.c.name).where(_T.c.peer_id.in_(peer_ids)))
    return {row.peer_id: row.name for row in rows}


def judged(connection: Connection, within_s: float) -> list[NodeRecord]:
    """Return the nodes whose owner or standing was written so short a time ago."""
    rows = connection.execute(_JUDGED, {"b_within": within_s})
    return [NodeRecord(**row._mapping) for row in rows]


def bans_of(connection: Connection, peer_ids: Collection[str]) -> list[NodeRecord]:
    """Return those of these nodes that are banned."""
    query = select(_T).where(_T.c.peer_id.in_(peer_ids), _T.c.banned_at.is_not(None))
    return [NodeRecord(**row._mapping) for row in connection.execute(query)]


def all_nodes(connection: Connection) -> list[NodeRecord]:
    """Return every node ever admitted or banned."""
    rows = connection.execute(select(_T).order_by(_T.c.first_seen))
    return [NodeRecord(**row._mapping) for row in rows]
