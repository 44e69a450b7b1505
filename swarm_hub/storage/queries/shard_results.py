"""Queries on the results of shards; those that count are the results of a job."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Row, bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert

from swarm_hub.models.shard import ShardResult
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_R = schema.results
_S = schema.shards

_NO_LIMIT: Final = 2**62

# Built once: building a select costs more than running it.
_GET_RESULTS: Final = (
    select(_R)
    .where(_R.c.job_id == bindparam("b_id"), _R.c.counted == 1)
    .order_by(_R.c.first_item)
    .limit(bindparam("b_limit", type_=BigInteger))
)

_GET_RESULTS_PAGE: Final = _GET_RESULTS.where(_R.c.first_item > bindparam("b_after"))
_GET_SPENT: Final = select(
    _R.c.idx, _R.c.node_id, _R.c.sha, _R.c.size_bytes, _R.c.wall_s, _R.c.cpu_s,
    _R.c.peak_memory_bytes, _R.c.fuel, _R.c.stderr,
).where(_R.c.job_id == bindparam("b_id"), _R.c.counted == 1)  # fmt: skip
# By its first item, as the index is.
_GET_OF_SHARD: Final = (
    select(_R)
    .join(_S, (_S.c.job_id == _R.c.job_id) & (_S.c.first_item == _R.c.first_item))
    .where(_S.c.job_id == bindparam("b_id"), _S.c.idx == bindparam("b_index"))
    .where(_R.c.job_id == bindparam("b_id"), _R.c.idx == bindparam("b_index"), _R.c.counted == 1)
)
_GET_OF_SHARDS: Final = (
    select(_R)
    .join(_S, (_S.c.job_id == _R.c.job_id) & (_S.c.first_item == _R.c.first_item))
    .where(_S.c.job_id == bindparam("b_id"), _S.c.idx.in_(bindparam("b_indexes", expanding=True)))
    .where(_R.c.job_id == bindparam("b_id"), _R.c.idx == _S.c.idx, _R.c.counted == 1)
)
_INSERT_RESULT: Final = upsert(_R).on_conflict_do_nothing()


def put(results: Iterable[ShardResult]) -> Write:
    """Return the rows of results; a second one for the same assignment is ignored."""
    return Write(
        _INSERT_RESULT,
        [
            {
                "assignment_id": result.assignment_id,
                "job_id": result.job_id,
                "idx": result.index,
                "first_item": result.first_item,
                "n_items": result.n_items,
                "node_id": result.node_id,
                "sha": result.sha,
                "size_bytes": result.size_bytes,
                "body": result.body,
                "wall_s": result.wall_s,
                "cpu_s": result.cpu_s,
                "peak_memory_bytes": result.peak_memory_bytes,
                "fuel": result.fuel,
                "stderr": result.stderr,
                "counted": int(result.counted),
                "receipt": result.receipt,
            }
            for result in results
        ],
    )


def of_job(connection: Connection, job_id: str, limit: int | None = None) -> list[ShardResult]:
    """Return a job's accepted results in item order."""
    rows = connection.execute(
        _GET_RESULTS, {"b_id": job_id, "b_limit": _NO_LIMIT if limit is None else limit}
    )
    return _as_results(rows)


def page(connection: Connection, job_id: str, after: int, limit: int) -> list[ShardResult]:
    """Return the next of a job's accepted results, those that begin after the item `after`."""
    requested = {"b_id": job_id, "b_after": after, "b_limit": limit}
    return _as_results(connection.execute(_GET_RESULTS_PAGE, requested))


def spent_on(
    connection: Connection, job_id: str, first_items: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Return, by shard, what its accepted attempt used, and the tail of its stderr.

    It is looked for where shards begin: that is in the key of results, their number is not.
    """
    spent = {}
    query = _GET_SPENT.where(_R.c.first_item.in_(first_items))
    for row in connection.execute(query, {"b_id": job_id}):
        fields = dict(row._mapping)
        spent[fields.pop("idx")] = fields
    return spent


def of_shard(connection: Connection, job_id: str, index: int) -> ShardResult | None:
    """Return the accepted result of a shard, None if there is none (yet)."""
    rows = connection.execute(_GET_OF_SHARD, {"b_id": job_id, "b_index": index})
    return next(iter(_as_results(rows)), None)


def of_shards(
    connection: Connection, job_id: str, indexes: Sequence[int]
) -> dict[int, ShardResult]:
    """Return the accepted results of those of these shards that have one, by their index."""
    requested = {"b_id": job_id, "b_indexes": list(indexes)}
    return {each.index: each for each in _as_results(connection.execute(_GET_OF_SHARDS, requested))}


def _as_results(rows: Iterable[Row[Any]]) -> list[ShardResult]:
    return [
        ShardResult(
            row.assignment_id, row.job_id, row.idx, row.first_item, row.n_items, row.node_id,
            row.sha, row.size_bytes, row.body, row.wall_s, row.cpu_s,
            row.peak_memory_bytes, row.fuel, row.stderr,
        )
        for row in rows
    ]  # fmt: skip
