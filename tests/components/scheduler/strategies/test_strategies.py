"""How the strategies cut: nothing lost, nothing empty, and the seed's weights exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.scheduler.strategies import adaptive, round_robin, weighted
from swarm_hub.components.scheduler.strategies.base import JobView, NodeView, Strategy
from swarm_hub.components.scheduler.strategies.weighted import fitness, largest_remainder
from swarm_hub.models.node import Telemetry

STRATEGIES: list[Strategy] = [adaptive.create(), round_robin.create(), weighted.create()]
MIB = 1024 * 1024

telemetry = st.builds(
    Telemetry,
    cpu_percent=st.none() | st.floats(),
    available_memory_bytes=st.none() | st.integers(-(2**40), 2**40),
)


def node(number: int, room: int = 4, told: Telemetry | None = None, load: int = 0) -> NodeView:
    return NodeView(f"n{number:02}", 2, load, room, told or Telemetry(), None)


def job(n_items: int, shard_size: int | None = None, max_items: int = 10**9) -> JobView:
    return JobView("J", n_items, n_items, shard_size, max_items)


@given(
    st.sampled_from(STRATEGIES),
    st.integers(1, 10_000),
    st.lists(telemetry, min_size=1, max_size=12),
    st.none() | st.integers(1, 500),
    st.integers(1, 6),
)
def test_cuts_are_never_empty_and_fit_the_rooms(
    strategy: Strategy,
    n_items: int,
    told: list[Telemetry],
    shard_size: int | None,
    room: int,
) -> None:
    nodes = [node(number, room, each) for number, each in enumerate(told)]
    cuts = strategy.cut(job(n_items, shard_size), nodes)
    assert cuts
    assert all(cut.n_items > 0 for cut in cuts)
    if shard_size is not None:
        assert {cut.n_items for cut in cuts} == {shard_size}
    for each in nodes:
        assert sum(cut.node_id == each.node_id for cut in cuts) <= room


@given(st.integers(0, 10**6), st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=50))
def test_the_largest_remainder_adds_up_and_stays_within_one_of_the_quota(
    total: int, weights: list[float]
) -> None:
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    whole = math.fsum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / whole) < 1.001


def test_fitness_is_the_seeds() -> None:
    assert fitness(Telemetry(cpu_percent=9.0, available_memory_bytes=1000 * MIB)) == 100.0
    assert fitness(Telemetry()) == 1.0


@pytest.mark.parametrize("cpu", [-1.0, float("nan"), float("inf"), 1e300, 0.0])
@pytest.mark.parametrize("memory", [0, -5, 2**50])
def test_fitness_is_finite_and_positive_whatever_a_node_says(cpu: float, memory: int) -> None:
    value = fitness(Telemetry(cpu_percent=cpu, available_memory_bytes=memory))
    assert math.isfinite(value)
    assert value > 0


def test_five_items_on_twelve_nodes_make_five_shards() -> None:
    told = Telemetry(cpu_percent=5.0, available_memory_bytes=1000 * MIB)
    cuts = weighted.create().cut(job(5), [node(number, told=told) for number in range(12)])
    assert [cut.n_items for cut in cuts] == [1, 1, 1, 1, 1]


def test_weighted_gives_each_node_its_share() -> None:
    idle = Telemetry(cpu_percent=0.0, available_memory_bytes=3000 * MIB)
    busy = Telemetry(cpu_percent=0.0, available_memory_bytes=1000 * MIB)
    cuts = weighted.create().cut(job(1000), [node(0, told=idle), node(1, told=busy)])
    assert [(cut.node_id, cut.n_items) for cut in cuts] == [("n00", 750), ("n01", 250)]


def test_a_limit_in_bytes_bounds_a_share() -> None:
    cuts = weighted.create().cut(job(1000, max_items=100), [node(0, room=3)])
    assert [cut.n_items for cut in cuts] == [100, 100, 100]


def test_adaptive_starts_with_the_emptiest_node() -> None:
    cuts = adaptive.create().cut(job(1), [node(0, load=3), node(1, load=0)])
    assert cuts[0].node_id == "n01"


def test_adaptive_gives_smaller_chunks_to_who_has_to_earn_trust_where_trust_counts() -> None:
    def sizes(trust_counts: bool) -> list[int]:
        view = JobView("J", 10_000, 10_000, None, 10**9, 20.0, 2, 2, trust_counts)
        nodes = [
            NodeView(name, 1, 0, 1, Telemetry(), 10.0, trusted=name == "trusted")
            for name in ("new", "trusted")
        ]
        return [cut.n_items for cut in adaptive.create().cut(view, nodes)]

    assert sizes(False) == [250, 250]
    assert sizes(True) == [250, 62]
