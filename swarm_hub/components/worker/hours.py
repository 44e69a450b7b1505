"""The hours of the week in which a device works: `{mon-fri: "22:00-07:00", sat-sun: any}`."""

import re
from collections.abc import Iterator
from typing import Any, Final

import voluptuous as vol

from swarm_hub.util.bounds import LIST_MAX, shown
from swarm_hub.util.described import described

# From one minute of the day to before another; beyond 1440 it goes on after midnight.
Span = tuple[int, int]
# The spans that begin on each day, Monday first.
Hours = tuple[tuple[Span, ...], ...]

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_ALL_DAY: Final[tuple[Span, ...]] = ((0, _DAY_MINUTES),)
ALWAYS: Final[Hours] = (_ALL_DAY,) * 7
_SPAN: Final = re.compile(
    r"\s{0,8}([0-9]{1,2}):([0-9]{2})\s{0,8}-\s{0,8}([0-9]{1,2}):([0-9]{2})\s{0,8}\Z", re.ASCII
)
_EXPECTED: Final = 'any, or days with their hours such as {mon-fri: "22:00-07:00", sat-sun: any}'


@described({"anyOf": [{"const": "any"}, {"type": "object", "minProperties": 1}]})
def hours(value: Any) -> Hours:
    """Validate hours by weekday; a day that is not named has none."""
    if value == "any":
        return ALWAYS
    if not isinstance(value, dict) or not value:
        raise vol.Invalid(f"expected {_EXPECTED}, got {shown(value)}")
    by_day: dict[int, tuple[Span, ...]] = {}
    for key, given in value.items():
        for day in _days(key):
            if day in by_day:
                raise vol.Invalid(f"{DAYS[day]} has its hours twice", path=[key])
            by_day[day] = _spans(key, given)
    return tuple(by_day.get(day, ()) for day in range(7))


def is_within(week: Hours, weekday: int, minute: int) -> bool:
    """Whether a minute of a day (Monday is 0) is within the hours."""
    return any(start <= minute < end for start, end in week[weekday]) or any(
        minute + _DAY_MINUTES < end for _, end in week[weekday - 1]
    )


def minutes_to_next(week: Hours, weekday: int, minute: int) -> int | None:
    """Return in how many minutes the next hours begin; None if there are none."""
    starts = (
        ahead * _DAY_MINUTES + start - minute
        for ahead in range(8)
        for start, _ in week[(weekday + ahead) % 7]
    )
    return min((minutes for minutes in starts if minutes > 0), default=None)


def _days(key: Any) -> Iterator[int]:
    first, dash, last = key.partition("-") if isinstance(key, str) else ("", "", "")
    first, last = first.strip(), last.strip() if dash else first.strip()
    if first not in DAYS or last not in DAYS:
        raise vol.Invalid(
            f"expected a day or days such as mon-fri ({', '.join(DAYS)}), got {shown(key)}",
            path=[key],
        )
    day, end = DAYS.index(first), DAYS.index(last)
    while day != end:
        yield day
        day = (day + 1) % 7
    yield day


def _spans(key: str, given: Any) -> tuple[Span, ...]:
    if given == "any":
        return _ALL_DAY
    if given == "none":
        return ()
    texts = given if isinstance(given, list) and 0 < len(given) <= LIST_MAX else [given]
    return tuple(sorted(_span(key, text) for text in texts))


def _span(key: str, text: Any) -> Span:
    match = _SPAN.match(text) if isinstance(text, str) else None
    if match is None:
        raise vol.Invalid(
            f'expected any, none, or hours in quotes such as "22:00-07:00", got {shown(text)}',
            path=[key],
        )
    start, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (1, 3))
    if int(match[2]) > 59 or int(match[4]) > 59 or start >= _DAY_MINUTES or end > _DAY_MINUTES:
        raise vol.Invalid(f"expected times from 00:00 to 24:00, got {shown(text)}", path=[key])
    if start == end:
        raise vol.Invalid(f"{shown(text)} has no length; for the whole day write any", path=[key])
    return start, end if end > start else end + _DAY_MINUTES
