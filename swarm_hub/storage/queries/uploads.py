"""Statements about blobs that their owners uploaded before the jobs that name them."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, and_, bindparam, delete, exists, or_, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_U = schema.uploads
_J = schema.jobs
_INSERT = insert(_U)
_KEEP: Final = _INSERT.on_conflict_do_update(
    index_elements=["owner", "sha"], set_={"expires_at": _INSERT.excluded.expires_at}
)
_FORGET: Final = delete(_U).where(
    _U.c.owner == bindparam("b_owner"), _U.c.sha == bindparam("b_sha")
)
_EXPIRE: Final = delete(_U).where(_U.c.expires_at < bindparam("b_now"))


@dataclass(frozen=True, slots=True)
class Upload:
    """A whole blob that an owner uploaded; it is kept until `expires_at` at least."""

    sha: str
    size_bytes: int
    expires_at: float


def keep(owner: str, sha: str, size_bytes: int, expires_at: float) -> Write:
    """Return the write that notes an upload, or keeps a noted one for longer."""
    row = {"owner": owner, "sha": sha, "size_bytes": size_bytes, "expires_at": expires_at}
    return Write(_KEEP, [row])


def forget(owner: str, sha: str) -> Write:
    """Return the write that forgets an upload; its blob stays while jobs need it."""
    return Write(_FORGET, [{"b_owner": owner, "b_sha": sha}])


def expire(now: float) -> Write:
    """Return the write that forgets the uploads whose time is over."""
    return Write(_EXPIRE, [{"b_now": now}])


def any_expired(connection: Connection, now: float) -> bool:
    """Return whether there is an upload whose time is over."""
    query = select(_U.c.sha).where(_U.c.expires_at < now).limit(1)
    return connection.execute(query).first() is not None


def find(connection: Connection, owner: str, sha: str) -> Upload | None:
    """Return an owner's upload, None if there is none."""
    query = select(_U.c.sha, _U.c.size_bytes, _U.c.expires_at)
    row = connection.execute(query.where(_U.c.owner == owner, _U.c.sha == sha)).one_or_none()
    return None if row is None else Upload(*row)


def of_owner(connection: Connection, owner: str) -> list[Upload]:
    """Return an owner's uploads, those that go first at the front."""
    query = select(_U.c.sha, _U.c.size_bytes, _U.c.expires_at).where(_U.c.owner == owner)
    rows = connection.execute(query.order_by(_U.c.expires_at, _U.c.sha))
    return [Upload(*row) for row in rows]


def is_of_a_job(connection: Connection, owner: str, sha: str) -> bool:
    """Return whether a job of the owner has a module, a dataset or a large result of that hash."""
    of_a_job = or_(
        exists().where(_J.c.module_sha == sha, _J.c.owner == owner),
        exists().where(_J.c.dataset_sha == sha, _J.c.owner == owner),
        exists().where(
            and_(_J.c.result_sha == sha, _J.c.result_inline.is_(None), _J.c.owner == owner)
        ),
    )
    return bool(connection.execute(select(of_a_job)).scalar_one())
