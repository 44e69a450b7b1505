"""What a phone does all day, from what Termux:API says to whether it takes work."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm_hub.components.telemetry import network, probe
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.components.worker.hours import ALWAYS
from swarm_hub.components.worker.power_policy import (
    Decision,
    OnBattery,
    PowerPolicyConfig,
    Rule,
    Standing,
    decide,
    refusals,
    stand,
)
from swarm_hub.util import device
from tests.helpers.programs import Programs, first_on_path

NOON = time.mktime((2026, 7, 15, 12, 0, 0, 0, 0, -1))
DEFAULT = PowerPolicyConfig(
    charging_only=True, plug=None, min_battery=90, resume_battery=95, on_battery=None,
    runs_unread=False, max_temperature=None, unmetered_only=True, daily_data_bytes=None,
    hours=ALWAYS, max_load=None, idle_for_s=None,
)  # fmt: skip
AC, USB, PAD, NONE = "PLUGGED_AC", "PLUGGED_USB", "PLUGGED_WIRELESS", "UNPLUGGED"


@dataclass(frozen=True, slots=True)
class Minute:
    """What the battery's program does in a minute, and what the phone is expected to do then."""

    percent: int
    plugged: str
    expected: str
    celsius: float = 30.0
    wifi: bool = True
    script: str = ""


class Phone:
    """A phone that is asked once a minute."""

    def __init__(self, config: PowerPolicyConfig, programs: Programs) -> None:
        self._config = config
        self._programs = programs
        self._now = 0.0
        self._probe = Probe(lambda: self._now)
        self._standing: dict[Rule, Standing] = {}

    async def live(self, day: Iterable[Minute]) -> list[str]:
        """Return what it does, minute by minute."""
        return [await self._live(minute) for minute in day]

    async def _live(self, minute: Minute) -> str:
        self._now += 60.0
        battery, wifi = "termux-battery-status", "termux-wifi-connectioninfo"
        if minute.script:
            self._programs.add(battery, minute.script)
        else:
            self._programs.says(
                battery,
                f'{{"percentage": {minute.percent}, "plugged": "{minute.plugged}", '
                f'"temperature": "{minute.celsius}"}}',
            )
        state = '"COMPLETED", "ip": "10.0.0.7"' if minute.wifi else '"INACTIVE", "ip": "0.0.0.0"'
        self._programs.says(wifi, f'{{"supplicant_state": {state}}}')
        await self._probe.ask()
        now_s = NOON + self._now
        found = refusals(
            self._config, self._probe.measure(), now_s=now_s, load_by_others=None,
            standing=self._standing.keys(),
        )  # fmt: skip
        self._standing = stand(found, self._standing, now=self._now, now_s=now_s)
        return told(decide(self._config, self._standing))


def told(decision: Decision) -> str:
    if decision.refuses is not None:
        # When a rest ends is another test's.
        return decision.refuses.partition(" until ")[0].partition(":")[0]
    return "works" if decision.slots is None else f"works with {decision.slots}"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setattr(device, "psutil", None)
    monkeypatch.setattr(device, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "_SYS", tmp_path / "sys")
    monkeypatch.setattr(device, "interface_ips", lambda: ["127.0.0.1", "::1", "10.0.0.7"])
    monkeypatch.setattr(probe, "_CPU_WINDOW_S", 0.0)
    monkeypatch.setattr(network, "_ROUTES", tmp_path / "route")
    return first_on_path(tmp_path / "programs", monkeypatch)


TRACES = {
    "charges, is unplugged, and is plugged in again": [
        Minute(89, AC, "battery below 90 %"),
        Minute(91, AC, "battery not at 95 % again yet"),
        Minute(95, AC, "works"),
        Minute(95, NONE, "not charging"),
        *(Minute(94, AC, "resting") for _ in range(4)),
        Minute(94, AC, "works"),
    ],
    "gets too warm on a pad": [
        Minute(99, PAD, "works", celsius=39.9),
        Minute(99, PAD, "warmer than 40 °C", celsius=41.5),
        Minute(99, PAD, "resting", celsius=38.0),
        *(Minute(99, PAD, "resting", celsius=36.0) for _ in range(3)),
        Minute(99, PAD, "works", celsius=36.0),
    ],
    "has a charger that is weaker than its work": [
        Minute(97, USB, "works"),
        Minute(93, USB, "works"),
        Minute(90, USB, "works"),
        Minute(89, USB, "battery below 90 %"),
        Minute(92, USB, "battery not at 95 % again yet"),
        Minute(95, USB, "works"),
    ],
    "does not answer for a while": [
        Minute(99, AC, "works"),
        *(Minute(0, AC, "works", script="exit 1") for _ in range(5)),
        Minute(0, AC, "the battery can't be read", script="echo nonsense"),
        Minute(99, AC, "resting"),
    ],
    "never answers": [
        Minute(0, AC, "the battery can't be read", script="echo Termux:API is missing; exit 1"),
        Minute(0, AC, "the battery can't be read", script="yes"),
    ],
    "says 0 % for a moment": [
        Minute(97, AC, "works"),
        Minute(0, AC, "the battery can't be read"),
        Minute(97, AC, "resting"),
    ],
    "leaves its Wi-Fi": [
        Minute(97, AC, "works"),
        Minute(97, AC, "the network is metered", wifi=False),
        Minute(97, AC, "works"),
    ],
}


@pytest.mark.parametrize("name", TRACES)
async def test_a_phone_that(name: str, programs: Programs) -> None:
    trace = TRACES[name]
    assert await Phone(DEFAULT, programs).live(trace) == [minute.expected for minute in trace]


async def test_a_phone_that_goes_slower_and_minds_its_plug(programs: Programs) -> None:
    config = PowerPolicyConfig(
        charging_only=True, plug=frozenset({"ac"}), min_battery=90, resume_battery=95,
        on_battery=OnBattery(slots=1, min_battery=60), runs_unread=False, max_temperature=None,
        unmetered_only=False, daily_data_bytes=None, hours=ALWAYS, max_load=None, idle_for_s=None,
    )  # fmt: skip
    trace = [
        Minute(97, AC, "works"),
        Minute(97, USB, "works with 1"),
        Minute(80, NONE, "works with 1"),
        Minute(59, NONE, "not charging, battery below 60 %"),
        Minute(100, AC, "works with 1"),
    ]
    assert await Phone(config, programs).live(trace) == [minute.expected for minute in trace]
