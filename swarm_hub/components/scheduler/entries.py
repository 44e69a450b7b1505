"""What the state machine remembers of unfinished jobs, their shards and assignments; pure.

It is long because the three refer to each other: a job counts what its shards become, and a shard
what its attempts do.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
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
from swarm_hub.models.messages import GAVE_WAY, TIMED_OUT
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Cutting,
    Shard,
    ShardState,
    index_of,
)

_STORY_MAX: Final = 20
# What a shard's attempt may take if the job, which is of an older version, does not say.
WALL_TIME_S: Final = 60.0
# What it may cost a job to find the items that fail: attempts, and their wall times altogether. One
# that leaves them out may spend more of both.
_ISOLATING_MAX: Final = 64
_ITEMS_AN_ATTEMPT: Final = 64
_ISOLATING_WALL_TIMES: Final = 4
# What a shard of a program that was not measured on its node is taken to need.
UNMEASURED_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job as the scheduler needs it; `shards` are the unfinished ones from before a restart.

    `program` identifies what runs, by which the speeds of nodes are measured; `owner` is the one
    who shares the nodes with other owners, `deadline_in_s` how many seconds are left for it.
    `assignments` are the attempts at `shards` with the reasons of their ends, `votes` those of
    their results that have no quorum yet, `voters` the owners of the nodes that voted. `known`
    lists known answers in item order, each a shard of its own. `needs` names the features that a
    node must know. An attempt may take `wall_s` seconds. With `isolates` a shard that failed is
    split until the items that fail are found; with `skips` these are left out, if they are no more
    than `failed_items_max`.
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
    wall_s: float = WALL_TIME_S
    isolates: bool = False
    skips: bool = False
    failed_items_max: int | None = None
    # The name of the runtime that its module is, of which a node has to be ready.
    runtime: str | None = None

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


class Place(Enum):
    """Where an attempt is on its node: among what has or waits for a slot, or what gave way.

    It is nowhere once the node went away or never got it, though its result may still come.
    """

    NOWHERE = 0
    LOAD = 1
    BACKGROUND = 2


@dataclass(slots=True, eq=False)
class AssignmentEntry:
    """An attempt whose result could still count; times are in monotonic seconds."""

    id: str
    shard: "ShardEntry"
    attempt: int
    node_id: str
    owner: str = ""
    state: AssignmentState = AssignmentState.OFFERED
    # Since when it occupies a slot, as far as the gateway knows; until then when it was offered.
    begun_at: float = 0.0
    # How long it should run on its node; None if its program was not measured there.
    run_s: float | None = None
    # Whether its node's results need no confirmation.
    trusted: bool = False
    place: Place = Place.NOWHERE
    deadline: Alarm | None = None

    @property
    def job_id(self) -> str:
        """The job it belongs to."""
        return self.shard.job_id

    @property
    def load_s(self) -> float:
        """How long it is taken to need on its node, in seconds."""
        return UNMEASURED_S if self.run_s is None else self.run_s

    @property
    def is_background(self) -> bool:
        """Whether it gave way: it runs only while nothing else does on its node."""
        return self.place is Place.BACKGROUND

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


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of the module on a shard: where, on whose node, and the reason."""

    node_id: str
    owner: str
    text: str

    @property
    def timed_out(self) -> bool:
        """Whether the attempt took all of its wall time."""
        return self.text.startswith(TIMED_OUT)


@dataclass(slots=True)
class Setbacks:
    """What went wrong with a shard; most have none."""

    failures: tuple[Failure, ...] = ()
    # The nodes of attempts that are over.
    tried: tuple[str, ...] = ()
    # How many attempts passed their deadline, and how many gave way.
    expiries: int = 0
    withdrawals: int = 0
    # Whether the last attempt ended for a reason that makes the next one no retry.
    excused: bool = False
    # Whether it is a part of a shard that failed: its first failure splits it again.
    isolating: bool = False


# Shared by all that had none; for reading only.
_NO_SETBACKS: Final = Setbacks()


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
    had: Setbacks = field(default_factory=lambda: _NO_SETBACKS)
    # The id of each attempt as it was offered, and between them what became of the shard.
    story: tuple[str, ...] = ()

    @property
    def tried(self) -> set[str]:
        """The nodes that have or had it."""
        return {*self.had.tried, *(attempt.node_id for attempt in self.live)}

    def setbacks(self) -> Setbacks:
        """Return what went wrong with it, to add to that."""
        if self.had is _NO_SETBACKS:
            self.had = Setbacks()
        return self.had

    def move(self, state: ShardState, why: str) -> None:
        """Change the state; raises ImpossibleTransitionError outside the table."""
        # A second attempt beside one that is still within its time changes nothing.
        if self.state is not state and (self.state, state) not in SHARD_MOVES:
            raise ImpossibleTransitionError(f"{self.state} → {state}: {why}; {self.told()}")
        self.state = state
        self.story = (*self.story[1 - _STORY_MAX :], why)

    def told(self) -> str:
        """Return the shard's history for an error message."""
        told = "; ".join((*self.story, f"tried {', '.join(sorted(self.tried)) or 'nowhere'}"))
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
    n_failed_items: int = 0
    n_retries: int = 0
    # Since this gateway has the job.
    n_attempts: int = 0
    # How many shards as they were cut have been split; the items that were found so and left out,
    # the failed attempts at parts, and how long these took.
    n_split: int = 0
    n_found_items: int = 0
    n_isolating: int = 0
    isolating_s: float = 0.0
    # The last failure, and the shard that it was on.
    last_failure: tuple[Shard, Failure] | None = None
    # Whether an attempt passed its deadline before there was any result, and the nodes on which
    # attempts took all of their wall time before.
    is_suspect: bool = False
    timed_out_on: tuple[str, ...] = ()
    # Since when it waits for a slot, and when to look next for one that it has a better right to.
    waits_since: float | None = None
    claim_at: float = 0.0
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
            n_failed_items=cut.n_failed_items,
            n_retries=cut.n_retries,
            n_split=len(cut.splits),
            n_found_items=cut.n_found_items,
            n_isolating=cut.n_isolating,
            isolating_s=cut.isolating_s,
        )
        for shard in plan.shards:
            job.shards[shard.index] = job._entry(shard)
        for assignment, reason in plan.assignments:
            job._remember(assignment, reason)
        for vote in plan.votes:
            job.shards[index_of(vote.assignment_id)].votes += (vote,)
        for entry in job.shards.values():
            job.note_wanting(entry)
            if not job.n_done_shards:
                job.timed_out_on += tuple(
                    failure.node_id for failure in entry.had.failures if failure.timed_out
                )
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
    def is_done(self) -> bool:
        """Whether each item has a result or is left out."""
        return self.n_done_items + self.n_failed_items == self.plan.n_items

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
        self._forget(shard)

    def skipped(self, shard: ShardEntry) -> None:
        """Count a shard whose items are left out, and forget it."""
        self.n_failed_items += shard.n_items
        self.n_found_items += shard.had.isolating and shard.n_items == 1
        self._forget(shard)

    def may_split(self, shard: ShardEntry) -> bool:
        """Whether a shard that failed may be split."""
        return shard.n_items > 1 and self._may_search

    @property
    def may_be_endless(self) -> bool:
        """Whether attempts that took all of their wall time may mean that no item ends.

        Not while a job that leaves items out searches for the first: it is owed the others.
        """
        is_searching = self.plan.skips and not self.n_found_items and self._may_search
        return not self.n_done_shards and not is_searching

    @property
    def _may_search(self) -> bool:
        """Whether failing items may be searched for: what that costs a job is limited."""
        return (
            self.plan.isolates
            and self.n_isolating < self._isolating_max
            and self.isolating_s < self._isolating_wall_times * self.plan.wall_s
        )

    @property
    def _isolating_max(self) -> int:
        """How many failed attempts the search for failing items may cost by now.

        Each item that was found pays for what it takes to find one, so that these are not missed
        where many fail; a large job may pay a little more before the first is found.
        """
        found = self.n_found_items * self._attempts_an_item
        return max(_ISOLATING_MAX, self.plan.n_items // _ITEMS_AN_ATTEMPT) + found

    @property
    def _isolating_wall_times(self) -> int:
        """How often its wall time the search may cost by now, where items do not end.

        A job that leaves items out may find one of each shard, and more for each that it found.
        """
        if not self.plan.skips:
            return _ISOLATING_WALL_TIMES
        return (1 + self.n_split + self.n_found_items) * self._attempts_an_item

    @property
    def _attempts_an_item(self) -> int:
        """How many attempts fail until an item is found by halves, and has failed by itself."""
        return self.plan.n_items.bit_length() + 3

    def halves(self, shard: ShardEntry) -> tuple[ShardEntry, ShardEntry]:
        """Replace a shard by two new ones with its items."""
        self._forget(shard)
        self.n_split += not shard.had.isolating
        n_first = shard.n_items // 2
        first = self._part(shard.first_item, n_first)
        return first, self._part(shard.first_item + n_first, shard.n_items - n_first)

    def _part(self, first_item: int, n_items: int) -> ShardEntry:
        part = ShardEntry(self.plan.job_id, self.n_cut, first_item, n_items)
        part.setbacks().isolating = True
        part.checked = self._is_checked(part.index)
        self.shards[part.index] = part
        self.n_cut += 1
        return part

    def _forget(self, shard: ShardEntry) -> None:
        self.wanting.pop(shard.index, None)
        del self.shards[shard.index]

    def _entry(self, shard: Shard) -> ShardEntry:
        entry = ShardEntry(
            shard.job_id,
            shard.index,
            shard.first_item,
            shard.n_items,
            shard.state,
            shard.attempts,
            checked=self._is_checked(shard.index),
        )
        if self.plan.cut.was_split(shard.first_item):
            entry.setbacks().isolating = True
        return entry

    def _is_checked(self, index: int) -> bool:
        redundancy = self.plan.redundancy
        return redundancy.adaptive and redundancy.is_checked(self.plan.job_id, index)

    def _remember(self, assignment: Assignment, reason: str | None) -> None:
        shard = self.shards[assignment.index]
        owner = self.plan.voters.get(assignment.node_id, assignment.node_id)
        if assignment.state is AssignmentState.FINISHED and reason is not None:
            failure = Failure(assignment.node_id, owner, reason)
            shard.setbacks().failures += (failure,)
            self.last_failure = shard.snapshot(), failure
        # The attempts come in their order.
        if reason is not None and reason.startswith(GAVE_WAY):
            shard.setbacks().withdrawals += 1
            shard.setbacks().excused = True
        elif shard.had.excused:
            shard.setbacks().excused = False
        if assignment.state in LIVE and shard.state in (ShardState.QUEUED, ShardState.ASSIGNED):
            entry = AssignmentEntry(
                assignment.id,
                shard,
                assignment.attempt,
                assignment.node_id,
                owner,
                assignment.state,
            )
            shard.live += (entry,)
        else:
            shard.setbacks().tried += (assignment.node_id,)
