"""When a device is left alone, rule by rule, and over traces of what its sensors say."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.worker.hours import ALWAYS, hours
from swarm_hub.components.worker.power_policy import (
    Decision,
    OnBattery,
    OwnLoad,
    PowerPolicyConfig,
    Rule,
    Standing,
    decide,
    refusals,
    stand,
)
from swarm_hub.models.node import Telemetry

OWNER = PowerPolicyConfig(
    charging_only=True, plug=None, min_battery=90, resume_battery=95, on_battery=None,
    runs_unread=False, max_temperature=None, unmetered_only=False, daily_data_bytes=None,
    hours=ALWAYS, max_load=None, idle_for_s=None,
)  # fmt: skip
BATTERY = Telemetry(battery_percent=95.0, charging=True, temperature_c=30.0)
DESKTOP = Telemetry(has_battery=False)
UNREAD = (
    "the battery can't be read: install Termux:API (the app, and pkg install termux-api), or set "
    "worker: battery_unknown: run"
)
WEDNESDAY_NOON = time.mktime((2026, 7, 15, 12, 0, 30, 0, 0, -1))


def owner(**changes: Any) -> PowerPolicyConfig:
    return replace(OWNER, **changes)


def device(**changes: Any) -> Telemetry:
    return replace(BATTERY, **changes)


DOCKED = frozenset({"ac", "wireless"})
CARELESS = owner(charging_only=False, min_battery=0)


@pytest.mark.parametrize(
    ("config", "telemetry", "expected"),
    [
        (OWNER, BATTERY, []),
        (OWNER, DESKTOP, []),
        (OWNER, replace(DESKTOP, temperature_c=90.0), []),
        (owner(max_temperature=80), replace(DESKTOP, temperature_c=80.1), ["warmer than 80 °C"]),
        (owner(max_temperature=80), replace(DESKTOP, temperature_c=80.0), []),
        (OWNER, Telemetry(), [UNREAD]),
        (OWNER, Telemetry(temperature_c=90.0, charging=False),
         [UNREAD, "not charging", "warmer than 40 °C"]),
        (owner(runs_unread=True), Telemetry(charging=False), ["not charging"]),
        (owner(runs_unread=True), Telemetry(), []),
        (owner(runs_unread=True), Telemetry(temperature_c=41.0), ["warmer than 40 °C"]),
        (CARELESS, Telemetry(), []),
        (owner(charging_only=False), Telemetry(), [UNREAD]),
        (OWNER, device(charging=False), ["not charging"]),
        (OWNER, device(charging=None), ["not charging"]),
        (OWNER, device(battery_percent=90.0), []),
        (OWNER, device(battery_percent=89.9), ["battery below 90 %"]),
        (OWNER, device(battery_percent=20.0, charging=False),
         ["not charging", "battery below 90 %"]),
        (OWNER, device(temperature_c=40.0), []),
        (OWNER, device(temperature_c=40.1), ["warmer than 40 °C"]),
        (owner(max_temperature=50), device(temperature_c=50.0), []),
        (CARELESS, device(battery_percent=1.0, charging=False), []),
        (owner(plug=DOCKED), device(power_source="ac"), []),
        (owner(plug=DOCKED), device(power_source="usb"),
         ["charging by usb, which plug does not name"]),
        (owner(plug=DOCKED), device(),
         ["charging by a source that can't be told, which plug does not name"]),
        (owner(plug=DOCKED), device(charging=False), ["not charging"]),
        (replace(CARELESS, plug=DOCKED), device(power_source="usb"), []),
        (OWNER, device(metered=True), []),
        (owner(unmetered_only=True), device(metered=True), ["the network is metered"]),
        (owner(unmetered_only=True), device(metered=False), []),
        (owner(unmetered_only=True), device(metered=None), []),
        (owner(hours=hours({"wed": "11:00-13:00"})), DESKTOP, []),
        (owner(hours=hours({"wed": "22:00-23:00"})), DESKTOP, ["outside its hours until 22:00"]),
        (owner(hours=hours({"mon": "22:00-23:00"})), DESKTOP,
         ["outside its hours until Mon 22:00"]),
        (owner(hours=hours({"mon": "none"})), DESKTOP, ["it has no hours"]),
    ],
)  # fmt: skip
def test_when_a_device_is_left_alone(
    config: PowerPolicyConfig, telemetry: Telemetry, expected: list[str]
) -> None:
    found = refusals(config, telemetry, now_s=WEDNESDAY_NOON, load_by_others=None)
    assert list(found.values()) == expected


@pytest.mark.parametrize(
    ("load", "standing", "refused"),
    [
        (None, False, False), (0.5, False, False), (0.51, False, True), (0.38, True, True),
        (0.375, True, False), (0.4, False, False), (9.0, True, True),
    ],
)  # fmt: skip
def test_the_load_of_others_has_to_fall_well_below_the_limit(
    load: float | None, standing: bool, refused: bool
) -> None:
    found = refusals(
        owner(max_load=0.5), DESKTOP, now_s=WEDNESDAY_NOON, load_by_others=load,
        standing=[Rule.LOAD] if standing else (),
    )  # fmt: skip
    assert (Rule.LOAD in found) is refused


@pytest.mark.parametrize(("used", "refused"), [(0, False), (499_999_999, False), (5 * 10**8, True)])
def test_a_day_s_data_is_used_up(used: int, refused: bool) -> None:
    found = refusals(
        owner(daily_data_bytes=5 * 10**8), DESKTOP, now_s=WEDNESDAY_NOON, load_by_others=None,
        used_bytes=used,
    )  # fmt: skip
    assert found == ({Rule.DATA: "it has used its 500 MB of today"} if refused else {})


@pytest.mark.parametrize(
    ("idle_s", "refused"), [(None, False), (0.0, True), (179.0, True), (180.0, False)]
)
def test_a_device_in_use_waits_until_it_is_left_alone(idle_s: float | None, refused: bool) -> None:
    found = refusals(
        owner(idle_for_s=180.0), DESKTOP, now_s=WEDNESDAY_NOON, load_by_others=None, idle_s=idle_s
    )
    expected = "in use: nobody may touch it for 3 min"
    assert found == ({Rule.IN_USE: expected} if refused else {})
    assert not refusals(OWNER, DESKTOP, now_s=WEDNESDAY_NOON, load_by_others=None, idle_s=idle_s)


def test_the_load_of_this_worker_is_not_that_of_others() -> None:
    """Four shards for ten minutes, then none: what the kernel averages is what is taken off."""
    own, kernel, now = OwnLoad(), 0.0, 0.0
    own.count(0, now)
    furthest = 0.0
    for step in range(600):
        running = 4 if step < 300 else 0
        now += 2.0
        kernel = kernel * 0.9672 + running * 0.0328  # e^(-2/60), as the kernel would
        own.count(running, now)
        furthest = max(furthest, abs(kernel - own.average))
    assert furthest < 0.01
    assert own.average < 0.01


@dataclass(frozen=True, slots=True)
class Moment:
    """What a device says at a minute, and what it is expected to say for itself."""

    minute: float
    percent: float | None
    charging: bool | None
    celsius: float
    expected: str


def walk(config: PowerPolicyConfig, trace: Iterable[Moment]) -> list[tuple[float, str]]:
    """Return what a device says for itself at each moment of a trace, and what has it go slower."""
    said = []
    for minute, decision in decisions(config, trace):
        slower = f"slower: {decision.slower}" if decision.slots else ""
        said.append((minute, decision.refuses or slower))
    return said


def decisions(
    config: PowerPolicyConfig, trace: Iterable[Moment]
) -> Iterable[tuple[float, Decision]]:
    standing: dict[Rule, Standing] = {}
    for moment in trace:
        now = moment.minute * 60
        telemetry = Telemetry(
            battery_percent=moment.percent, charging=moment.charging, temperature_c=moment.celsius
        )
        found = refusals(
            config, telemetry, now_s=WEDNESDAY_NOON + now, load_by_others=None,
            standing=standing.keys(),
        )  # fmt: skip
        standing = stand(found, standing, now=now, now_s=WEDNESDAY_NOON + now)
        yield moment.minute, decide(config, standing)


A_DAY = [
    # It charges.
    Moment(0, 80, True, 30, "battery below 90 %"),
    Moment(10, 92, True, 31, "battery not at 95 % again yet"),
    Moment(20, 95, True, 32, ""),
    # It works and discharges a little on a weak charger, to where it stops, and not further.
    Moment(30, 91, True, 35, ""),
    Moment(40, 89, True, 35, "battery below 90 %"),
    Moment(41, 90, True, 34, "battery not at 95 % again yet"),
    Moment(60, 96, True, 33, ""),
    # It is unplugged and plugged in again, and rests.
    Moment(61, 96, False, 33, "not charging"),
    Moment(62, 96, True, 33, "resting until 13:06 after: not charging"),
    Moment(65.9, 96, True, 33, "resting until 13:06 after: not charging"),
    Moment(66.1, 96, True, 33, ""),
    # A plug that flaps: it does not work in between.
    Moment(70, 96, False, 33, "not charging"),
    Moment(71, 96, True, 33, "resting until 13:15 after: not charging"),
    Moment(72, 96, False, 33, "not charging"),
    Moment(73, 96, True, 33, "resting until 13:17 after: not charging"),
    Moment(78, 96, True, 33, ""),
    # It gets hot in the sun, and cools.
    Moment(80, 97, True, 43, "warmer than 40 °C"),
    Moment(81, 97, True, 39, "resting until 13:25 after: warmer than 40 °C"),
    Moment(86, 97, True, 36, ""),
    # The battery can't be read for a moment.
    Moment(90, None, None, 36, UNREAD),
    Moment(91, 97, True, 36, f"resting until 13:35 after: {UNREAD}"),
    Moment(96, 97, True, 36, ""),
    # Two reasons, of which one goes.
    Moment(100, 50, False, 36, "not charging, battery below 90 %"),
    Moment(101, 50, True, 36, "battery below 90 %, resting until 13:45 after: not charging"),
    Moment(110, 94, True, 36, "battery not at 95 % again yet"),
    Moment(111, 95, True, 36, ""),
]


def test_a_day_of_a_phone() -> None:
    expected = [(moment.minute, moment.expected) for moment in A_DAY]
    assert walk(OWNER, A_DAY) == expected


def test_a_phone_whose_owner_does_not_mind_works_all_that_day_but_when_it_is_hot() -> None:
    said = walk(owner(charging_only=False, min_battery=0, resume_battery=5), A_DAY)
    reasons = [(minute, reason) for minute, reason in said if reason]
    assert reasons == [
        (80, "warmer than 40 °C"),
        (81, "resting until 13:25 after: warmer than 40 °C"),
    ]


SLOWER = owner(on_battery=OnBattery(slots=1, min_battery=60))
A_SLOW_DAY = [
    Moment(0, 100, True, 30, ""),
    Moment(1, 100, False, 30, "slower: not charging"),
    Moment(10, 92, False, 31, "slower: not charging"),
    Moment(20, 80, False, 31, "slower: not charging, battery below 90 %"),
    # Too warm is too warm.
    Moment(21, 80, False, 41, "warmer than 40 °C"),
    Moment(27, 75, False, 35, "slower: not charging, battery below 90 %"),
    Moment(40, 60, False, 35, "slower: not charging, battery below 90 %"),
    Moment(41, 59, False, 35, "not charging, battery below 60 %"),
    # It charges slowly, and rests from having been unplugged.
    Moment(42, 60, True, 35,
           "resting until 12:46 after: not charging, battery not at 65 % again yet"),
    Moment(50, 64, True, 35, "battery not at 65 % again yet"),
    Moment(51, 65, True, 35, "slower: battery below 90 %"),
    Moment(60, 94, True, 35, "slower: battery not at 95 % again yet"),
    Moment(61, 95, True, 35, ""),
    # It can't be read for a while.
    Moment(70, None, None, 35, UNREAD),
]  # fmt: skip


def test_a_phone_that_goes_slower_instead_of_resting() -> None:
    expected = [(moment.minute, moment.expected) for moment in A_SLOW_DAY]
    assert walk(SLOWER, A_SLOW_DAY) == expected


def test_a_phone_with_charging_that_does_not_count_goes_slower() -> None:
    config = replace(SLOWER, plug=DOCKED)
    found = refusals(config, device(power_source="usb"), now_s=WEDNESDAY_NOON, load_by_others=None)
    standing = stand(found, {}, now=0.0, now_s=WEDNESDAY_NOON)
    expected = Decision(slots=1, slower="charging by usb, which plug does not name")
    assert decide(config, standing) == expected
    # It does not matter that it need not charge.
    assert decide(replace(config, charging_only=False), standing) == expected


def test_a_computer_without_a_battery_does_not_go_slower() -> None:
    assert refusals(SLOWER, DESKTOP, now_s=WEDNESDAY_NOON, load_by_others=None) == {}


def test_an_unread_battery_that_may_work_need_not_go_slower() -> None:
    config = replace(SLOWER, runs_unread=True)
    assert refusals(config, Telemetry(), now_s=WEDNESDAY_NOON, load_by_others=None) == {}


PERCENT = st.none() | st.floats(0, 100)
CONFIGS = st.builds(
    owner,
    charging_only=st.booleans(),
    plug=st.none() | st.just(DOCKED),
    min_battery=st.sampled_from([0, 50, 90]),
    resume_battery=st.sampled_from([90, 95, 100]),
    on_battery=st.none() | st.builds(OnBattery, st.integers(1, 4), st.sampled_from([0, 40, 95])),
    runs_unread=st.booleans(),
    max_temperature=st.none() | st.just(30.0),
)
MEASURED = st.builds(
    Telemetry,
    has_battery=st.none() | st.booleans(),
    battery_percent=PERCENT,
    charging=st.none() | st.booleans(),
    power_source=st.sampled_from([None, "ac", "usb"]),
    temperature_c=st.none() | st.floats(20, 60),
)


@given(CONFIGS, st.lists(st.tuples(st.floats(1, 400), MEASURED), max_size=20))
def test_whatever_is_measured_the_owner_s_limits_are_kept(
    config: PowerPolicyConfig, measured: list[tuple[float, Telemetry]]
) -> None:
    standing: dict[Rule, Standing] = {}
    now = 0.0
    for passed_s, telemetry in measured:
        now += passed_s
        now_s = WEDNESDAY_NOON + now
        found = refusals(
            config, telemetry, now_s=now_s, load_by_others=None, standing=standing.keys()
        )
        standing = stand(found, standing, now=now, now_s=now_s)
        decision = decide(config, standing)
        assert (decision.slots is None) == (decision.slower is None)
        assert decision.slots is None or decision.refuses is None
        if decision.refuses is None:
            assert_kept(config, telemetry, slower=decision.slots is not None)


def assert_kept(config: PowerPolicyConfig, telemetry: Telemetry, *, slower: bool) -> None:
    """Check that a device that works is within its owner's limits."""
    limit_c = config.max_temperature
    if limit_c is None and telemetry.has_battery is not False:
        limit_c = 40.0
    assert limit_c is None or (telemetry.temperature_c or 0) <= limit_c
    if telemetry.has_battery is False:
        return
    percent = telemetry.battery_percent
    if percent is None:
        minds = config.charging_only or config.min_battery > 0 or config.on_battery is not None
        assert config.runs_unread or not minds
        return
    counts = config.plug is None or telemetry.power_source in config.plug
    if slower:
        assert config.on_battery is not None
        assert percent >= config.on_battery.min_battery
    else:
        assert percent >= config.min_battery
        wants_plug = config.charging_only or config.on_battery is not None
        assert not wants_plug or (telemetry.charging is True and counts)
