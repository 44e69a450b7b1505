"""A job on a simulated fleet, event by event; the decisions are the hub's own code.

Simulated are nodes, network and time. A node runs what it was sent in order, one at a time. Each
shard costs it 0.2 % of the ideal time before it runs, and its run time has a log-normal factor of
mean 1 (sigma 0.3). A node that leaves stops in mid-shard, and starts its queue anew if it comes
back. The gateway notices a closed connection at once and silence as its heartbeats do.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from simulated_fleet import Scenario, SimulatedNode, draw, least_s
from simulated_gateway import SimulatedGateway

from swarm_hub.components.scheduler import NodeChange, Send, Strategy, Withdraw

_SIGMA: Final = 0.3
_DISPATCH: Final = 0.002
# A turn of the dispatcher: how long its commit takes, while new events gather.
_COMMIT_S: Final = 0.005
# Three missed heartbeats of 5 s, the last of which came up to 5 s before; looked for every 1 s.
_SILENCE_S: Final = (10.0, 16.0)
_REFUSAL: Final = "battery below 90 %"
# Beyond these a job is taken to hang.
_RATIO_MAX: Final = 200.0
_EVENTS_A_NODE_MAX: Final = 10_000
_EVENTS_MAX: Final = 1_000_000


class HungJobError(Exception):
    """A job did not end; carries the machine's story."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a job; `repeated_items` were run twice, `lost_items` went with their node."""

    ended: bool
    makespan_s: float
    least_s: float
    n_items: int
    counted_items: int
    wrong_items: int
    n_shards: int
    wrong_shards: int
    repeated_items: float
    lost_items: float
    n_assignments: int
    n_results: int
    n_messages: int
    decision_s: float = field(compare=False)
    # The part of it until the first turn had given out work.
    first_fill_s: float = field(compare=False)
    state_bytes: tuple[int, ...] = field(compare=False)

    @property
    def ratio(self) -> float:
        """How many times longer than the fluid lower bound it took."""
        return self.makespan_s / self.least_s

    @property
    def repeated_percent(self) -> float:
        """Items run again although nothing was lost, in % of the job."""
        return 100 * self.repeated_items / self.n_items

    @property
    def lost_percent(self) -> float:
        """Items that nodes had run when they left with them, in % of the job."""
        return 100 * self.lost_items / self.n_items

    @property
    def decision_us(self) -> float:
        """CPU time of the state machine for each result and what it gave out upon it.

        The first fill of all nodes is left out: it is one turn, and cheap for each assignment.
        """
        return 1e6 * (self.decision_s - self.first_fill_s) / max(self.n_results, 1)


def simulate(
    scenario: Scenario,
    strategy: Strategy,
    seed: int,
    *,
    weigh_state: bool = False,
    decision_max_s: float = math.inf,
) -> Run:
    """Run one job to its end; raises HungJobError when it has none.

    It is given up when its decisions took more CPU time than `decision_max_s`. With `weigh_state`
    the memory of the state machine is measured at the first result and when half the items are
    done.
    """
    simulation = _Simulation(scenario, strategy, seed, weigh_state=weigh_state)
    return simulation.run(decision_max_s)


@dataclass(slots=True)
class _Node:
    """A node at this moment; `life` counts its goings and comings: messages don't outlive them."""

    fixed: SimulatedNode
    present: bool = True
    known: bool = True
    life: int = 0
    queue: deque[Send] = field(default_factory=deque)
    running: Send | None = None
    # Counts what was begun, so that the end of a stopped run is not taken for the next one's.
    turn: int = 0
    computes_from: float = 0.0
    compute_s: float = 0.0


class _Simulation:
    def __init__(
        self, scenario: Scenario, strategy: Strategy, seed: int, *, weigh_state: bool
    ) -> None:
        self._scenario = scenario
        self._fleet = draw(scenario, seed)
        self._nodes = {fixed.node_id: _Node(fixed) for fixed in self._fleet}
        self._chance = random.Random(f"run {seed}")
        self._gateway = SimulatedGateway(strategy, scenario.n_items, scenario.redundancy)
        self._dispatch_s = _DISPATCH * scenario.ideal_s
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._n_events = 0
        self._turn_at = math.inf
        self._committed_at = 0.0
        self._spans: list[tuple[int, int]] = []
        self._counted_items = 0
        self._wrong_items = 0
        self._wrong_shards = 0
        self._repeated_items = 0.0
        self._lost_items = 0.0
        self._n_assignments = 0
        self._n_results = 0
        self._n_messages = 0
        self._first_fill_s = 0.0
        # From how many counted items on the state is weighed.
        self._weigh_at = [0, scenario.n_items // 2] if weigh_state else []
        self._state_bytes: tuple[int, ...] = ()

    def run(self, decision_max_s: float) -> Run:
        least = least_s(self._fleet, self._scenario.n_items)
        self._begin()
        until_s = _RATIO_MAX * least
        events_max = _EVENTS_MAX + _EVENTS_A_NODE_MAX * len(self._nodes)
        while not self._gateway.ended and self._gateway.decision_s < decision_max_s:
            if not self._events:
                raise self._hung("nothing is left to happen")
            at, _, happens, arguments = heapq.heappop(self._events)
            self._now = at
            if at > until_s:
                raise self._hung(f"{_RATIO_MAX:g} times the least time has passed")
            if self._n_events > events_max:
                raise self._hung(f"there were {self._n_events} events")
            happens(*arguments)
        if self._gateway.ended:
            self._repeated_items += math.fsum(map(self._done_of, self._nodes.values()))
            self._check_spans()
        return Run(
            self._gateway.ended, self._now, least, self._scenario.n_items, self._counted_items,
            self._wrong_items, len(self._spans), self._wrong_shards,
            self._repeated_items, self._lost_items, self._n_assignments,
            self._n_results, self._n_messages, self._gateway.decision_s, self._first_fill_s,
            self._state_bytes,
        )  # fmt: skip

    def _begin(self) -> None:
        for node in self._nodes.values():
            fixed = node.fixed
            self._gateway.node_changed(_change(fixed, None), 0.0)
            for at, happens in (
                (fixed.leaves_at, self._leaves),
                (fixed.returns_at, self._returns),
                (fixed.refuses_from, self._refuses),
                (fixed.refuses_until, self._refuses_no_more),
            ):
                if at < math.inf:
                    self._at(at, happens, node)
        self._turn_within(0.0)

    # The gateway

    def _turn_within(self, delay_s: float) -> None:
        at = max(self._now + delay_s, self._committed_at)
        if at < self._turn_at:
            self._turn_at = at
            self._at(at, self._take_turn)

    def _take_turn(self) -> None:
        if self._now != self._turn_at:
            # An earlier turn took its place.
            return
        self._turn_at = math.inf
        instructions, due = self._gateway.turn(self._now)
        if self._n_assignments == 0:
            self._first_fill_s = self._gateway.decision_s
        self._committed_at = self._now + _COMMIT_S
        for each in instructions:
            node = self._nodes[each.node_id]
            self._n_messages += 1
            arrives_at = self._committed_at + node.fixed.latency_s
            if isinstance(each, Send):
                self._n_assignments += 1
                self._at(arrives_at, self._arrives, node, node.life, each)
            else:
                self._at(arrives_at, self._withdrawn, node, node.life, each)
        if due is not None:
            self._turn_within(max(0.0, due - self._now))

    def _hears_accepted(self, assignment_id: str) -> None:
        self._gateway.accepted(assignment_id, self._now)

    def _hears_rejected(self, assignment_id: str) -> None:
        self._gateway.rejected(assignment_id, _REFUSAL, self._now)
        self._turn_within(0.0)

    def _hears_result(self, node: _Node, sent: Send, wall_s: float, truth: bool) -> None:
        self._n_results += 1
        told = "true"
        if not truth:
            told = "false" if self._scenario.colluding else f"false {node.fixed.node_id}"
        sha = f"{told} {sent.first_item} {sent.n_items}"
        shard = self._gateway.finished(sent.assignment.id, wall_s, sha, self._now)
        if shard is None:
            self._repeated_items += sent.n_items
        else:
            self._spans.append((shard.first_item, shard.n_items))
            self._counted_items += shard.n_items
            self._wrong_items += 0 if truth else shard.n_items
            self._wrong_shards += not truth
        if self._weigh_at and self._counted_items >= self._weigh_at[0]:
            del self._weigh_at[0]
            self._state_bytes += (self._gateway.state_bytes(),)
        self._turn_within(0.0)

    def _notices_loss(self, node: _Node, life: int) -> None:
        if node.known and node.life == life:
            node.known = False
            self._gateway.node_lost(node.fixed.node_id, self._now)
            self._turn_within(0.0)

    def _hears_change(self, node: _Node, refuses: str | None) -> None:
        if node.known:
            self._gateway.node_changed(_change(node.fixed, refuses), self._now)
            self._turn_within(0.0)

    # Nodes

    def _arrives(self, node: _Node, life: int, sent: Send) -> None:
        if not node.present or node.life != life:
            return
        assignment_id = sent.assignment.id
        if self._is_refusing(node):
            self._tell(node, self._hears_rejected, assignment_id)
            return
        self._tell(node, self._hears_accepted, assignment_id)
        node.queue.append(sent)
        if node.running is None:
            self._run_next(node)

    def _run_next(self, node: _Node) -> None:
        node.turn += 1
        if not node.queue:
            node.running = None
            return
        sent = node.running = node.queue.popleft()
        noise = self._chance.lognormvariate(-_SIGMA * _SIGMA / 2, _SIGMA)
        node.compute_s = noise * sent.n_items / node.fixed.items_a_s
        fetch_s = sent.n_items * node.fixed.transfer_s_an_item
        node.computes_from = self._now + self._dispatch_s + fetch_s
        self._at(node.computes_from + node.compute_s, self._finishes, node, node.turn)

    def _finishes(self, node: _Node, turn: int) -> None:
        if node.turn != turn or node.running is None:
            return
        truth = node.fixed.lies == 0.0 or self._chance.random() >= node.fixed.lies
        self._tell(node, self._hears_result, node, node.running, node.compute_s, truth)
        self._run_next(node)

    def _withdrawn(self, node: _Node, life: int, withdrawn: Withdraw) -> None:
        if not node.present or node.life != life:
            return
        assignment_id = withdrawn.assignment_id
        if node.running is not None and node.running.assignment.id == assignment_id:
            self._repeated_items += self._done_of(node)
            self._run_next(node)
        else:
            node.queue = deque(sent for sent in node.queue if sent.assignment.id != assignment_id)

    def _leaves(self, node: _Node) -> None:
        self._lost_items += self._done_of(node)
        if node.running is not None:
            # What it had on its disk it runs again when it is back.
            node.queue.appendleft(node.running)
        node.running = None
        node.present = False
        node.turn += 1
        node.life += 1
        after_s = self._chance.uniform(*_SILENCE_S) if node.fixed.silent else node.fixed.latency_s
        self._at(self._now + after_s, self._notices_loss, node, node.life)

    def _returns(self, node: _Node) -> None:
        # A new connection closes the old one that the gateway may still believe in.
        self._notices_loss(node, node.life)
        node.life += 1
        node.present = node.known = True
        self._run_next(node)
        self._tell(node, self._hears_change, node, _REFUSAL if self._is_refusing(node) else None)

    def _refuses(self, node: _Node) -> None:
        if node.present:
            self._tell(node, self._hears_change, node, _REFUSAL)

    def _refuses_no_more(self, node: _Node) -> None:
        if node.present:
            self._tell(node, self._hears_change, node, None)

    def _is_refusing(self, node: _Node) -> bool:
        return node.fixed.refuses_from <= self._now < node.fixed.refuses_until

    def _done_of(self, node: _Node) -> float:
        """Return how many items of its shard a node has run so far."""
        if node.running is None:
            return 0.0
        part = (self._now - node.computes_from) / node.compute_s
        return min(max(part, 0.0), 1.0) * node.running.n_items

    # Time

    def _at(self, at: float, happens: Callable[..., None], *arguments: object) -> None:
        # The number keeps events of the same time in their order.
        self._n_events += 1
        heapq.heappush(self._events, (at, self._n_events, happens, arguments))

    def _tell(self, node: _Node, hears: Callable[..., None], *arguments: object) -> None:
        if hears is not self._hears_change:
            self._n_messages += 1
        self._at(self._now + node.fixed.latency_s, hears, *arguments)

    def _hung(self, why: str) -> HungJobError:
        story = self._gateway.story(self._now)
        return HungJobError(f"The job has not ended after {self._now:.1f} s: {why}\n  {story}")

    def _check_spans(self) -> None:
        """Check that the shards that counted are all items, each once."""
        expected = 0
        for first_item, n_items in sorted(self._spans):
            if first_item != expected:
                raise AssertionError(f"item {expected} is missing or counted twice")
            expected += n_items
        if expected != self._scenario.n_items:
            raise AssertionError(f"{expected} of {self._scenario.n_items} items were counted")


def _change(fixed: SimulatedNode, refuses: str | None) -> NodeChange:
    return NodeChange(fixed.node_id, 1, fixed.telemetry, refuses)
