"""The states: what may follow what, and that no item is ever lost or counted twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm_hub.components.scheduler import (
    AssignmentChanged,
    AssignmentOffered,
    ImpossibleTransitionError,
    JobEnded,
    JobPlan,
    NodeChange,
    Outcome,
    Send,
    StateMachine,
    Withdraw,
    adaptive,
)
from swarm_hub.components.scheduler.entries import ShardEntry
from swarm_hub.components.sla import expected
from swarm_hub.models.job import JobState
from swarm_hub.models.node import Telemetry
from swarm_hub.models.shard import AssignmentState, Cutting, Shard, ShardState

RULE = expected.create(factor=2.0, initial=15)


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
    scheduler.add_job(plan(2), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    first = scheduler.plan(0.0)
    assert sends(first) == [("a", "J.0.1"), ("a", "J.1.1")]
    assert not ends(scheduler.finished("J.0.1", 0.1))
    (end,) = ends(scheduler.finished("J.1.1", 0.1))
    assert end.state is JobState.COMPLETED


def test_an_expired_shard_goes_to_another_node_and_the_first_result_wins() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.node_changed(node("b"), 0.0)
    assert scheduler.next_deadline() == 15.0
    assert scheduler.expire(15.0).returned
    assert sends(scheduler.plan(15.0)) == [("b", "J.0.2")]
    late = scheduler.finished("J.0.1", 16.0)
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
    scheduler.add_job(plan(2), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.node_lost("a", "gone")
    scheduler.node_changed(node("b"), 1.0)
    scheduler.plan(1.0)
    assert scheduler.finished("J.0.2", 0.1).counted is not None
    assert scheduler.finished("J.0.1", 0.1).counted is None


def test_what_a_node_never_acked_holds_no_place_there_and_may_go_to_it_again() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.expire(15.0)
    assert sends(scheduler.plan(15.0)) == [("a", "J.0.2")]


def test_what_a_node_acked_is_not_given_to_it_twice() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.accepted("J.0.1")
    scheduler.expire(15.0)
    assert not sends(scheduler.plan(15.0))
    assert scheduler.finished("J.0.1", 16.0).counted is not None


def test_each_attempt_gets_twice_the_time() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    now = 0.0
    for wait_s, name in ((15.0, "a"), (30.0, "b"), (60.0, "c")):
        scheduler.node_changed(node(name), now)
        scheduler.plan(now)
        assert scheduler.next_deadline() == now + wait_s
        now += wait_s
        scheduler.expire(now)


def test_a_lost_nodes_shards_are_given_out_again_also_to_itself() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    assert scheduler.node_lost("a", "gone").returned
    assert not sends(scheduler.plan(0.0))
    scheduler.node_changed(node("a"), 1.0)
    assert sends(scheduler.plan(1.0)) == [("a", "J.0.2")]


def test_failures_on_three_nodes_fail_the_job_with_the_text_of_each() -> None:
    scheduler = machine()
    scheduler.add_job(plan(2), 0.0)
    end: list[JobEnded] = []
    for name in ("a", "b", "c"):
        scheduler.node_changed(node(name), 0.0)
        held = [sent for sent in sends(scheduler.plan(0.0)) if sent[1].startswith("J.0.")]
        assert [where for where, _ in held] == [name]
        end = ends(scheduler.failed(held[0][1], f"trap: on {name}"))
    assert end[0].state is JobState.FAILED
    assert end[0].failures == ("a: trap: on a", "b: trap: on b", "c: trap: on c")


def test_on_a_single_node_three_failures_fail_the_job() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    for attempt in (1, 2, 3):
        assert sends(scheduler.plan(0.0)) == [("a", f"J.0.{attempt}")]
        outcome = scheduler.failed(f"J.0.{attempt}", "trap")
    assert ends(outcome)[0].state is JobState.FAILED


def test_time_outs_and_lost_nodes_are_no_failures() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    for number in range(10):
        scheduler.node_changed(node(f"n{number}"), 0.0)
        assert len(sends(scheduler.plan(0.0))) == 1
        assert not ends(scheduler.node_lost(f"n{number}", "gone"))


def test_a_rejecting_node_gets_a_rest_and_the_shard_goes_elsewhere() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.rejected("J.0.1", "no space", 0.0)
    assert not sends(scheduler.plan(0.5))
    assert scheduler.next_deadline() == 1.0
    assert sends(scheduler.plan(1.0)) == [("a", "J.0.2")]


def test_cancelling_withdraws_what_is_out() -> None:
    scheduler = machine()
    scheduler.add_job(plan(3), 0.0)
    scheduler.node_changed(node("a"), 0.0)
    scheduler.plan(0.0)
    outcome = scheduler.cancel("J")
    assert Withdraw("a", "J.0.1") in outcome.instructions
    assert ends(outcome)[0].state is JobState.CANCELLED
    assert scheduler.finished("J.0.1", 0.1).counted is None
    assert not sends(scheduler.plan(0.0))


def test_a_refusing_node_gets_nothing_and_the_job_says_why_it_waits() -> None:
    scheduler = machine()
    scheduler.add_job(plan(1), 0.0)
    assert scheduler.why_waiting("J") == "no worker is connected"
    scheduler.node_changed(node("a", refuses="not charging"), 0.0)
    assert not sends(scheduler.plan(0.0))
    assert scheduler.why_waiting("J") == "1 nodes take no work: not charging"


def test_after_a_restart_open_assignments_are_sent_again_and_late_results_count() -> None:
    before = machine()
    before.add_job(plan(3), 0.0)
    before.node_changed(node("a"), 0.0)
    offered = before.plan(0.0)
    before.finished("J.0.1", 0.1)
    entry = before.job("J")
    assert entry is not None
    restored = JobPlan(
        "J", "m" * 64, 3, 1, 10**9, 0, Cutting(2, 2, 1, 1, 0),
        tuple(shard.snapshot() for shard in entry.shards.values()),
        tuple(
            (each.snapshot(), None)
            for shard in entry.shards.values()
            for each in shard.live.values()
        ),
    )  # fmt: skip
    assert len(sends(offered)) == 2
    after = machine()
    after.add_job(restored, 100.0, reconnect_s=15.0)
    assert after.next_deadline() == 115.0
    again = after.node_changed(node("a"), 101.0)
    assert [send.assignment.id for send in again] == ["J.1.1"]
    assert after.finished("J.1.1", 0.1).counted is not None
    assert sends(after.plan(101.0)) == [("a", "J.2.1")]


def test_an_impossible_transition_tells_the_shards_story() -> None:
    shard = ShardEntry("J", 7, 0, 1)
    shard.move(ShardState.ASSIGNED, "J.7.1 offered to a")
    shard.move(ShardState.DONE, "J.7.1 finished")
    with pytest.raises(ImpossibleTransitionError, match=r"shard 7 of J: J.7.1 offered to a; J.7.1"):
        shard.move(ShardState.ASSIGNED, "again")


class EverythingThatCanHappen(RuleBasedStateMachine):
    """Random events against the invariants of DESIGN, section 2."""

    NODES = ("a", "b", "c", "d")

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = machine()
        self.scheduler.add_job(plan(12, shard_size=None), 0.0)
        self.now = 0.0
        self.given: list[str] = []
        self.counted: set[int] = set()
        self.done: list[int] = []
        self.ended: list[JobEnded] = []

    def take(self, outcome: Outcome) -> None:
        self.given += [held for _, held in sends(outcome)]
        self.ended += ends(outcome)
        for each in outcome.transitions:
            if isinstance(each, AssignmentOffered):
                assert each.assignment.node_id in self.NODES

    def take_done(self, shard: Shard) -> None:
        self.counted.add(shard.index)
        self.done += range(shard.first_item, shard.first_item + shard.n_items)

    @rule(name=st.sampled_from(NODES), slots=st.integers(1, 3))
    def node_up(self, name: str, slots: int) -> None:
        self.scheduler.node_changed(node(name, slots), self.now)

    @rule(name=st.sampled_from(NODES))
    def node_down(self, name: str) -> None:
        self.take(self.scheduler.node_lost(name, "gone"))

    @rule()
    def give_out(self) -> None:
        self.take(self.scheduler.plan(self.now))

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.scheduler.expire(self.now))

    @rule(data=st.data(), what=st.sampled_from(["ack", "nack", "result", "failure"]))
    def a_node_answers(self, data: st.DataObject, what: str) -> None:
        if not self.given:
            return
        held = data.draw(st.sampled_from(self.given))
        if what == "ack":
            self.take(self.scheduler.accepted(held))
        elif what == "nack":
            self.take(self.scheduler.rejected(held, "no", self.now))
        elif what == "failure":
            self.take(self.scheduler.failed(held, "trap"))
        else:
            outcome = self.scheduler.finished(held, 0.1)
            if outcome.counted is not None:
                assert outcome.counted.index not in self.counted
                self.take_done(outcome.counted)
            self.take(outcome)

    @invariant()
    def each_item_is_in_one_place(self) -> None:
        job = self.scheduler.job("J")
        assert job is not None
        places = list(range(job.first_uncut, 12))
        for shard in job.shards.values():
            places += range(shard.first_item, shard.first_item + shard.n_items)
        assert sorted(places + self.done) == list(range(12))

    @invariant()
    def queued_shards_are_those_waiting_to_be_given_out(self) -> None:
        job = self.scheduler.job("J")
        assert job is not None
        queued = [each.index for each in job.shards.values() if each.state is ShardState.QUEUED]
        assert sorted(job.returned) == queued

    @invariant()
    def a_job_ends_once(self) -> None:
        assert len(self.ended) <= 1

    def teardown(self) -> None:
        """With four good nodes and time, a job that was not failed always completes."""
        job = self.scheduler.job("J")
        assert job is not None
        for _ in range(60):
            if job.ended:
                break
            for name in self.NODES:
                self.scheduler.node_changed(node(name, 3), self.now)
            self.now += 120.0
            self.take(self.scheduler.expire(self.now))
            self.take(self.scheduler.plan(self.now))
            for held in tuple(self.given):
                self.take(self.scheduler.finished(held, 0.1))
        assert job.ended


EverythingThatCanHappen.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestEverythingThatCanHappen = EverythingThatCanHappen.TestCase
