"""When an automation is triggered, decided from events, times and values alone.

What it has to know after a restart is in `memory`, plain values that are written with what it
triggers; the rest is learnt again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from swarm_hub.components.automation.model import (
    AbsenceTrigger,
    Automation,
    EventFilter,
    EventTrigger,
    ThresholdTrigger,
    TimeTrigger,
    TimeWindow,
)
from swarm_hub.models.event import DurableEvent

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Firing:
    """That an automation was triggered: `id` is the same whenever it is found out again."""

    id: str
    kind: str
    at: float
    event: DurableEvent | None = None
    value: float | None = None


class Watch:
    """Watches for the triggers of one automation."""

    def __init__(self, automation: Automation, memory: Mapping[str, Any], now: float) -> None:
        self.automation = automation
        self.memory: dict[str, Any] = {}
        self.changed = False
        # When each value went beyond its threshold, in monotonic seconds, by trigger.
        self._since: dict[int, float] = {}
        for number, trigger in enumerate(automation.triggers):
            name = _name(number, trigger)
            if isinstance(trigger, TimeTrigger):
                self._remember(name, memory.get(name, now))
            elif isinstance(trigger, AbsenceTrigger):
                self._remember(name, memory.get(name, {"seen": now, "fired": False}))
            elif isinstance(trigger, ThresholdTrigger):
                self._remember(name, memory.get(name, False))
        self._remember("hour", memory.get("hour", [now, 0]))
        self.changed = self.memory != dict(memory)

    def filters(self) -> Iterator[EventFilter]:
        """Yield which events it has to hear of."""
        for trigger in self.automation.triggers:
            if isinstance(trigger, EventTrigger | AbsenceTrigger):
                yield trigger.wanted

    @property
    def measures(self) -> bool:
        """Whether its triggers compare values."""
        return any(isinstance(each, ThresholdTrigger) for each in self.automation.triggers)

    def on_event(self, event: DurableEvent, labels: Mapping[str, str]) -> Firing | None:
        """Hear of an event of a job with these labels, or of none; an event triggers once."""
        found = None
        for number, trigger in enumerate(self.automation.triggers):
            if isinstance(trigger, EventTrigger) and trigger.wanted.has(event, labels):
                found = Firing(f"e{event.seq}", "event", event.time_fired, event)
            elif isinstance(trigger, AbsenceTrigger) and trigger.wanted.has(event, labels):
                name = _name(number, trigger)
                self._remember(name, {"seen": event.time_fired, "fired": False})
        return found

    def on_time(
        self, now: float, monotonic: float, measured: Mapping[str, float] | None
    ) -> list[Firing]:
        """Look at the clock and, unless they are not known, at the values."""
        found = []
        for number, trigger in enumerate(self.automation.triggers):
            name = _name(number, trigger)
            if isinstance(trigger, TimeTrigger):
                since = self.memory[name]
                if since > now:
                    # The clock was put back.
                    self._remember(name, now)
                elif (at := trigger.cron.last_until(since, now, trigger.zone)) is not None:
                    self._remember(name, at)
                    found.append(Firing(f"t{number}.{int(at)}", "time", at))
            elif isinstance(trigger, AbsenceTrigger):
                kept = self.memory[name]
                if not kept["fired"] and now - kept["seen"] >= trigger.for_s:
                    self._remember(name, {**kept, "fired": True})
                    found.append(Firing(f"a{number}.{int(kept['seen'] * 1000)}", "absence", now))
            elif isinstance(trigger, ThresholdTrigger) and measured is not None:
                found += self._on_value(number, trigger, now, monotonic, measured)
        return found

    def next_at(self, now: float) -> float | None:
        """Return when the clock is to be looked at next, None for never."""
        times = []
        for number, trigger in enumerate(self.automation.triggers):
            kept = self.memory.get(_name(number, trigger))
            if isinstance(trigger, TimeTrigger) and kept is not None:
                times.append(trigger.cron.next_after(min(kept, now), trigger.zone))
            elif isinstance(trigger, AbsenceTrigger) and kept is not None and not kept["fired"]:
                times.append(kept["seen"] + trigger.for_s)
        return min((each for each in times if each is not None), default=None)

    def holds(self, now: float, measured: Mapping[str, float]) -> bool:
        """Whether all its conditions hold."""
        return all(
            each.holds(now) if isinstance(each, TimeWindow) else each.holds(measured)
            for each in self.automation.conditions
        )

    def count(self, now: float) -> tuple[bool, bool]:
        """Count a run; returns whether it is within the rate, and whether it is the first beyond.

        An hour begins with its first run.
        """
        began, n = self.memory["hour"]
        if not 0 <= now - began < _HOUR_S:
            began, n = now, 0
        self._remember("hour", [began, n + 1])
        return n < self.automation.max_per_hour, n == self.automation.max_per_hour

    def _on_value(
        self,
        number: int,
        trigger: ThresholdTrigger,
        now: float,
        monotonic: float,
        measured: Mapping[str, float],
    ) -> Iterator[Firing]:
        name = _name(number, trigger)
        if not trigger.threshold.holds(measured):
            self._since.pop(number, None)
            self._remember(name, False)
            return
        since = self._since.setdefault(number, monotonic)
        if not self.memory[name] and monotonic - since >= trigger.for_s:
            self._remember(name, True)
            value = measured[trigger.threshold.value]
            yield Firing(f"v{number}.{int(now * 1000)}", "threshold", now, value=value)

    def _remember(self, name: str, value: Any) -> None:
        if self.memory.get(name, _NOTHING) != value:
            self.memory[name] = value
            self.changed = True


_NOTHING = object()


def _name(number: int, trigger: object) -> str:
    """Return the name of what a trigger remembers; one that was changed remembers nothing."""
    if isinstance(trigger, TimeTrigger):
        return f"time {trigger.cron.text} {trigger.zone}"
    if isinstance(trigger, AbsenceTrigger):
        wanted = trigger.wanted
        where = sorted(wanted.where.items(), key=repr)
        labels = sorted(wanted.labels.items())
        return f"absence {wanted.event_type} {labels} {where} {trigger.for_s}"
    return f"{number} {trigger}"
