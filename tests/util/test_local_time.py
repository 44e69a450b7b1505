"""Times of day for people."""

import time

import pytest

from swarm_hub.util.local_time import clock_text

NOON = time.mktime((2026, 7, 15, 12, 0, 0, 0, 0, -1))  # a Wednesday
HOUR = 3600.0


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [
        (0, "12:00"),
        (2.5 * HOUR, "14:30"),
        (12 * HOUR, "Thu 00:00"),
        (5 * 24 * HOUR, "Mon 12:00"),
        (7 * 24 * HOUR, "2026-07-22 12:00"),
        (-24 * HOUR, "2026-07-14 12:00"),
    ],
)
def test_a_time_is_told_as_short_as_it_is_clear(after_s: float, expected: str) -> None:
    assert clock_text(NOON + after_s, NOON) == expected
