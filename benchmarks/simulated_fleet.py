"""The nodes of a simulated fleet, drawn from a seed, and the least time they need for a job."""

import itertools
import math
import random
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.scheduler import SINGLE, Redundancy
from swarm_hub.models.node import Telemetry

_MIB: Final = 1024 * 1024
_SLOWEST_TO_FASTEST: Final = 10.0
# Of a node that comes back, how long it was away, in parts of the ideal time.
_AWAY: Final = (0.05, 0.3)
_ORDINARY_LATENCY_S: Final = (0.005, 0.05)
_SLOW_LATENCY_S: Final = (0.5, 2.0)
# On a slow link an item takes this part of its mean run time to arrive.
_SLOW_TRANSFER: Final = (0.05, 0.2)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet and a job: the job is as long as all nodes together need `ideal_s` for.

    `churn` is the share of the nodes that leaves, `silent` the share of those that leaves without
    a word, `returning` the share of those that comes back; the last three are shares of the nodes.
    """

    n_nodes: int
    churn: float
    ideal_s: float = 600.0
    items_a_node: int = 1000
    silent: float = 0.5
    returning: float = 0.5
    slow_links: float = 0.0
    phones: float = 0.0
    liars: float = 0.0
    # How often a liar lies, and whether all liars then give the same wrong result.
    lies: float = 1.0
    colluding: bool = False
    redundancy: Redundancy = SINGLE

    @property
    def n_items(self) -> int:
        """How many items the job has."""
        return self.n_nodes * self.items_a_node


@dataclass(frozen=True, slots=True)
class SimulatedNode:
    """What is fixed about a node before the job begins; times are seconds after its start."""

    node_id: str
    items_a_s: float
    latency_s: float
    transfer_s_an_item: float
    telemetry: Telemetry
    leaves_at: float = math.inf
    silent: bool = False
    returns_at: float = math.inf
    refuses_from: float = math.inf
    refuses_until: float = math.inf
    lies: float = 0.0


def draw(scenario: Scenario, seed: int) -> tuple[SimulatedNode, ...]:
    """Draw a fleet; the same seed gives the same one."""
    chance = random.Random(f"fleet {seed}")
    n_nodes, ideal_s = scenario.n_nodes, scenario.ideal_s
    speeds = [_SLOWEST_TO_FASTEST ** chance.random() for _ in range(n_nodes)]
    scale = scenario.n_items / ideal_s / math.fsum(speeds)
    mean_item_s = ideal_s / scenario.items_a_node
    leaving = _some(chance, n_nodes, scenario.churn)
    slow = _some(chance, n_nodes, scenario.slow_links)
    phones = _some(chance, n_nodes, scenario.phones)
    liars = _some(chance, n_nodes, scenario.liars)
    nodes = []
    for number, speed in enumerate(speeds):
        is_slow = number in slow
        leaves_at = returns_at = refuses_from = refuses_until = math.inf
        if number in leaving:
            leaves_at = chance.uniform(0.0, ideal_s)
            if chance.random() < scenario.returning:
                returns_at = leaves_at + chance.uniform(*_AWAY) * ideal_s
        if number in phones:
            refuses_from = chance.uniform(0.0, ideal_s)
            if chance.random() < scenario.returning:
                refuses_until = refuses_from + chance.uniform(*_AWAY) * ideal_s
        nodes.append(
            SimulatedNode(
                # As long as a peer id, which is what a gateway keeps.
                f"12D3KooW{number:044}",
                speed * scale,
                chance.uniform(*(_SLOW_LATENCY_S if is_slow else _ORDINARY_LATENCY_S)),
                chance.uniform(*_SLOW_TRANSFER) * mean_item_s if is_slow else 0.0,
                _telemetry(chance, is_phone=number in phones),
                leaves_at,
                chance.random() < scenario.silent,
                returns_at,
                refuses_from,
                refuses_until,
                scenario.lies if number in liars else 0.0,
            )
        )
    return tuple(nodes)


def least_s(nodes: tuple[SimulatedNode, ...], n_items: int) -> float:
    """Return the fluid lower bound: no schedule is faster, even by one who knew all beforehand.

    The job is taken as a fluid without shards, messages or noise; each node that is there and
    takes work gives its whole speed until the moment at which it leaves or refuses, and again
    from the moment at which it is back. Work that a leaving node had begun counts as done, that
    of a phone after it began to refuse does not. Run times vary around their mean, so a job of a
    few shards may be luckier than this; one of many is not.
    """
    changes = sorted(itertools.chain.from_iterable(_changes(node) for node in nodes))
    rate = left = 0.0
    left = float(n_items)
    before = 0.0
    for at, change in changes:
        if left <= rate * (at - before):
            break
        left -= rate * (at - before)
        rate += change
        before = at
    if rate < 1e-9:
        raise ValueError("All nodes leave before the job can be done; keep one of them")
    return before + left / rate


def _changes(node: SimulatedNode) -> list[tuple[float, float]]:
    """Return (time, change of the fleet's speed) for the times at which a node starts and stops."""
    away = sorted([(node.leaves_at, node.returns_at), (node.refuses_from, node.refuses_until)])
    changes = []
    free_at = 0.0
    for stops_at, starts_at in away:
        if stops_at > free_at:
            changes.append((free_at, node.items_a_s))
            if stops_at < math.inf:
                changes.append((stops_at, -node.items_a_s))
        free_at = max(free_at, starts_at)
        if stops_at == math.inf:
            return changes
    if free_at < math.inf:
        changes.append((free_at, node.items_a_s))
    return changes


def _some(chance: random.Random, n_nodes: int, share: float) -> set[int]:
    """Choose that share of the nodes; where it is not whole, one more by chance."""
    wanted = share * n_nodes
    n_chosen = int(wanted) + (chance.random() < wanted - int(wanted))
    return set(chance.sample(range(n_nodes), n_chosen))


def _telemetry(chance: random.Random, *, is_phone: bool) -> Telemetry:
    """Draw what a node says of itself; none of it tells its speed, as in the field."""
    return Telemetry(
        cpu_percent=chance.uniform(2.0, 60.0),
        available_memory_bytes=chance.randrange(512, 16 * 1024) * _MIB,
        load_1m=chance.uniform(0.0, 4.0),
        has_battery=is_phone,
        battery_percent=chance.uniform(91.0, 100.0) if is_phone else None,
        charging=False if is_phone else None,
        temperature_c=chance.uniform(30.0, 60.0),
    )
