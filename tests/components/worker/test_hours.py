"""The hours of the week: by day, over midnight, and what is none is named."""

from typing import Any

import pytest
import voluptuous as vol
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.worker.hours import (
    ALWAYS,
    DAYS,
    Hours,
    hours,
    is_within,
    minutes_to_next,
)

NIGHTS = {"mon-fri": "22:00-07:00", "sat-sun": "any"}
WEEK_MINUTES = 7 * 24 * 60
MON, FRI, SAT, SUN = 0, 4, 5, 6


def at(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


@pytest.mark.parametrize(
    ("given", "day", "time", "expected"),
    [
        ("any", MON, "12:00", True),
        (NIGHTS, MON, "21:59", False),
        (NIGHTS, MON, "22:00", True),
        (NIGHTS, MON, "00:00", False),
        (NIGHTS, MON + 1, "06:59", True),
        (NIGHTS, MON + 1, "07:00", False),
        (NIGHTS, SAT, "12:00", True),
        (NIGHTS, SUN, "23:59", True),
        ({"fri": "22:00-07:00"}, SAT, "06:59", True),
        ({"fri": "22:00-07:00"}, SAT, "07:00", False),
        ({"sun": "22:00-07:00"}, MON, "06:59", True),
        ({"mon": "00:00-24:00"}, MON, "23:59", True),
        ({"mon": ["06:00-08:00", "20:00-22:00"]}, MON, "07:00", True),
        ({"mon": ["06:00-08:00", "20:00-22:00"]}, MON, "12:00", False),
        ({"fri-mon": "any"}, SUN, "12:00", True),
        ({"fri-mon": "any"}, MON, "12:00", True),
        ({"fri-mon": "any"}, MON + 1, "00:00", False),
        ({"mon-sun": "none"}, MON, "12:00", False),
        ({"mon": "any"}, FRI, "12:00", False),
    ],
)
def test_when_a_device_works(given: Any, day: int, time: str, expected: bool) -> None:
    assert is_within(hours(given), day, at(time)) is expected


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        (None, [], "expected any, or days with their hours"),
        ({}, [], "expected any, or days"),
        ("22:00-07:00", [], "expected any, or days"),
        ({"mon-fri": "any", "fri": "any"}, ["fri"], "fri has its hours twice"),
        ({"mo": "any"}, ["mo"], "expected a day or days such as mon-fri"),
        ({"mon-": "any"}, ["mon-"], "expected a day or days"),
        ({5: "any"}, [5], "expected a day or days"),
        ({"mon": True}, ["mon"], "expected any, none, or hours in quotes"),
        ({"mon": []}, ["mon"], "expected any, none, or hours in quotes"),
        ({"mon": "7-22"}, ["mon"], "expected any, none, or hours in quotes"),
        ({"mon": "07:00-24:01"}, ["mon"], "expected times from 00:00 to 24:00"),
        ({"mon": "24:00-07:00"}, ["mon"], "expected times from 00:00 to 24:00"),
        ({"mon": "07:60-08:00"}, ["mon"], "expected times from 00:00 to 24:00"),
        ({"mon": "07:00-07:00"}, ["mon"], "has no length; for the whole day write any"),
    ],
)
def test_what_are_no_hours_is_named(given: Any, path: list[Any], message: str) -> None:
    with pytest.raises(vol.Invalid, match=message) as raised:
        hours(given)
    assert raised.value.path == path


SPANS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).map(
    lambda pair: (pair[0], pair[1] if pair[1] > pair[0] else pair[1] + 1440)
)
WEEKS = st.tuples(*[st.lists(SPANS, max_size=2).map(tuple) for _ in DAYS])


@given(week=WEEKS, minute_of_week=st.integers(0, WEEK_MINUTES - 1))
def test_the_next_hours_begin_when_the_device_works_again(week: Hours, minute_of_week: int) -> None:
    ahead = minutes_to_next(week, *divmod(minute_of_week, 1440))
    if ahead is None:
        assert not any(week)
        return
    later = (minute_of_week + ahead) % WEEK_MINUTES
    assert is_within(week, *divmod(later, 1440))
    if not is_within(week, *divmod(minute_of_week, 1440)):
        between = range(minute_of_week, minute_of_week + ahead)
        assert not any(is_within(week, *divmod(each % WEEK_MINUTES, 1440)) for each in between)


def test_always_is_what_any_means() -> None:
    assert hours("any") == ALWAYS
