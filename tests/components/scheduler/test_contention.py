"""Whatever happens to jobs that contend for slots: every item once, and every job ends."""

import dataclasses
from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarm_hub.components.scheduler import (
    Accepted,
    Event,
    Failed,
    Finished,
    JobAdded,
    JobEnded,
    JobPlan,
    NodeChange,
    NodeLost,
    Outcome,
    Preempt,
    Rejected,
    Send,
    StateMachine,
    TimePassed,
    Withdraw,
)
from swarm_hub.components.scheduler.entries import JobEntry
from swarm_hub.models.features import BASELINE
from swarm_hub.models.job import JobState
from swarm_hub.models.messages import GAVE_WAY
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Cutting,
    Shard,
    ShardState,
    job_of,
    outermost,
)
from tests.helpers.driven import TIMED_OUT, machine, node

ITEMS = 12
WALL_S = 20.0
NAMES = "abcd"


@dataclasses.dataclass
class Job:
    """A job, what its module does, and what became of its items."""

    plan: JobPlan
    bad: frozenset[int]
    endless: bool
    done: list[int] = dataclasses.field(default_factory=list)
    skipped: list[int] = dataclasses.field(default_factory=list)
    ends: list[JobEnded] = dataclasses.field(default_factory=list)


class Contention(RuleBasedStateMachine):
    """Jobs of several owners and priorities, with failing and endless modules, on a few nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: StateMachine = machine()
        self.now = 0.0
        self.jobs: dict[str, Job] = {}
        # What the nodes hold, by assignment, with their nodes; and what they suspended.
        self.held: dict[str, str] = {}
        self.suspended: set[str] = set()
        self.shards: dict[str, dict[int, Shard]] = defaultdict(dict)
        self.splits: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.up: set[str] = set()

    # What can happen

    @precondition(lambda self: len(self.jobs) < 5)
    @rule(
        priority=st.integers(0, 1),
        owner=st.sampled_from("xy"),
        program=st.sampled_from(["p", "q", "r"]),
        bad=st.frozensets(st.integers(0, ITEMS - 1), max_size=2),
        endless=st.booleans(),
        skips=st.booleans(),
        isolates=st.booleans(),
        shard_size=st.sampled_from([None, 1, 4, ITEMS]),
    )
    def a_job_comes(
        self,
        priority: int,
        owner: str,
        program: str,
        bad: frozenset[int],
        endless: bool,
        skips: bool,
        isolates: bool,
        shard_size: int | None,
    ) -> None:
        job_id = f"J{len(self.jobs)}"
        plan = JobPlan(
            job_id, program, ITEMS, shard_size, ITEMS, priority, owner,
            isolates=isolates, skips=skips, wall_s=WALL_S,
        )  # fmt: skip
        self.jobs[job_id] = Job(plan, bad, endless)
        self.handle(JobAdded(plan))

    @rule(name=st.sampled_from(NAMES), slots=st.integers(1, 2), suspends=st.booleans())
    def a_node_comes(self, name: str, slots: int, suspends: bool) -> None:
        self.up.add(name)
        self.handle(self.change(name, slots, suspends))

    @rule(name=st.sampled_from(NAMES))
    def a_node_goes(self, name: str) -> None:
        self.up.discard(name)
        self.held = {each: where for each, where in self.held.items() if where != name}
        self.handle(NodeLost(name, "gone"))

    @rule()
    def work_is_given_out(self) -> None:
        self.take(self.scheduler.plan(self.now))

    @rule(seconds=st.sampled_from([0.3, 2.5, 6.0, 16.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.handle(TimePassed())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_node_accepts(self, data: st.DataObject) -> None:
        self.handle(Accepted(data.draw(st.sampled_from(sorted(self.held)))))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_node_answers(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(sorted(self.held))))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), reason=st.sampled_from([GAVE_WAY, "no space"]))
    def a_node_gives_back(self, data: st.DataObject, reason: str) -> None:
        each = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[each]
        self.handle(Rejected(each, reason))

    @rule()
    def the_gateway_starts_anew(self) -> None:
        """What is in the store is enough to go on."""
        before = self.scheduler
        self.scheduler = machine()
        for job_id, job in self.jobs.items():
            entry = before.job(job_id)
            if entry is not None and not entry.ended:
                self.handle(JobAdded(self.continued(job, entry), 15.0))

    # What must hold

    @invariant()
    def every_item_is_in_one_place(self) -> None:
        for job_id, job in self.jobs.items():
            if (entry := self.scheduler.job(job_id)) is None:
                continue
            places = [*range(entry.first_uncut, ITEMS), *job.done, *job.skipped]
            for shard in entry.shards.values():
                places += range(shard.first_item, shard.first_item + shard.n_items)
            assert sorted(places) == list(range(ITEMS))
            assert (entry.n_done_items, entry.n_failed_items) == (len(job.done), len(job.skipped))

    @invariant()
    def what_nodes_hold_is_counted_once(self) -> None:
        nodes = [each for name in NAMES if (each := self.scheduler.node(name)) is not None]
        for job_id in self.jobs:
            if (entry := self.scheduler.job(job_id)) is not None:
                held = [each for n in nodes for each in n.load if each.job_id == job_id]
                assert entry.n_open == len(held)
        for each in nodes:
            assert len(each.background) <= each.change.slots
            assert abs(each.load_s - sum(one.load_s for one in each.load)) < 1e-6

    @invariant()
    def a_job_ends_once_and_skips_no_good_item(self) -> None:
        for job in self.jobs.values():
            assert len(job.ends) <= 1
            assert job.plan.skips or not job.skipped
            if job.plan.isolates and not job.endless:
                assert job.bad.issuperset(job.skipped)
            if job.ends and job.ends[0].state is JobState.COMPLETED:
                assert not job.bad.intersection(job.done)
                assert not job.endless

    def teardown(self) -> None:
        """With good nodes every job ends: well, unless its module fails."""
        for _ in range(400):
            if all(job.ends for job in self.jobs.values()):
                break
            for name in NAMES:
                self.up.add(name)
                self.handle(self.change(name, 2, suspends=True))
            self.take(self.scheduler.plan(self.now))
            for each in sorted(self.held):
                if each not in self.suspended and each in self.held:
                    self.handle(Accepted(each))
                    self.answer(each)
            self.now += 3.0
            self.handle(TimePassed())
        for job_id, job in self.jobs.items():
            assert job.ends, (job, self.scheduler.job(job_id))
            if not job.bad and not job.endless:
                assert job.ends[0].state is JobState.COMPLETED

    # How it is done

    def change(self, name: str, slots: int, suspends: bool) -> NodeChange:
        features = {} if suspends else {"features": BASELINE}
        return node(name, slots, owner="x" if name in "ab" else "y", **features)

    def handle(self, event: Event) -> None:
        self.take(self.scheduler.handle(event, self.now))

    def take(self, outcome: Outcome) -> None:
        assert not outcome.faults
        for change in outcome.shards.values():
            shard = change.shard
            self.shards[shard.job_id][shard.index] = shard
            items = range(shard.first_item, shard.first_item + shard.n_items)
            if shard.state is ShardState.SKIPPED:
                self.jobs[shard.job_id].skipped += items
            elif shard.state is ShardState.SPLIT:
                self.splits[shard.job_id].append((shard.first_item, shard.n_items))
        if outcome.counted is not None:
            first, n_items = outcome.counted.first_item, outcome.counted.n_items
            self.jobs[outcome.counted.job_id].done += range(first, first + n_items)
        for each in outcome.instructions:
            if isinstance(each, Send):
                self.held[each.assignment.id] = each.node_id
            elif isinstance(each, Withdraw):
                self.held.pop(each.assignment_id, None)
            elif isinstance(each, Preempt):
                self.suspended.add(each.assignment_id)
        for end in outcome.transitions:
            if isinstance(end, JobEnded):
                self.jobs[end.job_id].ends.append(end)

    def answer(self, assignment_id: str) -> None:
        del self.held[assignment_id]
        self.suspended.discard(assignment_id)
        job = self.jobs[job_of(assignment_id)]
        assignment = self.scheduler.assignment(assignment_id)
        items: Any = ()
        if assignment is not None:
            shard = assignment.shard
            items = range(shard.first_item, shard.first_item + shard.n_items)
        if job.endless:
            self.handle(Failed(assignment_id, TIMED_OUT))
        elif job.bad.isdisjoint(items):
            self.handle(Finished(assignment_id, 0.1))
        else:
            self.handle(Failed(assignment_id, "exit: bad row"))

    def continued(self, job: Job, entry: JobEntry) -> JobPlan:
        shards = tuple(shard.snapshot() for shard in entry.shards.values())
        attempts = [
            (attempt.snapshot(), None) for shard in entry.shards.values() for attempt in shard.live
        ]
        failed = [
            (
                Assignment(
                    "x", shard.job_id, shard.index, 0, each.node_id, AssignmentState.FINISHED
                ),
                each.text,
            )
            for shard in entry.shards.values()
            for each in shard.had.failures
        ]
        cut = Cutting(
            entry.n_cut, entry.first_uncut, entry.n_done_shards, entry.n_done_items,
            entry.n_retries, entry.n_failed_items, outermost(self.splits[entry.job_id]),
            entry.n_found_items, entry.n_isolating, entry.isolating_s,
        )  # fmt: skip
        voters = {name: self.change(name, 1, True).owner for name in NAMES}
        return dataclasses.replace(
            job.plan, cut=cut, shards=shards, assignments=(*attempts, *failed), voters=voters
        )


Contention.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestContention = Contention.TestCase
