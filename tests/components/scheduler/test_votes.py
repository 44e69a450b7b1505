"""Whose results are compared with whose: owners, trusted nodes and others."""

import dataclasses

from swarm_hub.components.scheduler import (
    SINGLE,
    Failed,
    Finished,
    JobAdded,
    JobPlan,
    NodeChange,
    Outcome,
    Redundancy,
    Send,
    StandingChanged,
    StateMachine,
    adaptive_redundancy,
    is_trusted,
)
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.node import ProgramSpeed, Telemetry

RULE = expected.create(factor=2.0, initial_s=15)


def machine() -> StateMachine:
    return StateMachine(adaptive.create(), RULE)


def node(name: str, owner: str = "") -> NodeChange:
    return NodeChange(name, 1, Telemetry(), owner=owner)


def trusted(name: str) -> NodeChange:
    return NodeChange(name, 1, Telemetry(), agreements=30)


def job(job_id: str = "J", redundancy: Redundancy | None = None) -> JobPlan:
    return JobPlan(job_id, "m" * 64, 1, 1, 10**9, redundancy=redundancy or Redundancy(2))


def sent(outcome: Outcome) -> list[tuple[str, str]]:
    return [
        (each.node_id, each.assignment.id)
        for each in outcome.instructions
        if isinstance(each, Send)
    ]


def test_with_redundancy_each_owner_has_one_vote() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job()), 0.0)
    scheduler.handle(node("a", owner="one"), 0.0)
    scheduler.handle(node("b", owner="one"), 0.0)
    assert len(sent(scheduler.plan(0.0))) == 1
    assert scheduler.handle(Finished("J.0.1", 1.0, "right"), 1.0).awaiting is not None
    assert sent(scheduler.plan(1.0)) == []
    scheduler.handle(node("c", owner="two"), 2.0)
    assert sent(scheduler.plan(2.0)) == [("c", "J.0.2")]
    done = scheduler.handle(Finished("J.0.2", 1.0, "right"), 3.0)
    assert done.counted is not None
    assert sorted(done.judged) == [("a", True), ("c", True)]


def test_a_minority_is_scored_and_failures_never_agree() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(redundancy=Redundancy(3))), 0.0)
    for name in "abcdef":
        scheduler.handle(node(name), 0.0)
    given = dict(sent(scheduler.plan(0.0)))
    assert len(given) == 3
    first, second, third = given
    scheduler.handle(Failed(given[first], "ERROR"), 1.0)
    scheduler.handle(Finished(given[second], 1.0, "wrong"), 1.0)
    assert scheduler.handle(Finished(given[third], 1.0, "right"), 1.0).counted is None
    again = dict(sent(scheduler.plan(2.0)))
    assert len(again) == 1
    (fourth,) = again
    assert fourth not in (second, third)
    done = scheduler.handle(Finished(again[fourth], 1.0, "right"), 3.0)
    assert done.counted is not None
    assert sorted(done.judged) == sorted([(second, False), (third, True), (fourth, True)])


def test_what_an_untrusted_node_gave_is_confirmed_by_a_trusted_one_even_if_fuller() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job("L", SINGLE)), 0.0)
    measured = (ProgramSpeed("m" * 64, rate=8.0, shard_s=0.125),)
    scheduler.handle(dataclasses.replace(trusted("trusted"), speeds=measured), 0.0)
    assert sent(scheduler.plan(0.0)) == [("trusted", "L.0.1")]
    for name in ("new", "other"):
        scheduler.handle(node(name), 0.0)
    scheduler.handle(JobAdded(job()), 0.0)
    assert sent(scheduler.plan(0.0)) == [("new", "J.0.1"), ("trusted", "J.0.2")]


def test_what_a_trusted_node_gave_is_checked_by_one_that_can_earn_trust_by_it() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job()), 0.0)
    for name in ("trusted-1", "trusted-2"):
        scheduler.handle(trusted(name), 0.0)
    scheduler.handle(node("untrusted"), 0.0)
    assert sent(scheduler.plan(0.0)) == [("trusted-1", "J.0.1"), ("untrusted", "J.0.2")]


def test_a_dispute_is_settled_by_a_trusted_node() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job()), 0.0)
    for name in ("trusted-1", "trusted-2"):
        scheduler.handle(trusted(name), 0.0)
    for name in ("new-1", "new-2"):
        scheduler.handle(node(name), 0.0)
    given = dict(sent(scheduler.plan(0.0)))
    assert set(given) == {"trusted-1", "new-1"}
    scheduler.handle(Finished(given["new-1"], 1.0, "wrong"), 1.0)
    scheduler.handle(Finished(given["trusted-1"], 1.0, "right"), 1.0)
    assert [name for name, _ in sent(scheduler.plan(1.0))] == ["trusted-2"]


def test_where_trusted_nodes_are_always_free_others_still_earn_trust() -> None:
    scheduler = machine()
    for name in ("trusted-1", "trusted-2"):
        scheduler.handle(trusted(name), 0.0)
    scheduler.handle(node("new"), 0.0)
    for number in range(10):
        scheduler.handle(JobAdded(job(f"J{number}")), 0.0)
        for _, assignment_id in sent(scheduler.plan(0.0)):
            scheduler.handle(Finished(assignment_id, 1.0, "right"), 1.0)
    entry = scheduler.node("new")
    assert entry is not None
    assert is_trusted(entry.agreements, entry.contradictions, wary=scheduler.wary)


def test_what_another_gateway_saw_of_a_node_counts_here() -> None:
    scheduler = machine()
    scheduler.handle(node("a"), 0.0)
    scheduler.handle(StandingChanged("a", 10, 0), 1.0)
    scheduler.handle(StandingChanged("never here", 3, 0), 1.0)
    scheduler.handle(JobAdded(job("A", adaptive_redundancy(b"secret"))), 1.0)
    ((_, assignment_id),) = sent(scheduler.plan(1.0))
    assert scheduler.handle(Finished(assignment_id, 1.0, "right"), 2.0).counted is not None
    scheduler.handle(StandingChanged("a", 0, 1), 3.0)
    scheduler.handle(JobAdded(job("B", adaptive_redundancy(b"secret"))), 3.0)
    ((_, assignment_id),) = sent(scheduler.plan(3.0))
    assert scheduler.handle(Finished(assignment_id, 1.0, "right"), 4.0).counted is None
    assert scheduler.wary


def test_once_any_node_was_contradicted_all_have_to_earn_more() -> None:
    scheduler = machine()
    scheduler.handle(NodeChange("ten", 1, Telemetry(), agreements=10), 0.0)
    assert not scheduler.wary
    adaptive_job = job("A", adaptive_redundancy(b"secret"))
    scheduler.handle(JobAdded(adaptive_job), 0.0)
    ((_, assignment_id),) = sent(scheduler.plan(0.0))
    assert scheduler.handle(Finished(assignment_id, 1.0, "right"), 1.0).counted is not None
    # One who was contradicted before joins: what counted alone a moment ago is now confirmed.
    scheduler.handle(NodeChange("liar", 1, Telemetry(), contradictions=1), 2.0)
    assert scheduler.wary
    scheduler.handle(JobAdded(job("B", adaptive_redundancy(b"secret"))), 2.0)
    given = dict(sent(scheduler.plan(2.0)))
    assert set(given) == {"ten", "liar"}
    assert scheduler.handle(Finished(given["ten"], 1.0, "right"), 3.0).counted is None
