"""Statements about result blobs: the large results of jobs, and of shards on their way."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from swarm_hub.storage import schema

_J = schema.jobs
_B = schema.blobs
_OUT = schema.outbox


def result_blobs(connection: Connection, limit: int) -> set[str]:
    """Return the hashes of this store's newest result blobs: of jobs, then of an outbox."""
    of_jobs = (
        select(_J.c.result_sha)
        .where(_J.c.result_inline.is_(None), _J.c.result_sha.is_not(None))
        .order_by(_J.c.finished_at.desc())
        .limit(limit)
    )
    waiting = (
        select(_OUT.c.sha)
        .where(_OUT.c.body.is_(None))
        .order_by(_OUT.c.created_at.desc())
        .limit(limit)
    )
    found: Iterable[str] = [
        *connection.execute(of_jobs).scalars(),
        *connection.execute(waiting).scalars(),
    ]
    return set(list(dict.fromkeys(found))[:limit])


def result_size(connection: Connection, sha: str) -> int | None:
    """Return the size of a result blob, None if this store has no result of that hash."""
    size: int | None = connection.execute(
        select(_B.c.size_bytes).where(_B.c.sha == sha, _is_result(sha))
    ).scalar_one_or_none()
    return size


def _is_result(sha: str) -> ColumnElement[bool]:
    return or_(
        exists().where(_J.c.result_sha == sha, _J.c.result_inline.is_(None)),
        exists().where(_OUT.c.sha == sha, _OUT.c.body.is_(None)),
    )
