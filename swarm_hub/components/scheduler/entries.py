"""What the state machine remembers of jobs, shards, assignments and nodes; pure.

`SHARD_MOVES` and `ASSIGNMENT_MOVES` are the only transitions there are.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from swarm_hub.components.scheduler.strategy import NodeView
from swarm_hub.models.node import Telemetry
from swarm_hub.models.shard import Assignment, AssignmentState, Cutting, Shard, ShardState

SHARD_MOVES: Final = frozenset(
    {
        (ShardState.QUEUED, ShardState.ASSIGNED),
        (ShardState.QUEUED, ShardState.DEAD),
        (ShardState.QUEUED, ShardState.CANCELLED),
        (ShardState.ASSIGNED, ShardState.QUEUED),
        (ShardState.ASSIGNED, ShardState.DONE),
        (ShardState.ASSIGNED, ShardState.DEAD),
        (ShardState.ASSIGNED, ShardState.CANCELLED),
    }
)
_LIVE: Final = (AssignmentState.OFFERED, AssignmentState.ACCEPTED, AssignmentState.EXPIRED)
ASSIGNMENT_MOVES: Final = frozenset(
    {
        (AssignmentState.OFFERED, AssignmentState.ACCEPTED),
        (AssignmentState.OFFERED, AssignmentState.REJECTED),
        (AssignmentState.ACCEPTED, AssignmentState.REJECTED),
        (AssignmentState.OFFERED, AssignmentState.EXPIRED),
        (AssignmentState.ACCEPTED, AssignmentState.EXPIRED),
        *((live, AssignmentState.FINISHED) for live in _LIVE),
        *((live, AssignmentState.SUPERSEDED) for live in _LIVE),
        *((live, AssignmentState.CANCELLED) for live in _LIVE),
    }
)

# Queued ahead of a node's slots: this much work by measured time, so that small shards keep the
# node busy between messages and a slow node holds little that others could do.
_AHEAD_S: Final = 0.25
_AHEAD_PER_SLOT_MAX: Final = 256
_AHEAD_UNMEASURED: Final = 1
# The smoothing factor of the moving averages (facts: 0.5 was the best of those tried).
_EWMA_ALPHA: Final = 0.5
_STORY_MAX: Final = 20


class ImpossibleTransitionError(Exception):
    """A transition outside the table: a bug; carries the shard's story."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job as the scheduler needs it; `shards` are the unfinished ones from before a restart."""

    job_id: str
    module_sha: str
    n_items: int
    shard_size: int | None
    max_items: int
    priority: int
    cut: Cutting = field(default_factory=Cutting)
    shards: tuple[Shard, ...] = ()
    assignments: tuple[tuple[Assignment, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The newest facts about a connected node; `refuses` says why it takes no work."""

    node_id: str
    slots: int
    telemetry: Telemetry
    refuses: str | None = None


@dataclass(slots=True)
class AssignmentEntry:
    """An attempt whose result could still count."""

    id: str
    job_id: str
    index: int
    attempt: int
    node_id: str
    state: AssignmentState = AssignmentState.OFFERED
    deadline: float = 0.0
    # The node went away or never got it: its result may still come, but it holds no place.
    lost: bool = False

    def move(self, state: AssignmentState, shard: "ShardEntry") -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        if (self.state, state) not in ASSIGNMENT_MOVES:
            raise ImpossibleTransitionError(
                f"assignment {self.id}: {self.state} → {state}; {shard.told()}"
            )
        self.state = state

    def snapshot(self) -> Assignment:
        """Return the frozen value for the store."""
        return Assignment(self.id, self.job_id, self.index, self.attempt, self.node_id, self.state)


@dataclass(slots=True)
class ShardEntry:
    """A cut shard with its attempts that could still count."""

    job_id: str
    index: int
    first_item: int
    n_items: int
    state: ShardState = ShardState.QUEUED
    attempts: int = 0
    accepted: str | None = None
    live: dict[str, AssignmentEntry] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    failures: list[tuple[str, str]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def move(self, state: ShardState, why: str) -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        # A second attempt beside one that is still within its time changes nothing.
        if self.state is not state and (self.state, state) not in SHARD_MOVES:
            raise ImpossibleTransitionError(f"{self.state} → {state}: {why}; {self.told()}")
        self.state = state
        self.story.append(why)
        del self.story[:-_STORY_MAX]

    def told(self) -> str:
        """Return the shard's story for an error message."""
        return f"shard {self.index} of {self.job_id}: " + "; ".join(self.story)

    def snapshot(self) -> Shard:
        """Return the frozen value for the store."""
        return Shard(
            self.job_id, self.index, self.state, self.first_item, self.n_items, self.attempts
        )


@dataclass(slots=True)
class JobEntry:
    """A job that is not forgotten: what is left of its pool, and its unfinished shards.

    Items are cut from the front, so the pool is the range from `first_uncut` to the end. A shard
    that is done is counted and forgotten, so that a job's size costs no memory.
    """

    plan: JobPlan
    first_uncut: int = 0
    n_cut: int = 0
    shards: dict[int, ShardEntry] = field(default_factory=dict)
    returned: list[int] = field(default_factory=list)
    n_done_shards: int = 0
    n_done_items: int = 0
    n_retries: int = 0
    started: bool = False
    ended: bool = False

    @classmethod
    def of(cls, plan: JobPlan) -> Self:
        """Build the entry from a new job, or from what was cut before a restart."""
        cut = plan.cut
        job = cls(
            plan,
            cut.n_items,
            cut.n_shards,
            n_done_shards=cut.n_done_shards,
            n_done_items=cut.n_done_items,
            n_retries=cut.n_retries,
            started=cut.n_shards > 0,
        )
        for shard in plan.shards:
            job.shards[shard.index] = ShardEntry(
                plan.job_id,
                shard.index,
                shard.first_item,
                shard.n_items,
                shard.state,
                shard.attempts,
            )
            if shard.state is ShardState.QUEUED:
                job.returned.append(shard.index)
        for assignment, reason in plan.assignments:
            job._remember(assignment, reason)
        return job

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: the most urgent first, then the oldest (ids count up with time)."""
        return (-self.plan.priority, self.plan.job_id)

    @property
    def pool_items(self) -> int:
        """How many items are uncut."""
        return self.plan.n_items - self.first_uncut

    def cut(self, n_items: int) -> ShardEntry:
        """Take a shard of up to `n_items` items from the front of the pool."""
        n_items = min(n_items, self.pool_items)
        shard = ShardEntry(self.plan.job_id, self.n_cut, self.first_uncut, n_items)
        self.shards[shard.index] = shard
        self.n_cut += 1
        self.first_uncut += n_items
        return shard

    def done(self, shard: ShardEntry) -> None:
        """Count a shard that is done, and forget it."""
        self.n_done_shards += 1
        self.n_done_items += shard.n_items
        del self.shards[shard.index]

    def _remember(self, assignment: Assignment, reason: str | None) -> None:
        shard = self.shards[assignment.index]
        shard.tried.add(assignment.node_id)
        if assignment.state is AssignmentState.FINISHED and reason is not None:
            shard.failures.append((assignment.node_id, reason))
        if assignment.state in _LIVE and shard.state in (ShardState.QUEUED, ShardState.ASSIGNED):
            shard.live[assignment.id] = AssignmentEntry(
                assignment.id,
                assignment.job_id,
                assignment.index,
                assignment.attempt,
                assignment.node_id,
                assignment.state,
                lost=assignment.state is AssignmentState.EXPIRED,
            )


@dataclass(slots=True)
class NodeEntry:
    """A connected node: what it holds and how fast it has been."""

    change: NodeChange
    load: set[str] = field(default_factory=set)
    shard_s: float | None = None
    rates: dict[str, float] = field(default_factory=dict)
    paused_until: float = 0.0

    def room(self, now: float) -> int:
        """Return how many more shards the node may hold now."""
        if self.change.refuses or now < self.paused_until:
            return 0
        slots = self.change.slots
        if self.shard_s is None:
            ahead = _AHEAD_UNMEASURED * slots
        else:
            ahead = int(min(_AHEAD_S / max(self.shard_s, 1e-6), _AHEAD_PER_SLOT_MAX) * slots)
        return max(0, slots + ahead - len(self.load))

    def view(self, job: JobEntry, now: float) -> NodeView:
        """Return what a strategy sees of this node."""
        return NodeView(
            self.change.node_id,
            self.change.slots,
            len(self.load),
            self.room(now),
            self.change.telemetry,
            self.rates.get(job.plan.module_sha),
        )

    def measured(self, module_sha: str, n_items: int, wall_s: float) -> None:
        """Take the time of a finished shard into the moving averages."""
        self.shard_s = _ewma(self.shard_s, wall_s)
        rate = n_items / max(wall_s, 1e-6)
        self.rates[module_sha] = _ewma(self.rates.get(module_sha), rate)

    def expected_s(self, module_sha: str, n_items: int) -> float | None:
        """Return when a new shard should be done, in seconds from now; None if unmeasured."""
        rate = self.rates.get(module_sha)
        if rate is None:
            return None
        waiting_s = len(self.load) * (self.shard_s or 0.0) / self.change.slots
        return waiting_s + n_items / rate


def _ewma(average: float | None, value: float) -> float:
    return value if average is None else average + _EWMA_ALPHA * (value - average)
