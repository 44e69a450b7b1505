"""What is given to whom: shares, stragglers, constraints, quarantines, bad strategies."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from swarm_hub.components.scheduler import (
    Cut,
    Failed,
    Finished,
    JobAdded,
    JobCancelled,
    JobEnded,
    JobLimits,
    JobPlan,
    JobView,
    NodeChange,
    NodeLost,
    NodeView,
    Outcome,
    Rejected,
    Send,
    StateMachine,
    TimePassed,
    Withdraw,
)
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.job import Constraints, JobState
from swarm_hub.models.node import ProgramSpeed, Telemetry

RULE = expected.create(factor=2.0, initial_s=15)
MIB = 1024 * 1024
# A slot is kept busy by one more shard of a quarter of a second.
MEASURED = (ProgramSpeed("m" * 64, rate=8.0, shard_s=0.125),)


def machine(strategy: Any = None) -> StateMachine:
    return StateMachine(strategy or adaptive.create(), RULE)


def node(name: str, slots: int = 1, telemetry: Telemetry | None = None, **more: Any) -> NodeChange:
    return NodeChange(name, slots, telemetry or Telemetry(), **more)


def job(job_id: str = "J", n_items: int = 100, shard_size: int | None = 1, **more: Any) -> JobPlan:
    return JobPlan(job_id, "m" * 64, n_items, shard_size, 10**9, **more)


def sent(outcome: Outcome) -> list[tuple[str, str]]:
    return [
        (each.node_id, each.assignment.id)
        for each in outcome.instructions
        if isinstance(each, Send)
    ]


def test_a_node_that_rests_and_is_lost_meanwhile_gets_nothing() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job()), 0.0)
    scheduler.handle(node("a"), 0.0)
    _, assignment_id = sent(scheduler.plan(0.0))[0]
    scheduler.handle(Rejected(assignment_id, "no space"), 0.1)
    scheduler.handle(NodeLost("a", "gone"), 0.5)
    scheduler.handle(node("b"), 0.6)
    scheduler.plan(0.6)
    scheduler.handle(TimePassed(), 1.2)
    assert {name for name, _ in sent(scheduler.plan(1.2))} <= {"b"}


def by_job(outcome: Outcome) -> Counter[str]:
    return Counter(assignment_id.partition(".")[0] for _, assignment_id in sent(outcome))


def ended(outcome: Outcome) -> list[JobEnded]:
    return [each for each in outcome.transitions if isinstance(each, JobEnded)]


def test_a_large_job_leaves_half_of_the_room_to_another_owners_small_one() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job("large", 1000, owner="a")), 0.0)
    scheduler.handle(JobAdded(job("small", 1000, owner="b")), 0.0)
    scheduler.handle(node("n", slots=4, speeds=MEASURED), 0.0)
    assert by_job(scheduler.plan(0.0)) == {"large": 4, "small": 4}


def test_an_owner_with_many_jobs_gets_no_more_than_one_with_one() -> None:
    scheduler = machine()
    for number in range(3):
        scheduler.handle(JobAdded(job(f"many{number}", owner="a")), 0.0)
    scheduler.handle(JobAdded(job("one", owner="b")), 0.0)
    scheduler.handle(node("n", slots=6, speeds=MEASURED), 0.0)
    assert by_job(scheduler.plan(0.0)) == {"many0": 2, "many1": 2, "many2": 2, "one": 6}


def test_the_next_free_place_goes_to_the_owner_who_holds_the_fewest() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job("large", 1000, owner="a")), 0.0)
    scheduler.handle(node("n"), 0.0)
    assert by_job(scheduler.plan(0.0)) == {"large": 2}
    scheduler.handle(JobAdded(job("small", 5, owner="b")), 1.0)
    scheduler.handle(Finished("large.0.1", 10.0), 10.0)
    scheduler.handle(Finished("large.1.1", 10.0), 10.0)
    assert by_job(scheduler.plan(10.0)) == {"small": 1}


def test_the_more_urgent_job_goes_first_whoever_owns_it() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job("normal", owner="a")), 0.0)
    scheduler.handle(JobAdded(job("urgent", owner="b", priority=1)), 0.0)
    scheduler.handle(node("n"), 0.0)
    assert by_job(scheduler.plan(0.0)) == {"urgent": 1}


def test_what_one_owner_can_not_use_the_other_gets() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job("small", 1, owner="a")), 0.0)
    scheduler.handle(JobAdded(job("large", 1000, owner="b")), 0.0)
    scheduler.handle(node("n", slots=4, speeds=MEASURED), 0.0)
    assert by_job(scheduler.plan(0.0)) == {"small": 1, "large": 7}


def with_a_straggler() -> StateMachine:
    """One of two equally fast nodes does not end its last shard."""
    scheduler = machine()
    scheduler.handle(JobAdded(job(n_items=4)), 0.0)
    for name in ("a", "b"):
        scheduler.handle(node(name), 0.0)
    scheduler.plan(0.0)
    for assignment_id in ("J.0.1", "J.1.1"):
        scheduler.handle(Finished(assignment_id, 4.0), 4.0)
    assert sent(scheduler.plan(4.0)) == []
    scheduler.handle(Finished("J.2.1", 4.0), 8.0)
    return scheduler


def test_a_node_without_work_copies_a_straggler_once_and_the_first_result_wins() -> None:
    scheduler = with_a_straggler()
    now, copies = 8.0, []
    while not copies and now < 60:
        assert scheduler.handle(TimePassed(), now).returned == []
        copies = sent(scheduler.plan(now))
        next_look = scheduler.next_deadline()
        assert next_look is not None
        now = max(now, next_look) if not copies else now
    assert copies == [("a", "J.3.2")]
    # It should have been done at 8 s, and a copy takes 4 s: it pays from 8 + 4 / 0.75 s on.
    assert now == pytest.approx(8 + 4 / 0.75, abs=0.02)
    assert sent(scheduler.plan(now + 1)) == []
    done = scheduler.handle(Finished("J.3.2", 1.0), now + 1)
    assert Withdraw("b", "J.3.1") in done.instructions
    assert ended(done)[0].state is JobState.COMPLETED


def test_a_straggler_that_ends_in_its_time_is_not_copied() -> None:
    scheduler = with_a_straggler()
    scheduler.handle(TimePassed(), 8.1)
    assert sent(scheduler.plan(8.1)) == []
    assert ended(scheduler.handle(Finished("J.3.1", 4.1), 8.2))


@pytest.mark.parametrize(
    ("constraints", "change", "why"),
    [
        (Constraints(memory=512 * MIB), node("n", memory_bytes=128 * MIB), "lacks 512.0 MiB"),
        (
            Constraints(memory=512 * MIB),
            node("n", telemetry=Telemetry(available_memory_bytes=MIB)),
            "lacks 512.0 MiB of memory",
        ),
        (
            Constraints(min_battery=30),
            node("n", telemetry=Telemetry(has_battery=True, battery_percent=29)),
            "below 30 % battery",
        ),
        (
            Constraints(charging=True),
            node("n", telemetry=Telemetry(has_battery=True, charging=False)),
            "not charging",
        ),
        (
            Constraints(max_temperature=40),
            node("n", telemetry=Telemetry(temperature_c=41)),
            "warmer than 40 °C",
        ),
        (
            Constraints(metered=False),
            node("n", telemetry=Telemetry(has_battery=False, metered=True)),
            "on a metered network",
        ),
        (
            Constraints(node_labels=(("room", "kitchen"),)),
            node("n", labels=frozenset({("room", "hall")})),
            "without the label room: kitchen",
        ),
    ],
)
def test_a_job_waits_for_a_node_that_fits_and_says_what_the_others_lack(
    constraints: Constraints, change: NodeChange, why: str
) -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(constraints=constraints)), 0.0)
    scheduler.handle(change, 0.0)
    assert sent(scheduler.plan(0.0)) == []
    told = scheduler.why_waiting("J", 0.0)
    assert told is not None
    assert told.startswith(f"1 node: 1 {why}")
    fitting = node("fit", labels=frozenset({("room", "kitchen")}))
    scheduler.handle(fitting, 1.0)
    assert {name for name, _ in sent(scheduler.plan(1.0))} == {"fit"}


def test_what_a_node_does_not_tell_is_no_reason() -> None:
    wanted = Constraints(MIB, 50, 30, charging=True, metered=False)
    scheduler = machine()
    scheduler.handle(JobAdded(job(constraints=wanted)), 0.0)
    scheduler.handle(node("silent"), 0.0)
    scheduler.handle(node("desktop", telemetry=Telemetry(has_battery=False)), 0.0)
    assert {name for name, _ in sent(scheduler.plan(0.0))} == {"silent", "desktop"}


def test_the_reasons_are_counted() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(constraints=Constraints(memory=512 * MIB, min_battery=30))), 0.0)
    low = Telemetry(has_battery=True, battery_percent=10)
    for name in ("a", "b"):
        scheduler.handle(node(name, telemetry=low), 0.0)
    scheduler.handle(node("c", memory_bytes=MIB), 0.0)
    told = scheduler.why_waiting("J", 0.0)
    assert told == "3 nodes: 2 below 30 % battery, 1 lacks 512.0 MiB of memory"


def test_a_node_on_which_a_module_fails_that_works_elsewhere_is_kept_from_it_for_a_while() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(n_items=1000)), 0.0)
    for name in ("good", "bad"):
        scheduler.handle(node(name), 0.0)
    now, quarantined = 0.0, []
    while not quarantined and now < 50:
        outcome = scheduler.plan(now)
        now += 1.0
        for name, assignment_id in sent(outcome):
            event = Failed(assignment_id, "trap") if name == "bad" else Finished(assignment_id, 1.0)
            quarantined += scheduler.handle(event, now).quarantined
    assert [name for name, _ in quarantined] == ["bad"]
    assert {name for name, _ in sent(scheduler.plan(now + 1))} <= {"good"}
    # Another module is not concerned.
    other = JobPlan("K", "k" * 64, 10, 1, 10**9, priority=1)
    scheduler.handle(JobAdded(other), now + 1)
    assert "bad" in {name for name, _ in sent(scheduler.plan(now + 1))}
    bad = scheduler.node("bad")
    assert bad is not None
    assert bad.quarantined("m" * 64, now + 59) is not None
    assert bad.quarantined("m" * 64, now + 61) is None


def test_of_how_many_modules_a_node_is_a_bad_place_is_bounded() -> None:
    scheduler = machine()
    scheduler.handle(node("a"), 0.0)
    for number in range(40):
        plan = JobPlan(f"J{number}", f"module-{number}", 1, 1, 10**9)
        scheduler.handle(JobAdded(plan), 0.0)
        ((_, assignment_id),) = sent(scheduler.plan(0.0))
        scheduler.handle(Failed(assignment_id, "trap"), 0.0)
        scheduler.handle(JobCancelled(f"J{number}"), 0.0)
    entry = scheduler.node("a")
    assert entry is not None
    assert list(entry.faults) == [f"module-{number}" for number in range(24, 40)]


def test_a_job_past_its_deadline_fails_and_says_how_far_it_was() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(n_items=4, deadline_in_s=60.0)), 0.0)
    scheduler.handle(node("a"), 0.0)
    scheduler.plan(0.0)
    scheduler.handle(Finished("J.0.1", 1.0), 1.0)
    assert not ended(scheduler.handle(TimePassed(), 59.0))
    outcome = scheduler.handle(TimePassed(), 60.0)
    (end,) = ended(outcome)
    assert end.state is JobState.FAILED
    assert end.failures == ("its deadline passed with 1 of 4 items done",)
    assert any(isinstance(each, Withdraw) for each in outcome.instructions)


class Broken:
    """NodeMessages with whatever it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def cut(self, _job: JobView, _nodes: Sequence[NodeView]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        ZeroDivisionError("division by zero"),
        None,
        [Cut("nobody", 1)],
        [Cut("a", 0)],
        [Cut("a", 1.5)],  # type: ignore[arg-type]
        ["a"],
    ],
)
def test_a_strategy_that_fails_is_told_of_once_and_the_default_takes_over(answer: Any) -> None:
    scheduler = machine(Broken(answer))
    scheduler.handle(JobAdded(job()), 0.0)
    scheduler.handle(node("a"), 0.0)
    outcome = scheduler.plan(0.0)
    assert outcome.strategy_fault is not None
    assert len(sent(outcome)) == 2
    scheduler.handle(Finished("J.0.1", 1.0), 1.0)
    assert scheduler.plan(1.0).strategy_fault is None


def test_a_strategy_that_wants_to_wait_may() -> None:
    scheduler = machine(Broken([]))
    scheduler.handle(JobAdded(job()), 0.0)
    scheduler.handle(node("a"), 0.0)
    outcome = scheduler.plan(0.0)
    assert (outcome.strategy_fault, sent(outcome)) == (None, [])


def test_a_faster_node_gets_larger_pieces_and_they_shrink_towards_the_end() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(n_items=100_000, shard_size=None)), 0.0)
    for name in ("slow", "fast"):
        scheduler.handle(node(name), 0.0)
    sizes: dict[str, list[int]] = {"slow": [], "fast": []}
    rates = {"slow": 100, "fast": 400}
    now = 0.0
    waiting: list[tuple[float, str, str, float]] = []
    free_at = {"slow": 0.0, "fast": 0.0}
    while True:
        for each in scheduler.plan(now).instructions:
            if isinstance(each, Send):
                sizes[each.node_id].append(each.n_items)
                wall_s = each.n_items / rates[each.node_id]
                free_at[each.node_id] = max(now, free_at[each.node_id]) + wall_s
                waiting.append((free_at[each.node_id], each.node_id, each.assignment.id, wall_s))
        if not waiting:
            break
        waiting.sort()
        now, _, assignment_id, wall_s = waiting.pop(0)
        scheduler.handle(Finished(assignment_id, wall_s), now)
    assert sum(sizes["slow"]) + sum(sizes["fast"]) >= 100_000
    # The least time is 200 s; no node idles long while the other works.
    assert now < 1.1 * 200
    assert max(sizes["fast"]) > 2 * max(sizes["slow"])
    assert sizes["fast"][-1] < max(sizes["fast"]) / 4


def test_of_like_nodes_the_trusted_one_goes_first_and_one_on_a_metered_network_last() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(n_items=3)), 0.0)
    scheduler.handle(node("a", telemetry=Telemetry(metered=True), agreements=30), 0.0)
    scheduler.handle(node("b"), 0.0)
    scheduler.handle(node("c", agreements=30), 0.0)
    assert [name for name, _ in sent(scheduler.plan(0.0))] == ["c", "b", "a"]


def test_a_job_goes_only_to_nodes_that_know_what_it_needs() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job(needs=frozenset({"later", "fuel"}))), 0.0)
    scheduler.handle(node("old"), 0.0)
    scheduler.handle(node("bare", features=frozenset()), 0.0)
    assert sent(scheduler.plan(0.0)) == []
    told = "2 nodes: 1 without the feature fuel, later, 1 without the feature later"
    assert scheduler.why_waiting("J", 0.0) == told
    scheduler.handle(node("new", features=frozenset({"fuel", "later"})), 1.0)
    assert {name for name, _ in sent(scheduler.plan(1.0))} == {"new"}


def test_a_node_that_gives_work_back_for_a_feature_gets_no_more_that_needs_it() -> None:
    scheduler = machine()
    scheduler.handle(node("a", features=frozenset({"later"})), 0.0)
    scheduler.handle(JobAdded(job(needs=frozenset({"later"}))), 0.0)
    first, *_ = sent(scheduler.plan(0.0))
    # What the job does not need is no reason.
    lacks = frozenset({"later", "fuel"})
    scheduler.handle(Rejected(first[1], "it lacks it", lacks), 0.0)
    assert scheduler.why_waiting("J", 0.0) is None
    for assignment_id in ("J.1.1", "J.0.2"):
        scheduler.handle(Rejected(assignment_id, "it lacks it", lacks), 0.0)
    assert sent(scheduler.plan(0.0)) == sent(scheduler.plan(9.0)) == []
    assert scheduler.why_waiting("J", 9.0) == "1 node: 1 without the feature later"
    scheduler.handle(JobAdded(job("K", needs=frozenset({"fuel"}))), 9.0)
    assert sent(scheduler.plan(9.0)) == []
    scheduler.handle(JobAdded(job("L")), 9.0)
    assert {assignment_id.partition(".")[0] for _, assignment_id in sent(scheduler.plan(9.0))} == {
        "L"
    }
    # It may have been upgraded while it was away.
    scheduler.handle(NodeLost("a", "gone"), 10.0)
    scheduler.handle(node("a", features=frozenset({"later"})), 11.0)
    assert {assignment_id.partition(".")[0] for _, assignment_id in sent(scheduler.plan(11.0))} == {
        "J"
    }


def test_a_node_that_lacks_what_nobody_asked_for_rests_as_any_that_gives_work_back() -> None:
    scheduler = machine()
    scheduler.handle(node("a"), 0.0)
    scheduler.handle(JobAdded(job()), 0.0)
    first, *_ = sent(scheduler.plan(0.0))
    scheduler.handle(Rejected(first[1], "no", frozenset({"later"})), 0.0)
    assert sent(scheduler.plan(0.5)) == []
    scheduler.handle(TimePassed(), 1.5)
    assert sent(scheduler.plan(1.5)) != []


def test_a_node_that_only_finishes_what_was_accepted_gets_no_shard_of_another_job() -> None:
    scheduler = machine()
    for job_id in ("J", "K"):
        scheduler.handle(JobAdded(JobPlan(job_id, "m" * 64, 100, 1, 10**9)), 0.0)
    limits = JobLimits(frozenset("J"), "its disk is nearly full")
    scheduler.handle(node("a", slots=4, limits=limits), 0.0)
    given = {index.partition(".")[0] for _, index in sent(scheduler.plan(0.0))}
    assert given == {"J"}
    assert scheduler.why_waiting("K", 0.0) == "1 node: 1 its disk is nearly full"
    scheduler.handle(node("a", slots=4), 0.0)
    assert scheduler.why_waiting("K", 0.0) != "1 node: 1 its disk is nearly full"


def test_a_node_with_fewer_slots_gets_less_and_with_more_again_what_it_holds_begins() -> None:
    scheduler = machine()
    scheduler.handle(JobAdded(job()), 0.0)
    scheduler.handle(node("a", 4), 0.0)
    first = sent(scheduler.plan(0.0))
    assert len(first) >= 4
    scheduler.handle(node("a", 1), 1.0)
    assert sent(scheduler.plan(1.0)) == []
    entry = scheduler.node("a")
    assert entry is not None
    assert [each.id for each in entry.running()] == [first[0][1]]
    # It gave back what it had not begun.
    for _, assignment_id in first[1:]:
        scheduler.handle(Rejected(assignment_id, "not charging"), 1.0)
    scheduler.handle(TimePassed(), 3.0)
    again = sent(scheduler.plan(3.0))
    assert 0 < len(again) < 3
    scheduler.handle(node("a", 4), 9.0)
    assert [each.begun_at for each in entry.load] == [0.0, *[9.0] * len(again)]
    assert len(again) + len(sent(scheduler.plan(9.0))) >= 3
