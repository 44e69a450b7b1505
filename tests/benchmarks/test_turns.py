"""What two checkouts in turns are compared by."""

import os

import pytest
from roles import Meter
from turns import Compared, compared


def test_each_figure_is_compared_within_its_pairs() -> None:
    pairs = [({"cpu": 10.0, "gone": 1.0}, {"cpu": 5.0}), ({"cpu": 40.0}, {"cpu": 10.0, "new": 1.0})]
    assert compared(pairs) == [Compared("cpu", 25.0, 7.5, 0.375, 0.25, 0.5)]


@pytest.mark.parametrize("pair", [({"x": 0.0}, {"x": 1.0}), ({"x": 1.0}, {})])
def test_what_has_no_ratio_is_left_out(pair: tuple[dict[str, float], dict[str, float]]) -> None:
    assert compared([pair]) == []


def test_a_meter_counts_what_a_process_does_meanwhile() -> None:
    meter = Meter(os.getpid(), [])
    sum(number * number for number in range(300_000))
    spent = meter.a_job(2)
    assert spent.gateway_ms == pytest.approx(spent.client_ms, rel=0.5)
    assert 0 < spent.gateway_ms <= spent.hubs_ms
    assert spent.worker_ms == 0
