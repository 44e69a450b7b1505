"""When a device is left alone: its battery, warmth, network, hours and what others run on it."""

import math
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from swarm_hub.components.telemetry import TelemetryBoard
from swarm_hub.components.worker.drain import Drain
from swarm_hub.components.worker.hours import Hours, is_within, minutes_to_next
from swarm_hub.core import Hub
from swarm_hub.models.node import Telemetry
from swarm_hub.util.local_time import clock_text

_CHECK_EVERY_S: Final = 5.0
# Above this a battery ages; a computer without one is usually warmer when it works.
_BATTERY_MAX_C: Final = 40.0
# Once others have loaded the device too much, it works again below this part of the limit.
_LOAD_RESUME: Final = 0.75
# Over which the kernel averages its first figure of the load.
_LOAD_OVER_S: Final = 60.0
_NOT_KNOWN_YET: Final = "it has not measured its device yet"
_UNREAD: Final = (
    "the battery can't be read: install Termux:API (the app, and pkg install termux-api), or set "
    "worker: battery_unknown: run"
)


class Rule(StrEnum):
    """Each of the owner's conditions that may be broken."""

    UNKNOWN = "unknown"
    CHARGING = "charging"
    BATTERY = "battery"
    TEMPERATURE = "temperature"
    NETWORK = "network"
    HOURS = "hours"
    LOAD = "load"


# After these the device rests, so that a reading near the edge or a weak charger does not flicker.
# Battery and load have two limits for that, hours and networks change rarely.
_REST_S: Final = {Rule.UNKNOWN: 300.0, Rule.CHARGING: 300.0, Rule.TEMPERATURE: 300.0}


@dataclass(frozen=True, slots=True)
class PowerPolicyConfig:
    """The owner's conditions; a device without a battery ignores the first four.

    `max_temperature` None stands for what a battery bears, `max_load` None for any load.
    """

    charging_only: bool
    min_battery: float
    resume_battery: float
    runs_unread: bool
    max_temperature: float | None
    unmetered_only: bool
    hours: Hours
    max_load: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A reason that holds, at least until a monotonic time."""

    reason: str
    until: float
    resting: bool = False


def refusals(
    config: PowerPolicyConfig,
    telemetry: Telemetry,
    *,
    now_s: float,
    load_by_others: float | None,
    standing: Collection[Rule] = (),
) -> dict[Rule, str]:
    """Return which conditions are broken at a time (since the epoch), and each in words.

    `load_by_others` is that of a core; `standing` are the rules for which the device does not work
    already, which ask for more before it does again.
    """
    found = _of_battery(config, telemetry, standing) if telemetry.has_battery is not False else {}
    limit_c = config.max_temperature
    if limit_c is None and telemetry.has_battery is not False:
        limit_c = _BATTERY_MAX_C
    if (
        limit_c is not None
        and telemetry.temperature_c is not None
        and telemetry.temperature_c > limit_c
    ):
        found[Rule.TEMPERATURE] = f"warmer than {limit_c:g} °C"
    if config.unmetered_only and telemetry.metered is True:
        found[Rule.NETWORK] = "the network is metered"
    if (reason := _outside_hours(config.hours, now_s)) is not None:
        found[Rule.HOURS] = reason
    if config.max_load is not None and load_by_others is not None:
        if load_by_others > config.max_load:
            found[Rule.LOAD] = f"others load it above {config.max_load:g} a core"
        elif Rule.LOAD in standing and load_by_others > config.max_load * _LOAD_RESUME:
            limit = config.max_load * _LOAD_RESUME
            found[Rule.LOAD] = f"others do not load it below {limit:g} a core again yet"
    return found


def stand(
    found: Mapping[Rule, str], before: Mapping[Rule, Standing], *, now: float, now_s: float
) -> dict[Rule, Standing]:
    """Return what holds now: what was found, and what the device still rests from.

    `now` is monotonic, `now_s` since the epoch.
    """
    standing = {
        rule: Standing(reason, now + _REST_S.get(rule, 0.0)) for rule, reason in found.items()
    }
    for rule, held in before.items():
        if rule in standing or now >= held.until:
            continue
        if not held.resting:
            end = clock_text(now_s + held.until - now, now_s)
            held = Standing(f"resting until {end} after: {held.reason}", held.until, resting=True)
        standing[rule] = held
    return standing


class OwnLoad:
    """What this worker itself adds to the load, averaged as the kernel averages all of it."""

    def __init__(self) -> None:
        self.average = 0.0
        self._at: float | None = None

    def count(self, running: int, now: float) -> None:
        """Take into account that so many shards ran since the last count."""
        if self._at is not None:
            kept = math.exp((self._at - now) / _LOAD_OVER_S)
            self.average = self.average * kept + running * (1 - kept)
        self._at = now


class PowerPolicyWatch:
    """Has no work taken, and the gateways told so, while the device is to be left alone."""

    def __init__(
        self,
        hub: Hub,
        drain: Drain,
        telemetry: TelemetryBoard,
        running: Callable[[], Collection[str]],
        config: PowerPolicyConfig,
    ) -> None:
        self._hub = hub
        self._drain = drain
        self._telemetry = telemetry
        self._running = running
        self._config = config
        self._own_load = OwnLoad()
        self._standing: dict[Rule, Standing] = {}
        self._refused = False

    def start(self) -> None:
        """Check every five seconds."""
        self._hub.tasks.every(_CHECK_EVERY_S, self._check, "power policy")

    async def _check(self) -> None:
        now, now_s = self._hub.clock.monotonic(), self._hub.clock.time()
        self._own_load.count(len(self._running()), now)
        if self._telemetry.own_known.is_set():
            found = refusals(
                self._config,
                self._telemetry.own,
                now_s=now_s,
                load_by_others=self._load_by_others(),
                standing=self._standing.keys(),
            )
            self._standing = stand(found, self._standing, now=now, now_s=now_s)
            reason = ", ".join(held.reason for held in self._standing.values()) or None
        else:
            # A phone may take seconds to tell of its battery.
            reason = _NOT_KNOWN_YET
        self._drain.refuse("device", reason)
        if reason is not None and not self._refused:
            self._drain.hand_back_waiting(reason)
        self._refused = reason is not None

    def _load_by_others(self) -> float | None:
        load = self._telemetry.own.load_1m
        if load is None:
            return None
        return max(0.0, load - self._own_load.average) / (os.cpu_count() or 1)


def _of_battery(
    config: PowerPolicyConfig, telemetry: Telemetry, standing: Collection[Rule]
) -> dict[Rule, str]:
    battery = telemetry.battery_percent
    found = {}
    is_unread = battery is None and (config.charging_only or config.min_battery > 0)
    if is_unread and not config.runs_unread:
        found[Rule.UNKNOWN] = _UNREAD
    # Of a battery that tells nothing at all that is said already.
    is_mute = battery is None and telemetry.charging is None
    if config.charging_only and telemetry.charging is not True and not is_mute:
        found[Rule.CHARGING] = "not charging"
    if battery is None:
        return found
    if battery < config.min_battery:
        found[Rule.BATTERY] = f"battery below {config.min_battery:g} %"
    elif Rule.BATTERY in standing and battery < config.resume_battery:
        found[Rule.BATTERY] = f"battery not at {config.resume_battery:g} % again yet"
    return found


def _outside_hours(week: Hours, now_s: float) -> str | None:
    local = time.localtime(now_s)
    minute = local.tm_hour * 60 + local.tm_min
    if is_within(week, local.tm_wday, minute):
        return None
    ahead = minutes_to_next(week, local.tm_wday, minute)
    if ahead is None:
        return "it has no hours"
    return f"outside its hours until {clock_text(now_s - local.tm_sec + ahead * 60, now_s)}"
