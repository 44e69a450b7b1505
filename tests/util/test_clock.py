"""Clocks that jump: what is signed and what waits for a time is not moved by them."""

import pytest

from tests.conftest import MovableClock


@pytest.mark.parametrize("jump_s", [600.0, -600.0, 86_400.0, -86_400.0, 56 * 365 * 86_400.0])
def test_a_jump_moves_wall_time_alone_and_is_believed_after_an_hour(jump_s: float) -> None:
    clock = MovableClock()
    clock.stop()
    wall, steady, boottime = clock.time(), clock.steady(), clock.boottime()
    assert clock.is_settled
    clock.jump_s = jump_s
    assert clock.time() == wall + jump_s
    assert clock.steady() == steady
    assert clock.boottime() == boottime
    assert not clock.is_settled
    said = clock.problem()
    assert said is not None
    assert f"{'forward' if jump_s > 0 else 'backward'} by {abs(jump_s):.0f} s" in said
    clock.offset_s += 3599
    assert not clock.is_settled
    clock.offset_s += 2
    assert clock.is_settled
    assert clock.problem() is None
    assert clock.steady() == pytest.approx(steady + 3601)


def test_small_steps_and_time_that_passes_are_no_jumps() -> None:
    clock = MovableClock()
    for _ in range(100):
        clock.jump_s += 50
        clock.time()
    clock.offset_s += 7 * 86_400
    clock.time()
    assert clock.is_settled


def test_a_clock_behind_what_is_stored_has_jumped() -> None:
    clock = MovableClock()
    clock.has_seen(clock.time() - 1000)
    clock.has_seen(clock.time() + 59)
    assert clock.is_settled
    clock.has_seen(clock.time() + 1000)
    assert not clock.is_settled
