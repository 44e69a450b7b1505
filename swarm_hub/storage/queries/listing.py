"""Pages of jobs and of a job's shards, of those alone that are asked for.

There is no index for each thing that can be asked: a page looks at so many rows at most, and leads
to the next one whether it has found anything or not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from ulid_transform import ulid_at_time

from swarm_hub.models.job import Job, JobState
from swarm_hub.models.shard import Shard, ShardState
from swarm_hub.storage import schema
from swarm_hub.storage.queries.jobs import SHARD_COLUMNS, as_job, as_shards

_A = schema.assignments
_J = schema.jobs
_S = schema.shards

# Of one page.
LOOKED_AT_MAX: Final = 20_000
_CHECKED_AT_ONCE: Final = 100
_ROUNDS: Final = 10
# The characters of a ULID that are its time.
_TIME_CHARS: Final = 10
_GIVEN_UP: Final = frozenset({JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; what is left out does not matter.

    `owners` are those of whom each has to be the owner: the one who asks, and the one asked for.
    `text` is in the id, the name or the value of a label, whatever the case of ASCII's letters.
    """

    states: frozenset[JobState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    owners: frozenset[str] = frozenset()
    submitted_since: float | None = None
    text: str = ""

    def fits(self, job: Job) -> bool:
        """Whether a job that the database has found has the labels and the text."""
        labels = dict(job.spec.labels)
        if any(labels.get(name) != value for name, value in self.labels.items()):
            return False
        words = (job.id, job.spec.name or "", *labels.values())
        return not self.text or any(self.text.lower() in word.lower() for word in words)

    def earliest(self) -> str | None:
        """Return what the ids of the jobs begin with at least, None for any."""
        if self.submitted_since is None:
            return None
        # Ids begin with the time at which they were made.
        return ulid_at_time(max(0.0, self.submitted_since))[:_TIME_CHARS]

    def place(self) -> list[ColumnElement[bool]]:
        """Return the conditions that an index knows."""
        found: list[ColumnElement[bool]] = []
        if self.states and not any(state.finished for state in self.states):
            found.append(_J.c.finished_at.is_(None))
        if self.states and self.states <= _GIVEN_UP:
            found.append(literal_column("state IN ('failed', 'cancelled')"))
        return found

    def rest(self) -> list[ColumnElement[bool]]:
        """Return conditions on rows that are looked at; they let pass some that do not fit."""
        found: list[ColumnElement[bool]] = [_J.c.owner == owner for owner in self.owners]
        if self.states:
            found.append(_J.c.state.in_(sorted(self.states)))
        found += [_J.c.spec.contains(_as_stored(pair), autoescape=True) for pair in self._pairs()]
        if self.text:
            in_spec = _as_stored(self.text)[1:-1]
            wanted = (
                each.icontains(words, autoescape=True)
                for each, words in ((_J.c.id, self.text), (_J.c.spec, in_spec))
            )
            found.append(or_(*wanted))
        return found

    def _pairs(self) -> list[list[str]]:
        return [[name, value] for name, value in self.labels.items()]


def page(
    connection: Connection, wanted: JobFilter, before: str | None, limit: int
) -> tuple[list[Job], str | None]:
    """Return up to `limit` jobs older than `before`, newest first, and a cursor.

    The next are older than that; it is None at the end. A page may have few jobs, or none, and not
    be the last.
    """
    newest_first, place, rest = _J.c.id.desc(), wanted.place(), wanted.rest()
    earliest, last = wanted.earliest(), None

    def between(query: Select[Any], before: str | None) -> Select[Any]:
        # One bound on each side: of two SQLite may begin at the wider one.
        if earliest is not None:
            query = query.where(_J.c.id >= earliest)
        if before is not None:
            query = query.where(_J.c.id < before)
        return query.where(*place).order_by(newest_first)

    if rest:
        looked_at = between(select(_J.c.id), before).offset(LOOKED_AT_MAX - 1).limit(1)
        if (last := connection.execute(looked_at).scalar_one_or_none()) is not None:
            earliest = last
    # Of what the database finds some may not fit.
    at_once = max(limit, _CHECKED_AT_ONCE) if wanted.labels or wanted.text else limit
    fitting: list[Job] = []
    for _ in range(_ROUNDS):
        query = between(select(_J), before).where(*rest).limit(at_once)
        found = [as_job(row) for row in connection.execute(query)]
        fitting += filter(wanted.fits, found)
        if len(fitting) >= limit:
            return fitting[:limit], fitting[limit - 1].id
        if len(found) < at_once:
            return fitting, last
        before = found[-1].id
    return fitting, before


def shards(
    connection: Connection,
    job_id: str,
    states: frozenset[ShardState],
    node_id: str | None,
    after: int,
    limit: int,
) -> tuple[list[Shard], int | None]:
    """Return up to `limit` shards after one, in the order of cutting, and what the next are after.

    With `states` those in one of them, with `node_id` those that this node was given. The cursor is
    as that of jobs.
    """
    last = connection.execute(select(func.max(_S.c.idx)).where(_S.c.job_id == job_id)).scalar_one()
    upto = after + LOOKED_AT_MAX
    wanted: list[ColumnElement[bool]] = [_S.c.job_id == job_id, _S.c.idx > after, _S.c.idx <= upto]
    if states:
        wanted.append(_S.c.state.in_(sorted(states)))
    if node_id is not None:
        given = and_(_A.c.job_id == _S.c.job_id, _A.c.idx == _S.c.idx, _A.c.node_id == node_id)
        wanted.append(exists().where(given))
    query = select(*SHARD_COLUMNS).where(*wanted).order_by(_S.c.idx).limit(limit)
    rows: list[Row[Any]] = list(connection.execute(query))
    found = as_shards(rows)
    at = found[-1].index if len(found) == limit else upto
    return found, None if last is None or at >= last else at


def _as_stored(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
