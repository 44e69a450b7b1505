"""What the gateway tells of jobs and shards: counted as they happen, gathered when asked for."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.scheduler import StateMachine
from swarm_hub.core import Hub
from swarm_hub.models.event import (
    ENDS_OF_JOBS,
    CommittedEvents,
    DurableEvent,
    EventType,
    NewEvent,
)
from swarm_hub.models.job import JobState
from swarm_hub.models.shard import ShardState
from swarm_hub.util.metrics import Histogram, Metric, MetricKind, by_label, gauge, histogram


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How many jobs are queued and run, and how many of their shards wait and are assigned."""

    queued: int = 0
    running: int = 0
    shards_queued: int = 0
    shards_assigned: int = 0


class JobMetrics:
    """Counts the events of jobs, and how long each stage took.

    On a store that gateways share the events are those of all, the times those of its own jobs.
    """

    def __init__(
        self, hub: Hub, dispatcher: Dispatcher, machine: StateMachine, fleet: Fleet
    ) -> None:
        self._dispatcher = dispatcher
        self._machine = machine
        self._fleet = fleet
        self._events: Counter[EventType] = Counter()
        self._stages = {stage: Histogram() for stage in ("queued", "running", "total")}
        self._shard_s = Histogram()
        self._n_items = 0
        hub.bus.listen(DurableEvent, self._on_event)
        hub.bus.listen(CommittedEvents, self._on_committed)
        hub.endpoints.add_metrics(self._read)

    def _on_event(self, event: DurableEvent) -> None:
        kind = event.event_type
        self._events[kind] += 1
        if kind is EventType.SHARD_DONE:
            self._shard_s.observe(event.data["wall_s"])
            self._n_items += event.data["n_items"]

    def _on_committed(self, committed: CommittedEvents) -> None:
        for event in committed.events:
            if event.event_type is EventType.JOB_RUNNING or event.event_type in ENDS_OF_JOBS:
                self._note_times(event, committed.time_fired)

    def _note_times(self, event: NewEvent, at: float) -> None:
        # A job is forgotten only after its last event was committed.
        job = self._dispatcher.job(event.job_id or "")
        if job is None:
            return
        if event.event_type is EventType.JOB_RUNNING:
            self._stages["queued"].observe(at - job.created_at)
            return
        self._stages["total"].observe(at - job.created_at)
        if job.started_at is not None:
            self._stages["running"].observe(at - job.started_at)

    def done(self) -> tuple[int, int]:
        """Return how many shards were done since the start, and how many items were in them."""
        return self._events[EventType.SHARD_DONE], self._n_items

    def unfinished(self) -> Unfinished:
        """Return how much is to be done."""
        jobs = dict.fromkeys((JobState.QUEUED, JobState.RUNNING), 0)
        queued = assigned = 0
        for job in filter(None, map(self._machine.job, self._machine.job_ids())):
            if not job.ended:
                jobs[job.state] += 1
                queued += len(job.wanting)
                assigned += len(job.shards) - len(job.wanting)
        return Unfinished(jobs[JobState.QUEUED], jobs[JobState.RUNNING], queued, assigned)

    def _read(self) -> Iterable[Metric]:
        found = self.unfinished()
        jobs = {JobState.QUEUED.value: found.queued, JobState.RUNNING.value: found.running}
        shards = {
            ShardState.QUEUED.value: found.shards_queued,
            ShardState.ASSIGNED.value: found.shards_assigned,
        }
        fleet = self._fleet.counts()
        return (
            by_label(
                "swarm_hub_jobs", MetricKind.GAUGE, "Unfinished jobs by state.", "state", jobs
            ),
            by_label(
                "swarm_hub_shards", MetricKind.GAUGE, "Shards of unfinished jobs that were cut "
                "and are not done, by state.", "state", shards,
            ),
            by_label(
                "swarm_hub_events_total", MetricKind.COUNTER, "Durable events by type.", "type",
                {kind.value: self._events[kind] for kind in EventType},
            ),
            by_label(
                "swarm_hub_job_seconds", MetricKind.HISTOGRAM, "How long jobs were queued, ran, "
                "and took from their submission to their end.", "stage", self._stages,
            ),
            histogram(
                "swarm_hub_shard_wall_seconds", "How long the counted results of shards took on "
                "their nodes.", self._shard_s,
            ),
            gauge("swarm_hub_nodes", "Connected nodes.", fleet["nodes"]),
            gauge("swarm_hub_slots", "Slots of the connected nodes.", fleet["slots"]),
        )  # fmt: skip
