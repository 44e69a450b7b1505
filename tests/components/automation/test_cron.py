"""Times of a crontab, compared with what the calendar says minute by minute."""

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.automation.cron import Cron, parse_cron

MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


def shown(time_s: float | None) -> str:
    assert time_s is not None
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2026-11-30T08:00:30", "2026-11-30T08:01"),
        ("*/15 * * * *", "2026-11-30T08:15", "2026-11-30T08:30"),
        ("0 3 * * *", "2026-11-30T03:00", "2026-12-01T03:00"),
        ("30 6 * * mon-fri", "2026-11-28T00:00", "2026-11-30T06:30"),
        ("0 0 * * 0", "2026-11-30T00:00", "2026-12-06T00:00"),
        ("0 0 * * 7", "2026-11-30T00:00", "2026-12-06T00:00"),
        ("0 0 * * sat-sun", "2026-11-30T00:00", "2026-12-05T00:00"),
        ("0 0 29 feb *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 12 13 * fri", "2026-11-30T00:00", "2026-12-04T12:00"),
        ("5,50 8-9 * * *", "2026-11-30T08:50", "2026-11-30T09:05"),
        ("10/20 * * * *", "2026-11-30T08:10", "2026-11-30T08:30"),
        ("0 0 1 JAN *", "2026-11-30T00:00", "2027-01-01T00:00"),
    ],
)
def test_the_next_time_is_the_one_that_the_fields_name(
    text: str, after: str, expected: str
) -> None:
    assert shown(parse_cron(text).next_after(at(after), UTC)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected five fields"),
        ("* * * *", "expected five fields"),
        ("* * * * * *", "expected five fields"),
        ("60 * * * *", "minute: expected 0 to 59"),
        ("* 24 * * *", "hour: expected 0 to 23"),
        ("* * 0 * *", "day: expected 1 to 31"),
        ("* * * foo *", "month: expected 1 to 12 or jan to dec"),
        ("* * * * 8", "weekday: expected 0 to 7 or mon to sun"),
        ("5-1 * * * *", "contains nothing"),
        ("*/0 * * * *", "contains nothing"),
        ("1,,2 * * * *", "minute: expected such as"),
        ("-1 * * * *", "minute: expected such as"),
        ("0 0 31 2 *", "there is no such day"),
        ("* " * 200, "expected five fields"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cron(text)


fields = st.tuples(
    st.sampled_from(["*", "0", "*/7", "5-20/5", "59", "0,30"]),
    st.sampled_from(["*", "0", "*/6", "22-23", "3"]),
    st.sampled_from(["*", "1", "*/10", "28-31"]),
    st.sampled_from(["*", "jan", "*/3", "2"]),
    st.sampled_from(["*", "mon", "6-7", "0", "wed-fri"]),
).map(" ".join)
moments = st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2035-01-01"))


@given(fields, moments)
def test_it_is_the_first_minute_that_matches(text: str, moment: datetime) -> None:
    try:
        cron = parse_cron(text)
    except ValueError:
        return
    found = cron.next_after(moment.replace(tzinfo=UTC).timestamp(), UTC)
    assert found is not None
    first = datetime.fromtimestamp(found, UTC).replace(tzinfo=None)
    assert first > moment
    assert matches(cron, first)
    # No minute of the days around it is earlier.
    each = max(moment.replace(second=0, microsecond=0) + MINUTE, first - timedelta(days=2))
    while each < first:
        assert not matches(cron, each), each
        each += MINUTE


def matches(cron: Cron, moment: datetime) -> bool:
    days = moment.day in cron.days, moment.weekday() in cron.weekdays
    is_day = any(days) if cron.either else all(days)
    return (
        is_day
        and moment.month in cron.months
        and moment.hour in cron.hours
        and moment.minute in cron.minutes
    )


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_cron(text).minutes


def test_a_time_that_the_clock_skips_comes_when_it_was_put_forward() -> None:
    cron = parse_cron("30 2 * * *")
    found = cron.next_after(at("2026-03-29T01:00", BERLIN), BERLIN)
    assert shown(found) == "2026-03-29T01:30"  # 03:30 of the clock there


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    cron = parse_cron("30 2 * * *")
    first = cron.next_after(at("2026-10-25T00:00", BERLIN), BERLIN)
    assert first is not None
    assert shown(first) == "2026-10-25T00:30"
    assert shown(cron.next_after(first, BERLIN)) == "2026-10-26T01:30"


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        ("2026-11-30T08:01", "2026-11-30T08:14", None),
        ("2026-11-30T08:01", "2026-11-30T08:15", "2026-11-30T08:15"),
        ("2026-11-30T08:01", "2026-11-30T09:59", "2026-11-30T09:45"),
        ("2020-01-01T00:00", "2026-11-30T09:59", "2026-11-30T09:45"),
    ],
)
def test_of_the_times_in_a_gap_the_last_is_found(
    since: str, now: str, expected: str | None
) -> None:
    found = parse_cron("*/15 * * * *").last_until(at(since), at(now), UTC)
    assert (None if found is None else shown(found)) == expected
