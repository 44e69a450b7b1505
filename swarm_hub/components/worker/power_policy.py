"""When a device is left alone: its battery, warmth, network, hours and what others run on it."""

import asyncio
import logging
import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from swarm_hub.components.telemetry import DeviceMeasured, TelemetryBoard
from swarm_hub.components.worker.daily_data import DailyData
from swarm_hub.components.worker.drain import Drain, WorkerChanged
from swarm_hub.components.worker.executor import Executor
from swarm_hub.components.worker.hours import Hours, is_within, minutes_to_next
from swarm_hub.core import Hub
from swarm_hub.models.node import Telemetry
from swarm_hub.util.device import is_android
from swarm_hub.util.local_time import clock_text
from swarm_hub.util.owners_use import OwnersUse

_LOGGER = logging.getLogger(__name__)

# Between where a device stops and where it begins again, unless its owner says otherwise.
RESUME_ABOVE_PERCENT: Final = 5.0
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
    # The battery is too low even for going slower.
    ON_BATTERY = "on_battery"
    TEMPERATURE = "temperature"
    NETWORK = "network"
    DATA = "data"
    HOURS = "hours"
    LOAD = "load"
    IN_USE = "in_use"


# After these the device rests, so that a reading near the edge or a weak charger does not flicker.
# Battery and load have two limits for that, hours and networks change rarely.
_REST_S: Final = {Rule.UNKNOWN: 300.0, Rule.CHARGING: 300.0, Rule.TEMPERATURE: 300.0}


# Where a device has `on_battery`, these have it go slower.
_SLOWER: Final = frozenset({Rule.CHARGING, Rule.BATTERY})


@dataclass(frozen=True, slots=True)
class OnBattery:
    """How a device goes slower instead of resting: so many shards at once, from a percentage on."""

    slots: int
    min_battery: float


@dataclass(frozen=True, slots=True)
class PowerPolicyConfig:
    """The owner's conditions; a device without a battery ignores the first six.

    `plug` names the sources of power that count as charging; None stands for any, as it does for
    `daily_data_bytes`, `max_load` and `idle_for_s`. `max_temperature` None is what a battery bears.
    """

    charging_only: bool
    plug: frozenset[str] | None
    min_battery: float
    resume_battery: float
    on_battery: OnBattery | None
    runs_unread: bool
    max_temperature: float | None
    unmetered_only: bool
    daily_data_bytes: int | None
    hours: Hours
    max_load: float | None
    idle_for_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A reason that holds, at least until a monotonic time."""

    reason: str
    until: float
    resting: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a device takes no work; else how many shards at once it runs at most, and why."""

    refuses: str | None = None
    slots: int | None = None
    slower: str | None = None


def refusals(
    config: PowerPolicyConfig,
    telemetry: Telemetry,
    *,
    now_s: float,
    load_by_others: float | None,
    used_bytes: int = 0,
    idle_s: float | None = None,
    standing: Collection[Rule] = (),
) -> dict[Rule, str]:
    """Return which conditions are broken at a time (since the epoch), and each in words.

    `load_by_others` is that of a core, `used_bytes` what the mesh has moved today, `idle_s` for how
    long nobody has used the device; `standing` are the rules for which the device does not work
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
    if config.daily_data_bytes is not None and used_bytes >= config.daily_data_bytes:
        found[Rule.DATA] = f"it has used its {config.daily_data_bytes / 1e6:g} MB of today"
    if (reason := _outside_hours(config.hours, now_s)) is not None:
        found[Rule.HOURS] = reason
    if config.max_load is not None and load_by_others is not None:
        if load_by_others > config.max_load:
            found[Rule.LOAD] = f"others load it above {config.max_load:g} a core"
        elif Rule.LOAD in standing and load_by_others > config.max_load * _LOAD_RESUME:
            limit = config.max_load * _LOAD_RESUME
            found[Rule.LOAD] = f"others do not load it below {limit:g} a core again yet"
    if config.idle_for_s is not None and idle_s is not None and idle_s < config.idle_for_s:
        found[Rule.IN_USE] = f"in use: nobody may touch it for {config.idle_for_s / 60:g} min"
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


def decide(config: PowerPolicyConfig, standing: Mapping[Rule, Standing]) -> Decision:
    """Return what follows from the rules that are broken."""
    slower = {rule: held.reason for rule, held in standing.items() if rule in _SLOWER}
    others = {rule: held.reason for rule, held in standing.items() if rule not in _SLOWER}
    if not slower:
        others.pop(Rule.ON_BATTERY, None)
    elif Rule.ON_BATTERY in others:
        # It says from where on it works again.
        slower.pop(Rule.BATTERY, None)
    goes_slower = config.on_battery is not None and Rule.ON_BATTERY not in others
    if others or not goes_slower:
        told = others if goes_slower else {**slower, **others}
        return Decision(refuses=", ".join(told.values()) or None)
    if not slower:
        return Decision()
    assert config.on_battery is not None
    return Decision(slots=config.on_battery.slots, slower=", ".join(slower.values()))


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
    """Has no work taken, or less, and the gateways told so, while the device is to be spared.

    `slots` is how many shards it runs at once otherwise; what runs when it is to be spared may take
    `finish_within_s` more.
    """

    def __init__(
        self,
        hub: Hub,
        drain: Drain,
        telemetry: TelemetryBoard,
        executor: Executor,
        config: PowerPolicyConfig,
        slots: int,
        daily_data: DailyData,
        finish_within_s: float,
    ) -> None:
        self._hub = hub
        self._drain = drain
        self._telemetry = telemetry
        self._executor = executor
        self._config = config
        self._most_slots = slots
        self._daily_data = daily_data
        self._own_load = OwnLoad()
        self._use = OwnersUse()
        self._standing: dict[Rule, Standing] = {}
        self._decision = Decision()
        self._checking = asyncio.Lock()
        self._finish_within_s = finish_within_s
        # Until when what runs may finish; None while the device works.
        self._finish_by: float | None = None
        self.slots = slots

    @property
    def slower(self) -> str | None:
        """Why fewer shards run at once than the device has slots."""
        return self._decision.slower if self.slots < self._most_slots else None

    def start(self) -> None:
        """Check every five seconds, and whenever the device was measured."""
        self._tell_what_has_no_effect()
        self._hub.bus.listen(DeviceMeasured, self._on_measured)
        self._hub.tasks.every(_CHECK_EVERY_S, self._check, "power policy")

    def follow(self, config: PowerPolicyConfig, slots: int, finish_within_s: float) -> None:
        """Spare the device by other conditions from now on."""
        if (config, slots, finish_within_s) == (
            self._config, self._most_slots, self._finish_within_s,
        ):  # fmt: skip
            return
        self._config, self._most_slots = config, slots
        self._finish_within_s = finish_within_s
        # What it rests from may be no reason any more.
        self._standing.clear()
        self._tell_what_has_no_effect()
        self._hub.tasks.spawn(self._check(), "power policy after a reload")

    def _tell_what_has_no_effect(self) -> None:
        if self._config.idle_for_s is not None and is_android():
            _LOGGER.warning(
                "worker: idle_for has no effect here: Android does not tell whether it is used"
            )

    def _on_measured(self, _measured: DeviceMeasured) -> None:
        self._hub.tasks.spawn(self._check(), "power policy after a measurement")

    async def _check(self) -> None:
        async with self._checking:
            await self._check_now()

    async def _check_now(self) -> None:
        now, now_s = self._hub.clock.monotonic(), self._hub.clock.time()
        self._own_load.count(len(self._executor.running()), now)
        used_bytes = 0
        if self._config.daily_data_bytes is not None:
            used_bytes = await self._daily_data.used_bytes()
        if self._telemetry.own_known.is_set():
            found = refusals(
                self._config,
                self._telemetry.own,
                now_s=now_s,
                load_by_others=self._load_by_others(),
                used_bytes=used_bytes,
                idle_s=self._idle_s(now),
                standing=self._standing.keys(),
            )
            self._standing = stand(found, self._standing, now=now, now_s=now_s)
            decision = decide(self._config, self._standing)
        else:
            # A phone may take seconds to tell of its battery.
            decision = Decision(refuses=_NOT_KNOWN_YET)
        await self._follow(decision)

    async def _follow(self, decision: Decision) -> None:
        before, self._decision = self._decision, decision
        self._spare(decision.refuses)
        reason = None if before.refuses else decision.refuses
        if decision.refuses is None:
            slots = min(decision.slots or self._most_slots, self._most_slots)
            if slots < self.slots:
                reason = decision.slower
            if slots != self.slots:
                self.slots = slots
                self._executor.start(slots)
                self._executor.limit(slots)
                why = f" at once: {self.slower}" if self.slower else " at once again"
                _LOGGER.info("Running %d shards%s", slots, why)
            # Before anything goes back, lest it comes again.
            await self._telemetry.declare_slots(slots, self.slower)
        if decision != before:
            self._hub.bus.fire(WorkerChanged())
        if reason is not None:
            self._drain.hand_back_waiting(reason)

    def _spare(self, reason: str | None) -> None:
        """Take no work for that reason, and after a while let none run; None ends both."""
        now = self._hub.clock.monotonic()
        if reason is None:
            self._finish_by = None
            self._drain.resume("device")
        elif reason is _NOT_KNOWN_YET or self._finish_by is None or now < self._finish_by:
            self._drain.refuse("device", reason)
            if reason is not _NOT_KNOWN_YET and self._finish_by is None:
                self._finish_by = now + self._finish_within_s
        else:
            self._drain.pause("device", reason)

    def _idle_s(self, now: float) -> float | None:
        if self._config.idle_for_s is None or is_android():
            return None
        return self._use.idle_s(self._hub.clock.wall(), now)

    def _load_by_others(self) -> float | None:
        load = self._telemetry.own.load_1m
        if load is None:
            return None
        return max(0.0, load - self._own_load.average) / (os.cpu_count() or 1)


def _of_battery(
    config: PowerPolicyConfig, telemetry: Telemetry, standing: Collection[Rule]
) -> dict[Rule, str]:
    battery, slower = telemetry.battery_percent, config.on_battery
    wants_plug = config.charging_only or slower is not None
    found = {}
    if battery is None and not config.runs_unread and (wants_plug or config.min_battery > 0):
        found[Rule.UNKNOWN] = _UNREAD
    # Of a battery that tells nothing at all that is said already.
    is_mute = battery is None and telemetry.charging is None
    if wants_plug and not is_mute and (reason := _unplugged(config, telemetry)) is not None:
        found[Rule.CHARGING] = reason
    if battery is None:
        return found
    if battery < config.min_battery:
        found[Rule.BATTERY] = f"battery below {config.min_battery:g} %"
    elif Rule.BATTERY in standing and battery < config.resume_battery:
        found[Rule.BATTERY] = f"battery not at {config.resume_battery:g} % again yet"
    if slower is not None:
        resume = min(100.0, slower.min_battery + RESUME_ABOVE_PERCENT)
        if battery < slower.min_battery:
            found[Rule.ON_BATTERY] = f"battery below {slower.min_battery:g} %"
        elif Rule.ON_BATTERY in standing and battery < resume:
            found[Rule.ON_BATTERY] = f"battery not at {resume:g} % again yet"
    return found


def _unplugged(config: PowerPolicyConfig, telemetry: Telemetry) -> str | None:
    """Return why the device does not count as charging."""
    if telemetry.charging is not True:
        return "not charging"
    if config.plug is not None and telemetry.power_source not in config.plug:
        source = telemetry.power_source or "a source that can't be told"
        return f"charging by {source}, which plug does not name"
    return None


def _outside_hours(week: Hours, now_s: float) -> str | None:
    local = time.localtime(now_s)
    minute = local.tm_hour * 60 + local.tm_min
    if is_within(week, local.tm_wday, minute):
        return None
    ahead = minutes_to_next(week, local.tm_wday, minute)
    if ahead is None:
        return "it has no hours"
    return f"outside its hours until {clock_text(now_s - local.tm_sec + ahead * 60, now_s)}"
