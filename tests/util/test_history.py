"""A history keeps the newest of each step, as many rows as it has, and no more memory for more."""

import pytest

from swarm_hub.util.history import History


def test_the_newest_of_a_step_counts_and_steps_without_news_are_not_known() -> None:
    kept = History(2, 10, 20.0)
    assert (kept.times(), kept.columns()) == ([], [[], []])
    for now, values in ((1000.0, (1, None)), (1019.9, (2, 0.5)), (1061.0, (3, 1))):
        kept.put(now, values)
    assert kept.times() == [1000.0, 1020.0, 1040.0, 1060.0]
    assert kept.columns() == [[2.0, None, None, 3.0], [0.5, None, None, 1.0]]


@pytest.mark.parametrize("by", [1, 3, 9, 10, 11, 500])
def test_it_never_has_more_rows_and_none_that_was_overwritten(by: int) -> None:
    kept = History(1, 10, 1.0)
    size_bytes = kept.size_bytes
    for now in range(0, 5 * by, by):
        kept.put(float(now), (now,))
    times, (values,) = kept.times(), kept.columns()
    assert len(times) == len(values) <= 10
    assert times[-1] == values[-1] == 4.0 * by
    assert all(value in (None, at) for at, value in zip(times, values, strict=True))
    assert [value for value in values if value is not None] == [at for at in times if at % by == 0]
    assert kept.size_bytes == size_bytes


def test_what_comes_late_is_left_out() -> None:
    kept = History(1, 10, 1.0)
    kept.put(5.0, (1,))
    kept.put(3.0, (2,))
    assert (kept.times(), kept.columns()) == ([5.0], [[1.0]])
