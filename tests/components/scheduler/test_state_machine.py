"""The states: what may follow what, and that no item is ever lost or counted twice."""

import dataclasses
from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarm_hub.components.scheduler import (
    SINGLE,
    Accepted,
    AssignmentChanged,
    AssignmentOffered,
    Event,
    Failed,
    Finished,
    ImpossibleTransitionError,
    ItemsFailed,
    JobAdded,
    JobCancelled,
    JobEnded,
    JobPlan,
    NodeChange,
    NodeLost,
    Outcome,
    Redundancy,
    Rejected,
    Send,
    StateMachine,
    TimePassed,
    Withdraw,
    adaptive_redundancy,
)
from swarm_hub.components.scheduler.entries import ShardEntry
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.job import JobState, KnownAnswer
from swarm_hub.models.node import Telemetry
from swarm_hub.models.shard import Assignment, AssignmentState, Cutting, Shard, ShardState, index_of

RULE = expected.create(factor=2.0, initial_s=15)


def machine() -> StateMachine:
    return StateMachine(adaptive.create(), RULE)


def plan(n_items: int = 4, shard_size: int | None = 1, job_id: str = "J") -> JobPlan:
    return JobPlan(job_id, "m" * 64, n_items, shard_size, 10**9, 0)


def node(name: str, slots: int = 1, refuses: str | None = None) -> NodeChange:
    return NodeChange(name, slots, Telemetry(), refuses)


def sends(outcome: Outcome) -> list[tuple[str, str]]:
    return [
        (each.node_id, each.assignment.id)
        for each in outcome.instructions
        if isinstance(each, Send)
    ]


def ends(outcome: Outcome) -> list[JobEnded]:
    return [each for each in outcome.transitions if isinstance(each, JobEnded)]


def test_a_job_runs_through_its_shards_to_its_end() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(2)), 0.0)
    scheduler.handle(node("a"), 0.0)
    first = scheduler.plan(0.0)
    assert sends(first) == [("a", "J.0.1"), ("a", "J.1.1")]
    assert not ends(scheduler.handle(Finished("J.0.1", 0.1), 0.0))
    (end,) = ends(scheduler.handle(Finished("J.1.1", 0.1), 0.0))
    assert end.state is JobState.COMPLETED


def test_an_expired_shard_goes_to_another_node_and_the_first_result_wins() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(node("b"), 0.0)
    assert scheduler.next_deadline() == 15.0
    assert scheduler.handle(TimePassed(), 15.0).returned
    assert sends(scheduler.plan(15.0)) == [("b", "J.0.2")]
    late = scheduler.handle(Finished("J.0.1", 16.0), 0.0)
    assert late.counted is not None
    superseded = [
        each.assignment.id
        for each in late.transitions
        if isinstance(each, AssignmentChanged)
        and each.assignment.state is AssignmentState.SUPERSEDED
    ]
    assert superseded == ["J.0.2"]
    assert Withdraw("b", "J.0.2") in late.instructions


def test_a_late_result_of_a_superseded_assignment_is_refused() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(2)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(NodeLost("a", "gone"), 0.0)
    scheduler.handle(node("b"), 1.0)
    scheduler.plan(1.0)
    assert scheduler.handle(Finished("J.0.2", 0.1), 0.0).counted is not None
    assert scheduler.handle(Finished("J.0.1", 0.1), 0.0).counted is None


def test_what_a_node_has_not_acked_keeps_its_place_there_until_the_node_is_lost() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(TimePassed(), 15.0)
    assert not sends(scheduler.plan(15.0))
    scheduler.handle(NodeLost("a", "gone"), 16.0)
    scheduler.handle(node("a"), 17.0)
    assert sends(scheduler.plan(17.0)) == [("a", "J.0.2")]


def test_what_a_node_acked_is_not_given_to_it_twice() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(Accepted("J.0.1"), 0.0)
    scheduler.handle(TimePassed(), 15.0)
    assert not sends(scheduler.plan(15.0))
    assert scheduler.handle(Finished("J.0.1", 16.0), 0.0).counted is not None


def test_each_attempt_gets_twice_the_time() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    now = 0.0
    for attempt, wait_s, name in ((1, 15.0, "a"), (2, 30.0, "b"), (3, 60.0, "c")):
        scheduler.handle(node(name), now)
        scheduler.plan(now)
        entry = scheduler.assignment(f"J.0.{attempt}")
        assert entry is not None
        assert entry.deadline is not None
        assert entry.deadline.due == now + wait_s
        now += wait_s
        scheduler.handle(TimePassed(), now)


def test_a_lost_nodes_shards_are_given_out_again_also_to_itself() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    assert scheduler.handle(NodeLost("a", "gone"), 0.0).returned
    assert not sends(scheduler.plan(0.0))
    scheduler.handle(node("a"), 1.0)
    assert sends(scheduler.plan(1.0)) == [("a", "J.0.2")]


def test_failures_on_three_nodes_fail_the_job_with_the_text_of_each() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(2)), 0.0)
    end: list[JobEnded] = []
    # After each failure the shard rests a little longer.
    for now, name in ((0.0, "a"), (0.11, "b"), (0.32, "c")):
        scheduler.handle(node(name), 0.0)
        given = [sent for sent in sends(scheduler.plan(now)) if sent[1].startswith("J.0.")]
        assert [where for where, _ in given] == [name]
        end = ends(scheduler.handle(Failed(given[0][1], f"trap: on {name}"), now))
    assert end[0].state is JobState.FAILED
    assert end[0].failures == tuple(
        ItemsFailed(0, 1, f"trap: on {name}", (name,)) for name in ("a", "b", "c")
    )


def test_on_a_single_node_three_failures_fail_the_job() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    for attempt in (1, 2, 3):
        now = float(attempt)
        assert sends(scheduler.plan(now)) == [("a", f"J.0.{attempt}")]
        outcome = scheduler.handle(Failed(f"J.0.{attempt}", "trap"), now)
    assert ends(outcome)[0].state is JobState.FAILED


def test_time_outs_and_lost_nodes_are_no_failures() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    for number in range(10):
        scheduler.handle(node(f"n{number}"), 0.0)
        assert len(sends(scheduler.plan(0.0))) == 1
        assert not ends(scheduler.handle(NodeLost(f"n{number}", "gone"), 0.0))


def test_a_rejecting_node_gets_a_rest_and_the_shard_goes_elsewhere() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(Rejected("J.0.1", "no space"), 0.0)
    assert not sends(scheduler.plan(0.5))
    assert scheduler.next_deadline() == 1.0
    scheduler.handle(TimePassed(), 1.0)
    assert sends(scheduler.plan(1.0)) == [("a", "J.0.2")]


def test_cancelling_withdraws_what_is_out() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(3)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    outcome = scheduler.handle(JobCancelled("J"), 0.0)
    assert Withdraw("a", "J.0.1") in outcome.instructions
    assert ends(outcome)[0].state is JobState.CANCELLED
    assert scheduler.handle(Finished("J.0.1", 0.1), 0.0).counted is None
    assert not sends(scheduler.plan(0.0))


def test_a_refusing_node_gets_nothing_and_the_job_says_why_it_waits() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(plan(1)), 0.0)
    assert scheduler.why_waiting("J", 0.0) == "no worker is connected"
    scheduler.handle(node("a", refuses="not charging"), 0.0)
    assert not sends(scheduler.plan(0.0))
    assert scheduler.why_waiting("J", 0.0) == "1 node: 1 not charging"


def test_after_a_restart_open_assignments_are_sent_again_and_late_results_count() -> None:
    before = machine()
    before.handle(JobAdded(plan(3)), 0.0)
    before.handle(node("a"), 0.0)
    offered = before.plan(0.0)
    before.handle(Finished("J.0.1", 0.1), 0.0)
    entry = before.job("J")
    assert entry is not None
    restored = JobPlan(
        "J", "m" * 64, 3, 1, 10**9, cut=Cutting(2, 2, 1, 1, 0),
        shards=tuple(shard.snapshot() for shard in entry.shards.values()),
        assignments=tuple(
            (each.snapshot(), None)
            for shard in entry.shards.values()
            for each in shard.live
        ),
    )  # fmt: skip
    assert len(sends(offered)) == 2
    after = machine()
    after.handle(JobAdded(restored, 15.0), 100.0)
    assert after.next_deadline() == 115.0
    again = after.handle(node("a"), 101.0)
    assert sends(again) == [("a", "J.1.1")]
    assert after.handle(Finished("J.1.1", 0.1), 0.0).counted is not None
    assert sends(after.plan(101.0)) == [("a", "J.2.1")]


def test_an_impossible_transition_tells_the_shards_story() -> None:
    shard = ShardEntry("J", 7, 0, 1)
    shard.setbacks().tried += ("a",)
    shard.move(ShardState.ASSIGNED, "J.7.1")
    shard.move(ShardState.DONE, "finished")
    with pytest.raises(ImpossibleTransitionError, match=r"shard 7 of J: J.7.1; finished; tried a"):
        shard.move(ShardState.ASSIGNED, "again")


def test_after_a_restart_two_nodes_of_one_person_are_still_one_voter() -> None:
    plan = JobPlan("J", "m" * 64, 1, None, 10**9, redundancy=Redundancy(2))
    scheduler = machine()
    scheduler.handle(JobAdded(plan), 0.0)
    for name, owner in (("a", "person"), ("c", "c")):
        scheduler.handle(NodeChange(name, 1, Telemetry(), owner=owner), 0.0)
    given = dict(sends(scheduler.plan(0.0)))
    entry = scheduler.job("J")
    assert entry is not None
    (shard,) = entry.shards.values()
    plan = dataclasses.replace(
        plan,
        cut=Cutting(1, 1, 0, 0, 0),
        shards=(shard.snapshot(),),
        assignments=tuple((each.snapshot(), None) for each in shard.live),
        voters={"a": "person", "c": "c"},
    )
    again = machine()
    again.handle(JobAdded(plan, 15.0), 1.0)
    # The result comes before its node is known again, and then the node of the same person.
    assert again.handle(Finished(given["a"], 0.1, "forged"), 2.0).counted is None
    again.handle(NodeLost("c", "gone"), 2.0)
    again.handle(NodeChange("b", 1, Telemetry(), owner="person"), 2.0)
    again.handle(Failed(given["c"], "gone"), 3.0)
    assert sends(again.plan(4.0)) == []


class EverythingThatCanHappen(RuleBasedStateMachine):
    """Random events against the invariants of DESIGN, section 2."""

    NODES = ("a", "b", "c", "d", "e", "f")
    # The owner of the job may be wrong.
    KNOWN = (KnownAnswer(0, 1, "right"), KnownAnswer(4, 3, "wrong"), KnownAnswer(7, 1, "right"))

    @initialize(
        redundancy=st.sampled_from(
            [SINGLE, Redundancy(2), Redundancy(3), adaptive_redundancy(b"secret")]
        ),
        trusted=st.sets(st.sampled_from(NODES)),
        deadline_in_s=st.sampled_from([None, 10_000.0]),
        known=st.sampled_from([(), KNOWN]),
    )
    def a_job(
        self,
        redundancy: Redundancy,
        trusted: set[str],
        deadline_in_s: float | None,
        known: tuple[KnownAnswer, ...],
    ) -> None:
        self.scheduler = machine()
        self.redundancy = redundancy
        self.trusted = trusted
        self.plan = JobPlan(
            "J", "m" * 64, 12, None, 10**9, redundancy=redundancy, deadline_in_s=deadline_in_s,
            known=known,
        )  # fmt: skip
        self.now = 0.0
        self.given: list[str] = []
        self.nodes_of: dict[str, str] = {}
        self.answers: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.counted: set[int] = set()
        self.done: list[int] = []
        self.ended: list[JobEnded] = []
        self.take(self.scheduler.handle(JobAdded(self.plan), 0.0))

    def change(self, name: str, slots: int) -> NodeChange:
        # a and b belong to one person, who has one vote.
        owner = "ab" if name in ("a", "b") else name
        return NodeChange(
            name, slots, Telemetry(), owner=owner, agreements=30 * (name in self.trusted)
        )

    def take(self, outcome: Outcome) -> None:
        self.given += [assignment_id for _, assignment_id in sends(outcome)]
        self.ended += ends(outcome)
        for each in outcome.transitions:
            if isinstance(each, AssignmentOffered):
                assert each.assignment.node_id in self.NODES
                self.nodes_of[each.assignment.id] = each.assignment.node_id
        for shard in (outcome.counted, outcome.awaiting):
            assert shard is None or shard.index not in self.counted
        if outcome.counted is not None:
            shard = outcome.counted
            self.counted.add(shard.index)
            self.done += range(shard.first_item, shard.first_item + shard.n_items)

    @rule(name=st.sampled_from(NODES), slots=st.integers(1, 3))
    def node_up(self, name: str, slots: int) -> None:
        self.take(self.scheduler.handle(self.change(name, slots), self.now))

    @rule(name=st.sampled_from(NODES))
    def node_down(self, name: str) -> None:
        self.take(self.scheduler.handle(NodeLost(name, "gone"), self.now))

    @rule()
    def give_out(self) -> None:
        self.take(self.scheduler.plan(self.now))

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.scheduler.handle(TimePassed(), self.now))

    @rule(
        data=st.data(),
        what=st.sampled_from(["ack", "nack", "right", "right", "right", "wrong", "failure"]),
    )
    def a_node_answers(self, data: st.DataObject, what: str) -> None:
        if not self.given:
            return
        assignment_id = data.draw(st.sampled_from(self.given))
        event: Event
        if what == "ack":
            event = Accepted(assignment_id)
        elif what == "nack":
            event = Rejected(assignment_id, "no")
        elif what == "failure":
            event = Failed(assignment_id, "trap")
        else:
            event = Finished(assignment_id, 0.1, what)
            if self.scheduler.assignment(assignment_id) is not None:
                owner = self.change(self.nodes_of[assignment_id], 1).owner
                self.answers[index_of(assignment_id)][what].add(owner)
        outcome = self.scheduler.handle(event, self.now)
        if outcome.counted is not None:
            self.check_quorum(assignment_id, what, outcome.counted)
        self.take(outcome)

    def check_quorum(self, assignment_id: str, sha: str, shard: Shard) -> None:
        known = next((k for k in self.plan.known if k.first_item == shard.first_item), None)
        if known is not None:
            assert (shard.n_items, sha) == (known.n_items, known.sha)
            return
        owners = self.answers[index_of(assignment_id)][sha]
        if self.redundancy.adaptive and self.nodes_of[assignment_id] in self.trusted:
            return
        assert len(owners) >= self.redundancy.quorum

    @rule()
    def the_gateway_starts_anew(self) -> None:
        """What is in the store is enough to go on."""
        before = self.scheduler.job("J")
        assert before is not None
        if before.ended:
            return
        shards = before.shards.values()
        live = [(attempt.snapshot(), None) for shard in shards for attempt in shard.live]
        failed = [
            (
                Assignment("x", "J", shard.index, 0, each.node_id, AssignmentState.FINISHED),
                each.text,
            )
            for shard in shards
            for each in shard.had.failures
        ]
        cut = Cutting(
            before.n_cut, before.first_uncut, before.n_done_shards, before.n_done_items,
            before.n_retries,
        )  # fmt: skip
        self.plan = dataclasses.replace(
            self.plan,
            cut=cut,
            shards=tuple(shard.snapshot() for shard in shards),
            assignments=(*live, *failed),
            votes=tuple(vote for shard in shards for vote in shard.votes),
            voters={name: self.change(name, 1).owner for name in self.NODES},
        )
        self.scheduler = machine()
        self.take(self.scheduler.handle(JobAdded(self.plan, 15.0), self.now))

    @invariant()
    def each_item_is_in_one_place(self) -> None:
        job = self.scheduler.job("J")
        assert job is not None
        places = list(range(job.first_uncut, 12))
        for shard in job.shards.values():
            places += range(shard.first_item, shard.first_item + shard.n_items)
        assert sorted(places + self.done) == list(range(12))

    @invariant()
    def shards_that_need_an_attempt_wait_for_one(self) -> None:
        job = self.scheduler.job("J")
        assert job is not None
        if not job.ended:
            lacking = {each.index for each in job.shards.values() if each.lacking(self.plan)}
            assert set(job.wanting) == lacking
            assert {
                each.index for each in job.shards.values() if each.state is ShardState.QUEUED
            } <= lacking

    @invariant()
    def what_a_job_holds_is_counted_once(self) -> None:
        job = self.scheduler.job("J")
        assert job is not None
        nodes = [self.scheduler.node(name) for name in self.NODES]
        assert job.n_open == sum(len(each.load) for each in nodes if each is not None)

    @invariant()
    def a_job_ends_once(self) -> None:
        assert len(self.ended) <= 1

    def teardown(self) -> None:
        """With enough good nodes and time, a job that was not failed always completes."""
        job = self.scheduler.job("J")
        assert job is not None
        for _ in range(60):
            if job.ended:
                break
            for name in self.NODES:
                self.take(self.scheduler.handle(self.change(name, 3), self.now))
            self.now += 120.0
            self.take(self.scheduler.handle(TimePassed(), self.now))
            self.take(self.scheduler.plan(self.now))
            for assignment_id in tuple(self.given):
                self.take(self.scheduler.handle(Finished(assignment_id, 0.1, "right"), self.now))
        assert job.ended


EverythingThatCanHappen.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestEverythingThatCanHappen = EverythingThatCanHappen.TestCase
