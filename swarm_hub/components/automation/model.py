"""What an automation is: what triggers it, under which conditions, and what it then does."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from swarm_hub.components.automation.cron import Cron
from swarm_hub.models.event import DurableEvent


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Durable events of one type, of jobs with these labels, with these values in their data."""

    event_type: str
    labels: Mapping[str, str]
    where: Mapping[str, Any]

    def has(self, event: DurableEvent, labels: Mapping[str, str]) -> bool:
        """Whether an event, of a job with these labels, is one of them."""
        return (
            event.event_type == self.event_type
            and all(labels.get(name) == text for name, text in self.labels.items())
            and all(event.data.get(name, _MISSING) == value for name, value in self.where.items())
        )


_MISSING = object()


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """Each event of the filter."""

    wanted: EventFilter


@dataclass(frozen=True, slots=True)
class AbsenceTrigger:
    """No event of the filter for so long; the next one makes it ready again."""

    wanted: EventFilter
    for_s: float


@dataclass(frozen=True, slots=True)
class TimeTrigger:
    """Times of the clock; those that passed while the hub was down count as one."""

    cron: Cron
    zone: tzinfo | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measured value that is above or below a number."""

    value: str
    above: float | None
    below: float | None

    def holds(self, measured: Mapping[str, float]) -> bool:
        """Whether it is, as far as the value is known."""
        found = measured.get(self.value)
        return (
            found is not None
            and (self.above is None or found > self.above)
            and (self.below is None or found < self.below)
        )


@dataclass(frozen=True, slots=True)
class ThresholdTrigger:
    """A value that has been beyond a threshold for so long; once, until it no longer is."""

    threshold: Threshold
    for_s: float


Trigger = EventTrigger | AbsenceTrigger | TimeTrigger | ThresholdTrigger


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Hours of some days of the week; minutes count from midnight, Monday is 0."""

    after: int | None
    before: int | None
    weekdays: frozenset[int]
    zone: tzinfo | None

    def holds(self, time_s: float) -> bool:
        """Whether a time, in seconds since the epoch, is inside."""
        local = datetime.fromtimestamp(time_s, self.zone)
        minute = local.hour * 60 + local.minute
        after, before = self.after or 0, 24 * 60 if self.before is None else self.before
        if after <= before:
            return after <= minute < before and local.weekday() in self.weekdays
        # It goes on after midnight, as part of the day on which it began.
        if minute >= after:
            return local.weekday() in self.weekdays
        return minute < before and (local.weekday() - 1) % 7 in self.weekdays


Condition = Threshold | TimeWindow


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, by its kind; every text in `content` may be a template."""

    kind: str
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Automation:
    """One of the list; `id` is its name in the API and in the store."""

    id: str
    alias: str
    triggers: tuple[Trigger, ...]
    conditions: tuple[Condition, ...]
    actions: tuple[Action, ...]
    max_per_hour: int
    max_depth: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """What actions may reach: commands by name, hosts and networks that webhooks may call."""

    commands: Mapping[str, tuple[str, ...]]
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AutomationConfig:
    """`automation:`: the list, and what its actions may reach."""

    automations: tuple[Automation, ...]
    allowed: Allowed
