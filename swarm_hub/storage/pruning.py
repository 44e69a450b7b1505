"""Statements that remove finished jobs, and blobs that nothing refers to."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_J = schema.jobs
_S = schema.shards
_A = schema.assignments
_R = schema.results
_B = schema.blobs

_PRUNE: Final = tuple(
    delete(table).where(column == bindparam("b_id"))
    for table, column in (
        (_R, _R.c.job_id), (_A, _A.c.job_id), (_S, _S.c.job_id), (_J, _J.c.id),
    )
)  # fmt: skip
_DROP_BLOB: Final = delete(_B).where(
    _B.c.sha == bindparam("b_sha"), _B.c.last_ref < bindparam("b_before")
)
_ENTOMB: Final = insert(schema.tombstones).on_conflict_do_nothing()


def prunable(
    connection: Connection, read_before: float, finished_before: float, limit: int
) -> list[str]:
    """Return finished jobs whose result was read, or which ended, long enough ago."""
    rows = connection.execute(
        select(_J.c.id)
        .where(
            _J.c.finished_at.is_not(None),
            (_J.c.read_at < read_before) | (_J.c.finished_at < finished_before),
        )
        .order_by(_J.c.finished_at)
        .limit(limit)
    )
    return list(rows.scalars())


def prune(job_ids: Sequence[str], now: float) -> list[Write]:
    """Return the writes that remove finished jobs and leave their tombstones."""
    rows = [{"b_id": job_id} for job_id in job_ids]
    return [
        Write(_ENTOMB, [{"job_id": job_id, "pruned_at": now} for job_id in job_ids]),
        *(Write(statement, rows) for statement in _PRUNE),
    ]


def unreferenced_blobs(connection: Connection, unused_since: float, limit: int) -> list[str]:
    """Return blobs that nothing refers to and nothing has touched since that time."""
    used = select(_J.c.module_sha).union_all(
        select(_J.c.dataset_sha),
        select(_J.c.result_sha).where(_J.c.result_sha.is_not(None)),
        select(_R.c.sha).where(_R.c.body.is_(None)),
        select(schema.outbox.c.sha).where(schema.outbox.c.body.is_(None)),
        select(schema.inbox.c.input_sha).where(schema.inbox.c.input.is_(None)),
    )
    rows = connection.execute(
        select(_B.c.sha).where(_B.c.last_ref < unused_since, _B.c.sha.not_in(used)).limit(limit)
    )
    return list(rows.scalars())


def blob_files(connection: Connection) -> set[str]:
    """Return the hashes of the blobs that are files."""
    return set(connection.execute(select(_B.c.sha).where(_B.c.body.is_(None))).scalars())


def drop_blobs(shas: Sequence[str], unused_since: float) -> Write:
    """Return the removal of blob rows still untouched since then; files go after the commit."""
    return Write(_DROP_BLOB, [{"b_sha": sha, "b_before": unused_since} for sha in shas])
