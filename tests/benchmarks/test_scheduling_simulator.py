"""The simulator of fleets: the same seed gives the same job, and nobody beats the bound."""

import math
from typing import Any

import plot
import pytest
from simulated_fleet import Scenario, SimulatedNode, draw, least_s
from simulation import HungJobError, Run, simulate

from swarm_hub.components.scheduler import Cut, Strategy
from swarm_hub.components.scheduler.strategies import adaptive, round_robin, weighted
from swarm_hub.models.node import Telemetry

STRATEGIES = pytest.mark.parametrize(
    "strategy", [adaptive.create(), weighted.create(), round_robin.create()], ids=type
)


def run(strategy: Strategy, n_nodes: int = 8, seed: int = 1, **rough: float) -> Run:
    return simulate(Scenario(n_nodes, rough.pop("churn", 0.2), 60.0, 200, **rough), strategy, seed)


def node(items_a_s: float, **times: Any) -> SimulatedNode:
    return SimulatedNode(f"n{items_a_s}", items_a_s, 0.0, 0.0, Telemetry(), **times)


@STRATEGIES
def test_the_same_seed_gives_the_same_job_and_another_seed_another(strategy: Strategy) -> None:
    first = run(strategy)
    assert run(strategy) == first
    assert run(strategy, seed=2) != first


@STRATEGIES
@pytest.mark.parametrize("seed", range(1, 6))
def test_every_item_counts_once(strategy: Strategy, seed: int) -> None:
    result = run(strategy, seed=seed, churn=0.5, slow_links=0.2, phones=0.2, liars=0.2)
    assert result.ended
    # The simulator itself fails when spans overlap or are missing.
    assert result.counted_items == result.n_items


@STRATEGIES
@pytest.mark.parametrize("seed", range(1, 6))
def test_nobody_beats_the_bound(strategy: Strategy, seed: int) -> None:
    # The noise of run times has a mean of 1, which some shards on few nodes may fall short of.
    assert run(strategy, seed=seed).ratio > 0.95


@STRATEGIES
@pytest.mark.parametrize("silent", [0.0, 1.0])
def test_a_job_ends_where_all_nodes_but_one_leave_for_good(
    strategy: Strategy, silent: float
) -> None:
    result = run(strategy, n_nodes=10, churn=0.9, silent=silent, returning=0.0)
    assert result.ended
    assert result.lost_items > 0


def test_results_of_liars_are_told_from_true_ones() -> None:
    assert run(adaptive.create()).wrong_items == 0
    assert run(adaptive.create(), liars=1.0).wrong_items > 0


def test_a_job_that_hangs_is_an_error_with_its_story() -> None:
    class Nothing:
        def cut(self, *_: object) -> list[Cut]:
            return []

    with pytest.raises(HungJobError, match="0 of 1600 items are done"):
        run(Nothing(), churn=0.0)


def test_the_bound_counts_what_nodes_could_do_while_they_were_there() -> None:
    # 60 items: 6/s for 2 s, 3/s until the other is back at 10 s, then 6/s again.
    leaving = node(3.0, leaves_at=2.0, returns_at=10.0)
    assert least_s((node(3.0), leaving), 60) == pytest.approx(14.0)
    # Alone from 1 s to 8 s, since the other comes back while it refuses: 6 + 21 + 6 items.
    phone = node(3.0, leaves_at=1.0, returns_at=5.0, refuses_from=3.0, refuses_until=8.0)
    assert least_s((node(3.0), phone), 33) == pytest.approx(9.0)


def test_the_bound_is_the_ideal_time_where_nobody_leaves() -> None:
    scenario = Scenario(50, 0.0)
    fleet = draw(scenario, 1)
    assert least_s(fleet, scenario.n_items) == pytest.approx(scenario.ideal_s)
    speeds = [each.items_a_s for each in fleet]
    assert 5 < max(speeds) / min(speeds) <= 10


def test_a_fleet_that_leaves_altogether_has_no_bound() -> None:
    with pytest.raises(ValueError, match="keep one"):
        least_s((node(1.0, leaves_at=1.0),), 10)


def test_the_share_that_leaves_is_met() -> None:
    left = [
        sum(each.leaves_at < math.inf for each in draw(Scenario(10, 0.05), n)) for n in range(40)
    ]
    assert set(left) == {0, 1}
    assert sum(each.leaves_at < math.inf for each in draw(Scenario(1000, 0.2), 1)) == 200


def test_the_plot_names_every_group_and_series() -> None:
    spreads = [plot.Spread("g<1>", "s", (1.0, 3.0)), plot.Spread("g<1>", "none", ())]
    text = plot.log_plot("t", "x", "y", spreads)
    assert "g&lt;1&gt;" in text
    assert ">2.00<" in text
    assert ">given up<" in text
