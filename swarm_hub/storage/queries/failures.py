"""The items of a job on which its module failed, and did not give a result since."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Connection, bindparam, exists, func, select, text

from swarm_hub.models.shard import AssignmentState, Shard
from swarm_hub.storage import schema
from swarm_hub.storage.queries.jobs import SHARD_COLUMNS, as_shards

_A = schema.assignments
_S = schema.shards

# Of one shard; a job whose items may not be skipped yet tries them again and again.
_ATTEMPTS_MAX: Final = 50

_IS_FAILURE: Final = (_A.c.state == AssignmentState.FINISHED.value) & _A.c.reason.is_not(None)
# One for each partial index, whose condition is a literal; those of a shard that was split are in
# later ones.
_PAGES: Final = tuple(
    select(*SHARD_COLUMNS)
    .with_hint(_S, f"INDEXED BY {index}", "sqlite")
    .where(
        _S.c.job_id == bindparam("b_id"),
        text(f"shards.state IN {states}"),
        _S.c.first_item > bindparam("b_after", type_=BigInteger),
        exists().where(_A.c.job_id == _S.c.job_id, _A.c.idx == _S.c.idx, _IS_FAILURE),
    )
    .order_by(_S.c.first_item)
    .limit(bindparam("b_limit"))
    for index, states in (
        ("shards_open", "('queued', 'assigned')"),
        ("shards_given_up", "('skipped', 'dead', 'cancelled')"),
    )
)
_OF_SHARD: Final = (
    select(_A.c.node_id, _A.c.reason, func.count().over().label("n_failures"))
    .where(_A.c.job_id == bindparam("b_id"), _A.c.idx == bindparam("b_idx"), _IS_FAILURE)
    .order_by(_A.c.attempt.desc())
    .limit(_ATTEMPTS_MAX)
)


@dataclass(frozen=True, slots=True)
class FailedShard:
    """A shard without a result whose attempts failed `n_failures` times.

    `failures` are the newest of them as (node id, reason), the newest first.
    """

    shard: Shard
    failures: tuple[tuple[str, str], ...]
    n_failures: int


def page(connection: Connection, job_id: str, after: int, limit: int) -> list[FailedShard]:
    """Return up to `limit` such shards in item order, those that begin after the item `after`."""
    given = {"b_id": job_id, "b_after": after, "b_limit": limit}
    found = [row for query in _PAGES for row in connection.execute(query, given)]
    shards = sorted(as_shards(found), key=lambda shard: shard.first_item)
    return [_failed(connection, shard) for shard in shards[:limit]]


def _failed(connection: Connection, shard: Shard) -> FailedShard:
    given = {"b_id": shard.job_id, "b_idx": shard.index}
    rows = connection.execute(_OF_SHARD, given).all()
    failures = tuple((row.node_id, row.reason) for row in rows)
    return FailedShard(shard, failures, rows[0].n_failures)
