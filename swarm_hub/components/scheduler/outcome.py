"""What the state machine answers: transitions to store, then instructions to carry out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from swarm_hub.models.job import JobState
from swarm_hub.models.shard import Assignment, Shard, job_of


@dataclass(frozen=True, slots=True)
class JobStarted:
    """Transition: queued → running."""

    job_id: str


@dataclass(frozen=True, slots=True)
class ItemsFailed:
    """Items on which the module failed with the same text on some nodes."""

    first_item: int
    n_items: int
    text: str
    node_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Transition to a final state; a completed job still has to be folded."""

    job_id: str
    state: JobState
    failures: tuple[ItemsFailed | str, ...]


@dataclass(frozen=True, slots=True)
class AssignmentOffered:
    """Transition: a new assignment."""

    assignment: Assignment
    n_items: int

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return self.assignment.job_id


@dataclass(frozen=True, slots=True)
class AssignmentChanged:
    """Transition of an assignment, with the reason if there is one."""

    assignment: Assignment
    reason: str | None

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return self.assignment.job_id


@dataclass(frozen=True, slots=True)
class ShardChanged:
    """A shard's new state and the assignment whose result counts."""

    shard: Shard
    accepted: str | None


@dataclass(frozen=True, slots=True)
class Send:
    """Instruction: send an assignment to its node."""

    node_id: str
    assignment: Assignment
    first_item: int
    n_items: int

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return self.assignment.job_id


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Instruction: tell a node that an assignment is no longer wanted."""

    node_id: str
    assignment_id: str

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return job_of(self.assignment_id)


@dataclass(frozen=True, slots=True)
class Preempt:
    """Instruction: have a node run an assignment only while nothing else waits for its slot."""

    node_id: str
    assignment_id: str

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return job_of(self.assignment_id)


@dataclass(slots=True)
class Outcome:
    """The answer to one or several events; `shards` holds the newest state of each shard."""

    transitions: list[JobStarted | JobEnded | AssignmentOffered | AssignmentChanged] = field(
        default_factory=list
    )
    shards: dict[tuple[str, int], ShardChanged] = field(default_factory=dict)
    instructions: list[Send | Withdraw | Preempt] = field(default_factory=list)
    # For the event stream: (shard, reason) returned, (shard, node, text) failed.
    returned: list[tuple[Shard, str]] = field(default_factory=list)
    failures: list[tuple[Shard, str, str]] = field(default_factory=list)
    # Whether others confirmed (True) or contradicted a node's result, by node id.
    judged: list[tuple[str, bool]] = field(default_factory=list)
    # In words, which node is kept from which program.
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    # What the strategy did wrong; the default one has taken over.
    strategy_fault: str | None = None
    # Jobs for which something failed inside the scheduler; the others were handled.
    faults: list[tuple[str, Exception]] = field(default_factory=list)
    # The shard whose result counts, and the one whose result waits for others to confirm it;
    # neither when the result came too late.
    counted: Shard | None = None
    awaiting: Shard | None = None

    def shard_changed(self, shard: Shard, accepted: str | None = None) -> None:
        """Remember the newest state of a shard."""
        self.shards[shard.job_id, shard.index] = ShardChanged(shard, accepted)

    def add(self, other: "Outcome") -> None:
        """Append a later outcome; `counted` and `awaiting` belong to a single event."""
        self.transitions += other.transitions
        self.shards.update(other.shards)
        self.instructions += other.instructions
        self.returned += other.returned
        self.failures += other.failures
        self.judged += other.judged
        self.quarantined += other.quarantined
        self.strategy_fault = self.strategy_fault or other.strategy_fault

    def of(self, wanted: Callable[[str], bool]) -> "Outcome":
        """Return the part that belongs to the jobs whose ids are in `wanted`."""
        return Outcome(
            [each for each in self.transitions if wanted(each.job_id)],
            {place: change for place, change in self.shards.items() if wanted(place[0])},
            [each for each in self.instructions if wanted(each.job_id)],
            [each for each in self.returned if wanted(each[0].job_id)],
            [each for each in self.failures if wanted(each[0].job_id)],
        )

    def job_ids(self) -> set[str]:
        """Return the jobs that rows are written for."""
        return {each.job_id for each in self.transitions} | {job_id for job_id, _ in self.shards}

    def __bool__(self) -> bool:
        return bool(self.transitions or self.shards or self.instructions)
