"""Pauses that double, and the chance in them."""

import math

import pytest

from swarm_hub.util.back_off import back_off_s, jittered_s


@pytest.mark.parametrize(
    ("doublings", "pause_s"), [(0, 0.25), (1, 0.5), (2, 1.0), (5, 8.0), (6, 15.0), (10**6, 15.0)]
)
def test_a_pause_doubles_up_to_the_longest(doublings: int, pause_s: float) -> None:
    assert back_off_s(0.25, doublings, 15.0) == pause_s


def test_a_first_pause_is_no_longer_than_the_longest() -> None:
    assert back_off_s(5.0, 0, 2.0) == 2.0


def test_without_a_longest_it_goes_on_doubling_and_stays_a_number() -> None:
    assert back_off_s(0.1, 10) == 0.1 * 1024
    assert back_off_s(0.1, 10**6) < math.inf


def test_the_chance_stays_within_its_factors_and_differs_between_two() -> None:
    pauses = {jittered_s(10.0, 0.75, 1.25) for _ in range(200)}
    assert len(pauses) > 1
    assert all(7.5 <= pause_s <= 12.5 for pause_s in pauses)
