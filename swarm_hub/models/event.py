"""Events that dashboards follow: durable ones carry a sequence number that never repeats."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypedDict

from swarm_hub.util.clock import isoformat


class EventType(StrEnum):
    """Every durable event there is."""

    JOB_QUEUED = "job_queued"
    JOB_RUNNING = "job_running"
    JOB_CHANGED = "job_changed"
    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"
    JOB_PRUNED = "job_pruned"
    SHARD_ASSIGNED = "shard_assigned"
    SHARD_DONE = "shard_done"
    SHARD_RETURNED = "shard_returned"
    SHARD_FAILED = "shard_failed"
    NODE_UP = "node_up"
    NODE_DOWN = "node_down"
    NODE_BANNED = "node_banned"
    NODE_UNBANNED = "node_unbanned"
    NETWORK_BANNED = "network_banned"
    NETWORK_UNBANNED = "network_unbanned"
    NODE_DRAINED = "node_drained"
    NODE_UNDRAINED = "node_undrained"
    NODE_LABELLED = "node_labelled"
    COMPONENT_FAILED = "component_failed"
    CONFIGURATION_RELOADED = "configuration_reloaded"
    CONFIGURATION_REFUSED = "configuration_refused"
    AUTOMATION_NOTIFIED = "automation_notified"


# One of these is the last of a job's, but for its removal.
ENDS_OF_JOBS: Final = (EventType.JOB_COMPLETED, EventType.JOB_FAILED, EventType.JOB_CANCELLED)
# After one of these nothing follows for who follows a job; the last outlives the job's others.
LAST_OF_JOBS: Final = (*ENDS_OF_JOBS, EventType.JOB_PRUNED)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A durable event on its way into the store; `data` is JSON-serialisable."""

    event_type: EventType
    data: dict[str, Any]
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class CommittedEvents:
    """Events that this hub has just committed, fired on the bus before those who wait for it go on.

    On a store of its own they come with their numbers at that moment, too. On one that gateways
    share they do a little later, in between those of the others.
    """

    time_fired: float
    events: Sequence[NewEvent]


class EventShape(TypedDict):
    """A durable event as clients see it."""

    seq: int
    event_type: str
    time_fired: str
    data: dict[str, Any]


class PassingShape(TypedDict):
    """A passing event as clients see it."""

    event_type: str
    time_fired: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """A committed event; fired on the bus in the order of its `seq`."""

    seq: int
    event_type: EventType
    time_fired: float
    data: dict[str, Any]
    job_id: str | None = None

    def shape(self) -> EventShape:
        """Return the event as clients see it."""
        return {
            "seq": self.seq,
            "event_type": self.event_type.value,
            "time_fired": isoformat(self.time_fired),
            "data": self.data,
        }


@dataclass(frozen=True, slots=True)
class EphemeralEvent:
    """A passing event (`telemetry`, `job_progress`): without `seq`, not kept, may be dropped."""

    event_type: str
    data: dict[str, Any]

    def shape(self, at: float) -> PassingShape:
        """Return the event as clients see it, fired at a time."""
        return {"event_type": self.event_type, "time_fired": isoformat(at), "data": self.data}
