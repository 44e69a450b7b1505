"""What the state machine is told; each is a value, so that a sequence can be kept and replayed."""

from dataclasses import dataclass

from swarm_hub.components.scheduler.entries import JobPlan
from swarm_hub.components.scheduler.nodes import NodeChange


@dataclass(frozen=True, slots=True)
class JobAdded:
    """A new job, or one from before a restart with its shards and assignments.

    The deadlines of assignments in flight are set anew: their nodes have `reconnect_s` to come
    back. A node that is already connected, as when another gateway's job is adopted, is sent them
    at once.
    """

    plan: JobPlan
    reconnect_s: float = 0.0


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The job's owner gave it another priority, or another time by which it must be done."""

    job_id: str
    priority: int
    deadline_in_s: float | None


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """The job's owner no longer wants it."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobAborted:
    """The job can't go on, for a reason that isn't any node's fault."""

    job_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node disconnected; what it finished may still arrive."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """Another gateway judged a node: its confirmed results in a row, and the contradicted ones."""

    node_id: str
    agreements: int
    contradictions: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node has an assignment on its disk."""

    assignment_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A node gives an assignment back, not the module's fault; `lacks` names missing features."""

    assignment_id: str
    reason: str
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Failed:
    """The module failed on a node, after that many seconds if the node tells how long it ran."""

    assignment_id: str
    text: str
    wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A result arrived: its hash, and the seconds it took on the node."""

    assignment_id: str
    wall_s: float
    sha: str = ""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Deadlines may have passed."""


Event = (
    JobAdded
    | JobChanged
    | JobCancelled
    | JobAborted
    | NodeChange
    | NodeLost
    | StandingChanged
    | Accepted
    | Rejected
    | Failed
    | Finished
    | TimePassed
)
