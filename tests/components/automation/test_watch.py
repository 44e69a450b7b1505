"""When an automation is triggered, by events, times and values that a test gives."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.automation.schema import automations
from swarm_hub.components.automation.watch import Watch
from swarm_hub.models.event import DurableEvent, EventType

NOON = 1_800_000_000.0


def watch(trigger: Any, memory: Any = None, **more: Any) -> Watch:
    (automation,) = automations(
        [{"alias": "A", "trigger": trigger, "action": {"notify": "x"}, **more}]
    ).automations
    return Watch(automation, {} if memory is None else memory, NOON)


def event(seq: int, kind: EventType = EventType.JOB_COMPLETED, **data: Any) -> DurableEvent:
    return DurableEvent(seq, kind, NOON + seq, data, data.get("job_id"))


@pytest.mark.parametrize(
    ("filtered", "labels", "data", "found"),
    [
        ({}, {}, {}, True),
        ({"labels": {"stage": "map"}}, {"stage": "map", "more": "x"}, {}, True),
        ({"labels": {"stage": "map"}}, {"stage": "reduce"}, {}, False),
        ({"labels": {"stage": "map"}}, {}, {}, False),
        ({"where": {"n_items": 3}}, {}, {"n_items": 3}, True),
        ({"where": {"n_items": 3}}, {}, {"n_items": 4}, False),
        ({"where": {"reason": None}}, {}, {}, False),
    ],
)
def test_an_event_triggers_if_its_labels_and_its_data_are_those(
    filtered: Any, labels: dict[str, str], data: dict[str, Any], found: bool
) -> None:
    made = watch({"event": "job_completed", **filtered})
    assert (made.on_event(event(7, **data), labels) is not None) is found
    assert made.on_event(event(8, EventType.JOB_FAILED, **data), labels) is None


def test_an_event_triggers_once_whatever_number_of_triggers_it_fits() -> None:
    made = watch([{"event": "job_completed"}, {"event": "job_completed", "labels": {}}])
    firing = made.on_event(event(7), {})
    assert firing is not None
    assert firing.id == "e7"


def test_a_missed_time_triggers_once() -> None:
    made = watch({"cron": "*/10 * * * *", "time_zone": "UTC"})
    assert made.on_time(NOON + 1, 0, None) == []
    due = made.next_at(NOON + 1)
    assert due is not None
    assert 0 < due - NOON <= 600
    (firing,) = made.on_time(NOON + 86_400 * 3, 0, None)
    assert made.on_time(NOON + 86_400 * 3 + 1, 0, None) == []
    # After a restart in between, it is known from the memory.
    again = watch({"cron": "*/10 * * * *", "time_zone": "UTC"}, made.memory)
    assert again.on_time(NOON + 86_400 * 3 + 1, 0, None) == []
    assert firing.id == f"t0.{int(firing.at)}"


def test_a_clock_that_is_put_back_triggers_nothing_and_is_followed() -> None:
    made = watch({"cron": "*/10 * * * *", "time_zone": "UTC"})
    assert made.on_time(NOON - 86_400, 0, None) == []
    assert len(made.on_time(NOON - 86_400 + 700, 0, None)) == 1


def test_an_absence_triggers_once_until_there_is_such_an_event() -> None:
    made = watch({"absence": "job_completed", "for": "1h", "labels": {"a": "b"}})
    assert made.on_time(NOON + 3599, 0, None) == []
    assert len(made.on_time(NOON + 3600, 0, None)) == 1
    assert made.on_time(NOON + 9999, 0, None) == []
    assert made.next_at(NOON) is None
    made.on_event(event(5000), {})
    assert made.on_time(NOON + 9999, 0, None) == []
    made.on_event(event(5000), {"a": "b"})
    assert made.next_at(NOON) == NOON + 5000 + 3600
    assert len(made.on_time(NOON + 9999, 0, None)) == 1


def test_a_value_triggers_when_it_was_beyond_for_so_long_and_again_after_it_was_not() -> None:
    made = watch({"threshold": "nodes_up", "below": 2, "for": "5m"})

    def at(monotonic: float, value: float) -> int:
        return len(made.on_time(NOON + monotonic, monotonic, {"nodes_up": value}))

    assert [at(0, 1), at(299, 1), at(300, 1), at(301, 0)] == [0, 0, 1, 0]
    assert [at(400, 2), at(401, 1), at(600, 3), at(601, 1), at(901, 1)] == [0, 0, 0, 0, 1]
    # What was told before a restart is not told again after it.
    trigger = {"threshold": "nodes_up", "below": 2, "for": "5m"}
    assert watch(trigger, made.memory).on_time(NOON, 1e6, {"nodes_up": 0}) == []
    assert made.on_time(NOON, 1e6, None) == []


@pytest.mark.parametrize(
    ("given", "value", "holds"),
    [
        ({"above": 2}, 2, False), ({"above": 2}, 3, True), ({"below": 2}, 2, False),
        ({"above": 1, "below": 3}, 2, True), ({"above": 1, "below": 3}, 3, False),
        ({"above": "1KiB"}, 1025, True),
    ],
)  # fmt: skip
def test_a_condition_compares_a_value(given: Any, value: float, holds: bool) -> None:
    made = watch({"event": "node_up"}, condition={"threshold": "disk_free", **given})
    assert made.holds(NOON, {"disk_free": value}) is holds
    assert not made.holds(NOON, {})


@pytest.mark.parametrize(
    ("given", "time", "holds"),
    [
        ({"after": "08:00"}, "Mon 07:59", False),
        ({"after": "08:00"}, "Mon 08:00", True),
        ({"before": "08:00"}, "Mon 08:00", False),
        ({"after": "22:00", "before": "06:00"}, "Mon 23:00", True),
        ({"after": "22:00", "before": "06:00"}, "Mon 05:59", True),
        ({"after": "22:00", "before": "06:00"}, "Mon 12:00", False),
        ({"weekdays": ["sat", "sun"]}, "Mon 12:00", False),
        ({"weekdays": "mon"}, "Mon 12:00", True),
        # The night from Sunday to Monday is Sunday's.
        ({"after": "22:00", "before": "06:00", "weekdays": ["sun"]}, "Mon 03:00", True),
        ({"after": "22:00", "before": "06:00", "weekdays": ["mon"]}, "Mon 03:00", False),
    ],
)
def test_a_condition_is_a_window_of_the_week(given: Any, time: str, holds: bool) -> None:
    # 1970-01-05 was a Monday.
    hour, minute = map(int, time.split()[1].split(":"))
    at = 4 * 86_400.0 + hour * 3600 + minute * 60
    made = watch({"event": "node_up"}, condition=[{**given, "time_zone": "UTC"}])
    assert made.holds(at, {}) is holds


@given(st.lists(st.floats(0, 7200), min_size=1, max_size=60), st.integers(1, 5))
def test_no_hour_that_begins_with_a_run_has_more_runs_than_allowed(
    pauses: list[float], most: int
) -> None:
    made = watch({"event": "node_up"}, max_per_hour=most)
    now, begun = NOON, []
    told = 0
    for pause in pauses:
        now += pause
        is_within, is_first = made.count(now)
        begun += [now] if is_within else []
        told += is_first
        assert not (is_within and is_first)
    # A window of an hour may touch two of those that are counted.
    for start in begun:
        assert sum(start <= each < start + 3600 for each in begun) <= 2 * most
    assert told <= len(pauses) - len(begun)


@pytest.mark.parametrize("change", [lambda memory: {}, lambda memory: {"hour": [0, 1]}])
def test_what_was_never_remembered_begins_now(change: Callable[[Any], Any]) -> None:
    made = watch({"absence": "job_completed", "for": 10}, change({}))
    assert made.changed
    assert made.on_time(NOON + 9, 0, None) == []
