"""Who waits with a better right gets a slot that is taken, within five seconds."""

from collections import Counter

import pytest

from swarm_hub.components.scheduler import (
    WALL_TIME_S,
    AssignmentChanged,
    Failed,
    Finished,
    JobAdded,
    JobCancelled,
    NodeEntry,
    NodeLost,
    Rejected,
    TimePassed,
)
from swarm_hub.models.features import BASELINE
from swarm_hub.models.messages import GAVE_WAY
from swarm_hub.models.shard import AssignmentState
from tests.helpers.driven import TIMED_OUT, Driven, job, node, speed


def test_a_higher_priority_gets_a_slot_of_a_long_shard_and_that_is_no_retry() -> None:
    swarm = Driven(node("n", speeds=(speed("program of long", 600.0),)))
    swarm.add(job("long"))
    swarm.until(1.0)
    swarm.add(job("urgent", priority=1))
    # What ends by itself meanwhile would cost nothing.
    assert not swarm.withdrawn
    swarm.until(3.0)
    assert swarm.withdrawn == ["long.0.1"]
    assert swarm.given("urgent") == {"urgent.0.1": "n"}
    swarm.handle(Finished("urgent.0.1", 1.0))
    assert "long.0.2" in swarm.given("long")
    entry = swarm.machine.job("long")
    assert entry is not None
    assert entry.n_retries == 0


def test_a_result_that_was_under_way_counts_though_its_shard_gave_way() -> None:
    swarm = Driven(node("n", speeds=(speed("program of long", 600.0),)))
    swarm.add(job("long"))
    swarm.add(job("urgent", priority=1))
    swarm.until(2.0)
    assert swarm.withdrawn == ["long.0.1"]
    assert swarm.handle(Finished("long.0.1", 500.0)).counted is not None
    assert [each.job_id for each in swarm.ended] == ["long"]


def test_a_shard_that_ends_within_five_seconds_is_waited_for() -> None:
    swarm = Driven(node("n", speeds=(speed("program of long", 100.0),)))
    swarm.add(job("long"))
    swarm.until(96.0)
    swarm.add(job("urgent", priority=1))
    swarm.until(99.9)
    assert not swarm.withdrawn
    # It is late now, by little; who waits for it waits for five seconds in all.
    swarm.until(101.1)
    assert swarm.withdrawn == ["long.0.1"]
    assert swarm.given("urgent")


def test_a_lower_priority_never_takes_a_slot() -> None:
    swarm = Driven(node("n", speeds=(speed("program of long", 600.0),)))
    swarm.add(job("long", priority=1))
    swarm.add(job("small", owner="another"))
    swarm.until(14.0)
    assert not swarm.withdrawn
    assert not swarm.preempted
    assert not swarm.given("small")


def test_an_owner_below_half_of_a_share_gets_a_slot_of_one_who_has_more() -> None:
    speeds = (speed("program of large", 600.0),)
    swarm = Driven(*(node(name, speeds=speeds) for name in "abcd"))
    swarm.add(job("large", 100, owner="rich"))
    swarm.add(job("small", 100, owner="poor"))
    swarm.until(2.0)
    assert len(swarm.withdrawn) == 1
    assert len(swarm.given("small")) == 1
    # Half of an equal share of four slots is one.
    swarm.until(10.0)
    assert len(swarm.withdrawn) == 1


def test_equals_wait_for_each_other() -> None:
    program = "one program"
    swarm = Driven(node("n", speeds=(speed(program, 600.0),)))
    swarm.add(job("first", 10, program))
    swarm.add(job("second", 10, program))
    swarm.until(14.0)
    assert not swarm.withdrawn
    assert not swarm.preempted


def test_after_two_withdrawals_only_a_higher_priority_takes_a_shards_slot() -> None:
    speeds = (speed("program of large", 600.0), speed("p", 600.0))
    swarm = Driven(node("a", speeds=speeds), node("b", speeds=speeds))
    swarm.add(job("large", 2, owner="rich"))
    for number in range(6):
        swarm.add(job(f"small{number}", 1, "p", owner=f"poor{number}"))
        swarm.until(swarm.now + 2.0)
        for each in swarm.given(f"small{number}"):
            swarm.handle(Finished(each, 1.0))
    gave_way = Counter(each.rpartition(".")[0] for each in swarm.withdrawn)
    assert max(gave_way.values()) == 2
    before = len(swarm.withdrawn)
    swarm.add(job("urgent", 1, "p", priority=1))
    swarm.until(swarm.now + 2.0)
    assert len(swarm.withdrawn) == before + 1


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_new_module_gets_a_slot_beside_an_endless_one(slots: int) -> None:
    swarm = Driven(node("n", slots=slots))
    swarm.add(job("endless", 1000))
    swarm.until(10.0)
    swarm.add(job("small", 100))
    swarm.until(15.0)
    assert swarm.preempted
    first = next(iter(swarm.given("small")))
    swarm.handle(Finished(first, 0.01))
    # It is proven now, so it gets all but half of the slots at least.
    swarm.until(16.0)
    entry = swarm.machine.node("n")
    assert entry is not None
    held = Counter(each.job_id for each in entry.load)
    assert held["endless"] <= max(1, slots // 2)
    assert len(entry.background) <= slots


def test_what_was_suspended_goes_on_when_its_slot_is_free_and_can_still_finish() -> None:
    swarm = Driven(node("n"))
    swarm.add(job("unproven"))
    swarm.until(3.0)
    swarm.add(job("small"))
    assert swarm.preempted == ["unproven.0.1"]
    assert not swarm.withdrawn
    entry = swarm.machine.node("n")
    assert entry is not None
    assert [each.id for each in entry.background] == ["unproven.0.1"]
    swarm.handle(Finished("small.0.1", 1.0))
    assert not entry.background
    assert [each.id for each in entry.load] == ["unproven.0.1"]
    swarm.handle(Finished("unproven.0.1", 4.0))
    assert [each.job_id for each in swarm.ended] == ["small", "unproven"]
    told = swarm.machine.job("unproven")
    assert told is not None
    assert told.n_retries == 0


def test_a_node_that_can_not_suspend_has_the_shard_withdrawn() -> None:
    swarm = Driven(node("n", features=BASELINE))
    swarm.add(job("unproven"))
    swarm.until(3.0)
    swarm.add(job("small"))
    assert (swarm.preempted, swarm.withdrawn) == ([], ["unproven.0.1"])


def test_a_shard_that_its_worker_could_not_suspend_is_given_out_again() -> None:
    swarm = Driven(node("n"))
    swarm.add(job("unproven"))
    swarm.until(3.0)
    swarm.add(job("small"))
    swarm.handle(Rejected("unproven.0.1", f"{GAVE_WAY}: only 10 MiB are free"))
    swarm.handle(Finished("small.0.1", 1.0))
    assert "unproven.0.2" in swarm.given("unproven")
    told = swarm.machine.job("unproven")
    assert told is not None
    assert told.n_retries == 0


def test_a_worker_that_says_that_anything_gave_way_rests_like_any_that_gives_back() -> None:
    swarm = Driven(node("n"))
    swarm.add(job("one"))
    swarm.handle(Rejected("one.0.1", GAVE_WAY))
    assert "one.0.2" not in swarm.given("one")
    swarm.until(1.1)
    assert "one.0.2" in swarm.given("one")
    told = swarm.machine.job("one")
    assert told is not None
    assert told.n_retries == 1


def test_a_node_that_leaves_takes_what_it_suspended_along() -> None:
    swarm = Driven(node("n"))
    swarm.add(job("unproven"))
    swarm.until(3.0)
    swarm.add(job("small"))
    swarm.handle(NodeLost("n", "gone"))
    swarm.handle(node("m"))
    assert set(swarm.given("unproven").values()) | set(swarm.given("small").values()) >= {"m"}
    swarm.handle(JobCancelled("unproven"))
    swarm.handle(JobCancelled("small"))
    left = swarm.machine.node("m")
    assert left is not None
    assert not left.held()


def test_an_honest_long_shard_completes_on_its_first_attempt() -> None:
    swarm = Driven(node("a"), node("b"))
    swarm.add(job("honest"))
    swarm.until(40.0)
    assert swarm.withdrawn == []
    # The deadline of 15 s started a copy; the first one is as good.
    assert set(swarm.given("honest")) == {"honest.0.1", "honest.0.2"}
    assert swarm.handle(Finished("honest.0.1", 40.0)).counted is not None
    told = swarm.machine.job("honest")
    assert told is not None
    assert told.ended


@pytest.mark.parametrize("n_nodes", [1, 2, 3, 8])
def test_an_endless_module_fails_within_four_wall_times_on_any_fleet(n_nodes: int) -> None:
    swarm = Driven(*(node(f"n{number}") for number in range(n_nodes)))
    swarm.add(job("endless", 20))
    told: set[str] = set()
    while not swarm.ended:
        due = [at + WALL_TIME_S for each, (_, at) in swarm.sent.items() if each not in told]
        swarm.until(min(due))
        for each, (_, at) in tuple(swarm.sent.items()):
            if each not in told and at + WALL_TIME_S <= swarm.now:
                told.add(each)
                swarm.handle(Failed(each, TIMED_OUT))
    (end,) = swarm.ended
    assert swarm.now <= 4 * WALL_TIME_S
    assert end.failures[0] == (
        "it does not end: 3 attempts took all of their wall time of 60 s, and none gave a result"
    )


def test_an_endless_module_fails_for_that_reason_though_a_node_comes_late() -> None:
    swarm = Driven(node("a"), node("b"))
    swarm.add(job("endless"))
    for attempt in (1, 2, 3):
        while f"endless.0.{attempt}" not in swarm.sent:
            swarm.until(swarm.now + 0.5)
        if attempt == 3:
            swarm.handle(node("late"))
        swarm.handle(Failed(f"endless.0.{attempt}", TIMED_OUT))
    (end,) = swarm.ended
    assert str(end.failures[0]).startswith("it does not end: 3 attempts")


def test_a_node_that_ends_nothing_at_its_wall_time_loses_the_shard() -> None:
    swarm = Driven(node("stuck"))
    swarm.add(job("one"))
    swarm.until(15.0 + WALL_TIME_S + 10.1)
    assert swarm.withdrawn == ["one.0.1"]
    assert "one.0.2" in swarm.given("one")


def test_a_late_shard_of_a_proven_module_leaves_its_slot_to_who_waits() -> None:
    program = "proven"
    swarm = Driven(node("n", speeds=(speed(program, 1.0),)))
    swarm.add(job("late", 2, program))
    swarm.handle(Finished("late.0.1", 1.0))
    swarm.until(10.0)
    # Its deadline passed, but nobody else wants the slot.
    assert swarm.withdrawn == []
    swarm.add(job("another", 1, program))
    swarm.until(11.0)
    assert swarm.withdrawn == ["late.1.1"]
    assert swarm.given("another")


def test_nothing_is_queued_behind_a_long_shard_after_tiny_ones() -> None:
    """One rate for all programs once handed out nearly all of 400 long shards at once."""
    swarm = Driven(node("n", speeds=(speed("tiny", 0.001), speed("long", 1.0))))
    swarm.add(job("many", 400, "long"))
    assert len(swarm.given("many")) == 1
    swarm.add(job("others", 400, "tiny"))
    assert not swarm.given("others")


def test_a_speed_survives_the_absence_of_its_node() -> None:
    known = (speed("p", 10.0),)
    swarm = Driven(node("n", speeds=known))
    entry = swarm.machine.node("n")
    assert entry is not None
    assert entry.run_s("p", 3) == 30.0
    assert tuple(entry.speeds.values()) == known


def test_moves_to_expired_say_why() -> None:
    swarm = Driven(node("n", speeds=(speed("program of long", 600.0),)))
    swarm.add(job("long"))
    outcome = swarm.machine.handle(JobAdded(job("urgent", priority=1)), 0.0)
    for now in (1.0, 2.0, 3.0):
        outcome.add(swarm.machine.plan(now))
    (change,) = [
        each
        for each in outcome.transitions
        if isinstance(each, AssignmentChanged) and each.job_id == "long"
    ]
    assert (change.assignment.state, change.reason) == (AssignmentState.EXPIRED, GAVE_WAY)


def test_a_thousand_jobs_that_wait_cost_an_event_little() -> None:
    """Counted in what is looked at, not in seconds: each event once looked at every node."""
    swarm = Driven(*(node(f"n{number}", slots=2) for number in range(50)))
    for number in range(300):
        swarm.machine.handle(JobAdded(job(f"J{number:03}", 20, owner=f"o{number % 7}")), 0.0)
    swarm.handle(TimePassed())
    looked_at = 0
    has_room = NodeEntry.has_room

    def counting(self: NodeEntry, now: float, *, alone: bool) -> bool:
        nonlocal looked_at
        looked_at += 1
        return has_room(self, now, alone=alone)

    first = next(iter(swarm.sent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NodeEntry, "has_room", counting)
        swarm.handle(Finished(first, 0.5))
    # One node has room, and each of the jobs may look at it a few times.
    assert looked_at <= 10 * 300
