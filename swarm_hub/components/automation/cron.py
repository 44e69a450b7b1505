"""Times given as in a crontab: `minute hour day month weekday`, in a time zone or the device's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun",
                  "jul", "aug", "sep", "oct", "nov", "dec")  # fmt: skip
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# 29 February may be eight years away.
_DAYS_LOOKED_AT: Final = 8 * 366
_TEXT_MAX_CHARS: Final = 200
_PART: Final = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[a-z0-9]{1,3})(?:-(?P<last>[a-z0-9]{1,3}))?)"
    r"(?:/(?P<step>[0-9]{1,3}))?\Z",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is due; `text` is how it was written."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    # Monday is 0.
    weekdays: frozenset[int]
    # As everywhere: with both a day and a weekday given, one of them is enough.
    either: bool

    def next_after(self, time_s: float, zone: tzinfo | None = None) -> float | None:
        """Return the first time after `time_s`, both in seconds since the epoch; None for never.

        A time that a clock change leaves out comes as much later as the clock was put forward; one
        that comes twice counts the first time.
        """
        start = datetime.fromtimestamp(time_s, zone).replace(tzinfo=None, second=0, microsecond=0)
        day = start.replace(hour=0, minute=0)
        for _ in range(_DAYS_LOOKED_AT):
            if self._has_day(day):
                for naive in self._times_of(day):
                    at = naive.replace(tzinfo=zone).timestamp()
                    if at > time_s:
                        return at
            day += timedelta(days=1)
        return None

    def last_until(self, since_s: float, now_s: float, zone: tzinfo | None = None) -> float | None:
        """Return the last time after `since_s` until `now_s`, None if there was none.

        Of all that a gap left out this is one. After a long gap it looks at the last days alone.
        """
        found = None
        at = self.next_after(since_s, zone)
        if at is not None and at <= now_s - 2 * 86_400.0:
            found = at
            at = self.next_after(max(at, now_s - 2 * 86_400.0), zone)
        while at is not None and at <= now_s:
            found = at
            at = self.next_after(at, zone)
        return found

    def _has_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.weekday() in self.weekdays
        return by_day or by_weekday if self.either else by_day and by_weekday

    def _times_of(self, day: datetime) -> Iterator[datetime]:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                yield day.replace(hour=hour, minute=minute)


def parse_cron(text: str) -> Cron:
    """Read the five fields; raises ValueError that says which one is wrong."""
    fields = text.lower().split() if len(text) <= _TEXT_MAX_CHARS else []
    if len(fields) != 5:
        raise ValueError(
            'expected five fields, minute hour day month weekday, such as "0 3 * * mon-fri"'
        )
    minute, hour, day, month, weekday = fields
    cron = Cron(
        text,
        _field("minute", minute, 0, 59),
        _field("hour", hour, 0, 23),
        _field("day", day, 1, 31),
        _field("month", month, 1, 12, _MONTHS),
        # Cron counts from Sunday, which is 0 and 7.
        frozenset((number - 1) % 7 for number in _field("weekday", weekday, 0, 7, DAYS)),
        not day.startswith("*") and not weekday.startswith("*"),
    )
    if cron.next_after(0.0) is None:
        raise ValueError("there is no such day")
    return cron


def _field(
    name: str, text: str, low: int, high: int, words: tuple[str, ...] = ()
) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.match(part)
        if match is None:
            raise ValueError(f"{name}: expected such as *, 5, 1-5, */15 or 0,30, got {part!r}")
        if match["all"]:
            first, last = low, high
        else:
            first = _number(name, match["first"], low, high, words)
            last = first
            if match["last"]:
                last = _number(name, match["last"], low, high, words)
                # From a day to Sunday.
                last = 7 if high == 7 and last == 0 and first > 0 else last
            elif match["step"]:
                last = high
        step = int(match["step"] or 1)
        if first > last or step < 1:
            raise ValueError(f"{name}: {part!r} contains nothing; {low} to {high} are there")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(name: str, text: str, low: int, high: int, words: tuple[str, ...]) -> int:
    if text in words:
        return words.index(text) + 1
    if not text.isdigit() or not low <= int(text) <= high:
        known = f" or {words[0]} to {words[-1]}" if words else ""
        raise ValueError(f"{name}: expected {low} to {high}{known}, got {text!r}")
    return int(text)
