"""How jobs end: the row and the event of an end; pure."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from swarm_hub.components.gateway.results.failure_texts import LINE_MAX_CHARS
from swarm_hub.components.scheduler import JobEnded, JobEntry
from swarm_hub.exceptions import HubError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import JobState
from swarm_hub.models.shard import Cutting
from swarm_hub.storage.queries.jobs import Finish

_ENDED: Final = {
    JobState.COMPLETED: EventType.JOB_COMPLETED,
    JobState.FAILED: EventType.JOB_FAILED,
    JobState.CANCELLED: EventType.JOB_CANCELLED,
}


def ended(finish: Finish) -> NewEvent:
    """Return the event of a job's end."""
    data = {
        "job_id": finish.job_id,
        "shards": finish.n_shards,
        "retries": finish.n_retries,
        "failures": list(finish.failures),
    }
    return NewEvent(_ENDED[finish.state], data, finish.job_id)


def unfolded(end: JobEnded, entry: JobEntry | None, now: float) -> Finish:
    """Return how a job ended, without its result and without its failures in words."""
    assert entry is not None
    return Finish(
        end.job_id, end.state, now, (), None, None, None,
        entry.n_cut, entry.n_retries, entry.n_done_items, entry.n_done_shards,
        entry.n_failed_items,
    )  # fmt: skip


def with_failures(finishes: Iterable[Finish], told: Mapping[str, tuple[str, ...]]) -> list[Finish]:
    """Return how jobs ended, with the failures that were told of some of them, by id."""
    return [
        dataclasses.replace(each, failures=told.get(each.job_id, each.failures))
        for each in finishes
    ]


def internal(job_id: str, error: Exception, cutting: Cutting, now: float) -> Finish:
    """Return the end of a job that the hub can't handle, which is a fault of the hub."""
    failure = f"internal: {type(error).__name__}: {error}"[:LINE_MAX_CHARS]
    return Finish(
        job_id, JobState.FAILED, now, (failure,), None, None, None,
        cutting.n_shards, cutting.n_retries, cutting.n_done_items, cutting.n_done_shards,
    )  # fmt: skip


def fold_failed(base: Finish, error: HubError) -> Finish:
    """Return the end of a job whose results can't be folded."""
    return dataclasses.replace(base, state=JobState.FAILED, failures=(str(error),))
