"""Deadlines: how long an attempt may take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.sla import expected, fixed


@pytest.mark.parametrize(
    ("expected_s", "attempt", "deadline_s"),
    [
        (None, 1, 15), (None, 2, 30), (None, 3, 60),
        (10.0, 1, 20), (10.0, 2, 40),
        (0.001, 1, 5), (0.0, 2, 10),
        (10**6, 1, 86400), (None, 60, 86400),
    ],
)  # fmt: skip
def test_expected_is_a_multiple_of_the_measured_time(
    expected_s: float | None, attempt: int, deadline_s: float
) -> None:
    assert expected.create(2.0, 15.0)(expected_s, attempt) == deadline_s


@given(st.none() | st.floats(0, 1e9), st.integers(1, 10**6))
def test_a_further_attempt_never_gets_less_time(expected_s: float | None, attempt: int) -> None:
    rule = expected.create(2.0, 15.0)
    assert 0 < rule(expected_s, attempt) <= rule(expected_s, attempt + 1) <= 86400


@given(st.none() | st.floats(0, 1e9), st.integers(1, 10**6))
def test_fixed_is_the_same_for_everyone(expected_s: float | None, attempt: int) -> None:
    assert fixed.create(15)(expected_s, attempt) == 15
