"""The story of each job in the log: who submitted it, when it began, how and why it ended.

One line each, and a bounded number of lines: a gateway that takes 1,000 small jobs a second must
not spend its time on its log, nor fill a disk with it. What goes beyond is counted, and all of it
is in the store (`swarm-hub job show`, `/jobs/{id}/story`) and at the level `debug`, which also has
what happens to single shards.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.core import Hub
from swarm_hub.models.event import CommittedEvents, EventType, NewEvent
from swarm_hub.models.job import Job
from swarm_hub.util.bounds import shown
from swarm_hub.util.token_bucket import TokenBucket

_LOGGER = logging.getLogger(__name__)

_LINES_PER_S: Final = 5.0
# Few jobs at once are told whole.
_AT_ONCE_S: Final = 20.0
_ENDS: Final = {
    EventType.JOB_COMPLETED: "completed",
    EventType.JOB_FAILED: "failed",
    EventType.JOB_CANCELLED: "was cancelled",
}


class JobStory:
    """Tells what happens to the jobs of this gateway."""

    def __init__(self, hub: Hub, dispatcher: Dispatcher, cancelled_by: dict[str, str]) -> None:
        self._dispatcher = dispatcher
        self._cancelled_by = cancelled_by
        self._monotonic = hub.clock.monotonic
        self._lines = TokenBucket(_LINES_PER_S, _AT_ONCE_S, self._monotonic())
        self._n_left_out = 0
        hub.bus.listen(CommittedEvents, self._on_committed)

    def _on_committed(self, committed: CommittedEvents) -> None:
        for event in committed.events:
            self._on_event(event, committed.time_fired)

    def _on_event(self, event: NewEvent, at: float) -> None:
        tell = _TOLD.get(event.event_type)
        of_shard = event.event_type in _OF_SHARDS
        if tell is None or not _LOGGER.isEnabledFor(logging.DEBUG if of_shard else logging.INFO):
            return
        job = self._dispatcher.job(event.job_id or "")
        if job is None:
            return
        level = logging.DEBUG if of_shard else self._level()
        if _LOGGER.isEnabledFor(level):
            _LOGGER.log(level, "Job %s %s%s", job.id, tell(job, event, at), self._by(job.id, event))

    def _by(self, job_id: str, event: NewEvent) -> str:
        was_cancelled = event.event_type is EventType.JOB_CANCELLED
        by = self._cancelled_by.pop(job_id, None) if was_cancelled else None
        return "" if by is None else f", by {shown(by)}"

    def _level(self) -> int:
        now = self._monotonic()
        if self._lines.debt_s(now) > 0:
            self._n_left_out += 1
            return logging.DEBUG
        self._lines.take(1, now)
        if self._n_left_out:
            _LOGGER.info(
                "%d lines of jobs were left out: more than %g a second (the level debug has all)",
                self._n_left_out, _LINES_PER_S,
            )  # fmt: skip
            self._n_left_out = 0
        return logging.INFO


# Of these a job may have as many as items.
_OF_SHARDS: Final = frozenset({EventType.SHARD_RETURNED, EventType.SHARD_FAILED})


def _queued(job: Job, _event: NewEvent, _at: float) -> str:
    return f"of {shown(job.owner)} was submitted: {job.n_items} items"


def _running(job: Job, _event: NewEvent, at: float) -> str:
    return f"runs, after {at - job.created_at:.3g} s"


def _returned(_job: Job, event: NewEvent, _at: float) -> str:
    return f"tries shard {event.data['index']} again: {shown(event.data['reason'])}"


def _failed(_job: Job, event: NewEvent, _at: float) -> str:
    data = event.data
    return f"failed in shard {data['index']} on {data['node_id']}: {shown(data['message'])}"


def _ended(job: Job, event: NewEvent, at: float) -> str:
    data = event.data
    why = f": {shown(data['failures'][0])}" if data["failures"] else ""
    return (
        f"{_ENDS[event.event_type]} after {at - job.created_at:.3g} s, "
        f"{data['shards']} shards, {data['retries']} tried again{why}"
    )


_TOLD: Final[dict[EventType, Callable[[Job, NewEvent, float], Any]]] = {
    EventType.JOB_QUEUED: _queued,
    EventType.JOB_RUNNING: _running,
    EventType.SHARD_RETURNED: _returned,
    EventType.SHARD_FAILED: _failed,
    **dict.fromkeys(_ENDS, _ended),
}
