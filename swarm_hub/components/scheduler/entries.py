"""What the state machine remembers of unfinished jobs, their shards and assignments; pure."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from swarm_hub.components.scheduler import votes
from swarm_hub.components.scheduler.alarms import Alarm
from swarm_hub.components.scheduler.moves import (
    ASSIGNMENT_MOVES,
    JOB_MOVES,
    LIVE,
    OPEN,
    SHARD_MOVES,
    ImpossibleTransitionError,
)
from swarm_hub.components.scheduler.votes import SINGLE, Redundancy, Vote
from swarm_hub.models.job import Constraints, JobState, KnownAnswer
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Cutting,
    Shard,
    ShardState,
    index_of,
)

_STORY_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job as the scheduler needs it; `shards` are the unfinished ones from before a restart.

    `program` identifies what runs, by which the speeds of nodes are measured; `owner` is the one
    who shares the nodes with other owners, `deadline_in_s` how many seconds are left for it.
    `assignments` are the attempts at `shards` with the reasons of their ends, `votes` those of
    their results that have no quorum yet, `voters` the owners of the nodes that voted. `known`
    lists known answers in item order, each a shard of its own. `needs` names the features that a
    node must know.
    """

    job_id: str
    program: str
    n_items: int
    shard_size: int | None
    max_items: int
    priority: int = 0
    owner: str = ""
    constraints: Constraints | None = None
    redundancy: Redundancy = SINGLE
    deadline_in_s: float | None = None
    cut: Cutting = field(default_factory=Cutting)
    shards: tuple[Shard, ...] = ()
    assignments: tuple[tuple[Assignment, str | None], ...] = ()
    votes: tuple[Vote, ...] = ()
    voters: Mapping[str, str] = field(default_factory=dict)
    known: tuple[KnownAnswer, ...] = ()
    needs: frozenset[str] = frozenset()

    def next_known(self, first_item: int) -> KnownAnswer | None:
        """Return the first known answer for items from `first_item` on."""
        at = bisect_left(self.known, first_item, key=lambda each: each.first_item)
        return self.known[at] if at < len(self.known) else None

    def known_sha(self, shard: "ShardEntry") -> str | None:
        """Return the hash that a shard's result must have, if the job's owner knows it."""
        if not self.known:
            return None
        known = self.next_known(shard.first_item)
        return known.sha if known is not None and known.first_item == shard.first_item else None


@dataclass(slots=True, eq=False)
class AssignmentEntry:
    """An attempt whose result could still count; times are in monotonic seconds."""

    id: str
    shard: "ShardEntry"
    attempt: int
    node_id: str
    owner: str = ""
    state: AssignmentState = AssignmentState.OFFERED
    offered_at: float = 0.0
    # Whether its node's results need no confirmation.
    trusted: bool = False
    # Whether it holds a place on its node: not once the node went away or never got it, though
    # its result may still come.
    placed: bool = False
    deadline: Alarm | None = None

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return self.shard.job_id

    def move(self, state: AssignmentState) -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        if (self.state, state) not in ASSIGNMENT_MOVES:
            raise ImpossibleTransitionError(
                f"assignment {self.id}: {self.state} → {state}; {self.shard.told()}"
            )
        self.state = state

    def snapshot(self) -> Assignment:
        """Return the frozen value for the store."""
        shard = self.shard
        return Assignment(
            self.id, shard.job_id, shard.index, self.attempt, self.node_id, self.state
        )


@dataclass(slots=True)
class ShardEntry:
    """A cut shard with its attempts that could still count, and its results without a quorum."""

    job_id: str
    index: int
    first_item: int
    n_items: int
    state: ShardState = ShardState.QUEUED
    attempts: int = 0
    # Whether even a trusted node's result needs a second one.
    checked: bool = False
    # Not to be given out before this time, in monotonic seconds.
    not_before: float = 0.0
    # Tuples, as most shards have one attempt, no failure and no second vote: a dict costs 136 bytes
    # more, and there are two shards per node.
    live: tuple[AssignmentEntry, ...] = ()
    votes: tuple[Vote, ...] = ()
    tried: tuple[str, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    # The id of each attempt as it was offered, and between them what became of the shard.
    story: tuple[str, ...] = ()

    def move(self, state: ShardState, why: str) -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        # A second attempt beside one that is still within its time changes nothing.
        if self.state is not state and (self.state, state) not in SHARD_MOVES:
            raise ImpossibleTransitionError(f"{self.state} → {state}: {why}; {self.told()}")
        self.state = state
        self.story = (*self.story[1 - _STORY_MAX :], why)

    def told(self) -> str:
        """Return the shard's history for an error message."""
        told = "; ".join((*self.story, f"tried {', '.join(self.tried) or 'nowhere'}"))
        return f"shard {self.index} of {self.job_id}: {told}"

    def open(self) -> list[AssignmentEntry]:
        """Return the attempts that are within their time."""
        return [attempt for attempt in self.live if attempt.state in OPEN]

    def lacking(self, plan: JobPlan) -> int:
        """Return how many more attempts the shard needs now."""
        trusted = [attempt.trusted for attempt in self.live if attempt.state in OPEN]
        return votes.lacking(
            plan.redundancy, self.votes, trusted,
            checked=self.checked, known=plan.known_sha(self),
        )  # fmt: skip

    def snapshot(self) -> Shard:
        """Return the frozen value for the store."""
        return Shard(
            self.job_id, self.index, self.state, self.first_item, self.n_items, self.attempts
        )


@dataclass(slots=True)
class JobEntry:
    """An unfinished job: what is left of its pool, and its unfinished shards.

    Items are cut from the front, so the pool is the range from `first_uncut` to the end. A shard
    that is done is counted and forgotten, so that a large job takes no more memory than a small
    one.
    """

    plan: JobPlan
    state: JobState = JobState.QUEUED
    first_uncut: int = 0
    n_cut: int = 0
    shards: dict[int, ShardEntry] = field(default_factory=dict)
    # Shards that need another attempt, the longest-waiting first.
    wanting: dict[int, None] = field(default_factory=dict)
    n_open: int = 0
    # When it was last given a place; the clock is the number of places given out.
    last_turn: int = 0
    n_done_shards: int = 0
    n_done_items: int = 0
    n_retries: int = 0
    # When to look next for shards that a second node would finish sooner.
    look_at: float = 0.0
    deadline: Alarm | None = None

    @classmethod
    def of(cls, plan: JobPlan) -> Self:
        """Build the entry from a new job, or from what was cut before a restart."""
        cut = plan.cut
        job = cls(
            plan,
            JobState.RUNNING if cut.n_shards else JobState.QUEUED,
            cut.n_items,
            cut.n_shards,
            n_done_shards=cut.n_done_shards,
            n_done_items=cut.n_done_items,
            n_retries=cut.n_retries,
        )
        for shard in plan.shards:
            job.shards[shard.index] = job._entry(shard)
        for assignment, reason in plan.assignments:
            job._remember(assignment, reason)
        for vote in plan.votes:
            job.shards[index_of(vote.assignment_id)].votes += (vote,)
        for entry in job.shards.values():
            job.note_wanting(entry)
        return job

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.plan.job_id

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to its shards."""
        return self.state.finished

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: the most urgent first, then the oldest (ids count up with time)."""
        return (-self.plan.priority, self.plan.job_id)

    @property
    def pool_items(self) -> int:
        """How many items are uncut."""
        return self.plan.n_items - self.first_uncut

    def move(self, state: JobState) -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        if (self.state, state) not in JOB_MOVES:
            raise ImpossibleTransitionError(f"job {self.plan.job_id}: {self.state} → {state}")
        self.state = state

    def cut(self, n_items: int) -> ShardEntry:
        """Take a shard of up to `n_items` items from the front of the pool.

        Items with a known answer form a shard of their own, however many there are.
        """
        n_items = min(n_items, self.pool_items)
        known = self.plan.next_known(self.first_uncut)
        if known is not None:
            ahead = known.first_item - self.first_uncut
            n_items = min(n_items, ahead) if ahead else known.n_items
        shard = ShardEntry(self.plan.job_id, self.n_cut, self.first_uncut, n_items)
        shard.checked = self._is_checked(shard.index)
        self.shards[shard.index] = shard
        self.n_cut += 1
        self.first_uncut += n_items
        return shard

    def note_wanting(self, shard: ShardEntry) -> None:
        """Remember whether a shard needs another attempt."""
        if shard.lacking(self.plan):
            self.wanting.setdefault(shard.index)
        else:
            self.wanting.pop(shard.index, None)

    def done(self, shard: ShardEntry) -> None:
        """Count a shard that is done, and forget it."""
        self.n_done_shards += 1
        self.n_done_items += shard.n_items
        self.wanting.pop(shard.index, None)
        del self.shards[shard.index]

    def _entry(self, shard: Shard) -> ShardEntry:
        return ShardEntry(
            shard.job_id,
            shard.index,
            shard.first_item,
            shard.n_items,
            shard.state,
            shard.attempts,
            checked=self._is_checked(shard.index),
        )

    def _is_checked(self, index: int) -> bool:
        redundancy = self.plan.redundancy
        return redundancy.adaptive and redundancy.is_checked(self.plan.job_id, index)

    def _remember(self, assignment: Assignment, reason: str | None) -> None:
        shard = self.shards[assignment.index]
        shard.tried += (assignment.node_id,)
        if assignment.state is AssignmentState.FINISHED and reason is not None:
            shard.failures += ((assignment.node_id, reason),)
        if assignment.state in LIVE and shard.state in (ShardState.QUEUED, ShardState.ASSIGNED):
            entry = AssignmentEntry(
                assignment.id,
                shard,
                assignment.attempt,
                assignment.node_id,
                self.plan.voters.get(assignment.node_id, assignment.node_id),
                assignment.state,
            )
            shard.live += (entry,)
