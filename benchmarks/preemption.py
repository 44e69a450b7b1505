"""What it costs that work gives way and failing items are searched for, on a simulated fleet.

A large job keeps all nodes busy for half an hour; beside it come small jobs of another owner with
modules of their own, urgent jobs, a module that never ends, and a job with failing items. All run
through the hub's own state machine on a simulated clock.
"""

import heapq
import itertools
import random
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from figures import Figures, start

from swarm_hub.components.scheduler import (
    Accepted,
    AssignmentChanged,
    Failed,
    Finished,
    JobAdded,
    JobEnded,
    JobPlan,
    NodeChange,
    Outcome,
    Preempt,
    Send,
    StateMachine,
    TimePassed,
    Withdraw,
)
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.sla import expected
from swarm_hub.models.features import FEATURES
from swarm_hub.models.node import Telemetry
from swarm_hub.models.shard import AssignmentState, job_of

_NODES: Final = 20
_BUSY_S: Final = 1800.0
_WALL_S: Final = 60.0
_TIMED_OUT: Final = "wall_time: it ran longer than its limit"
_ENDLESS: Final = float("inf")


@dataclass
class _Run:
    """A shard on a node: how long it still has to run, and how long it ran."""

    sent: Send
    left_s: float
    ran_s: float = 0.0
    begun_at: float | None = None


@dataclass
class _Node:
    speed: float
    queue: list[_Run] = field(default_factory=list)
    running: _Run | None = None
    background: set[str] = field(default_factory=set)
    turn: int = 0


@dataclass
class _Job:
    item_s: float
    bad: frozenset[int]
    came_at: float
    first_at: float | None = None
    ended_at: float | None = None


class _Fleet:
    """Nodes of one slot each; messages take no time."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._machine = StateMachine(adaptive.create(), expected.create(2.0, 15.0))
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.now = self._wake_at = 0.0
        self.jobs: dict[str, _Job] = {}
        self.states: dict[str, str] = {}
        self.useful_s = 0.0
        self.wasted_s: defaultdict[str, float] = defaultdict(float)
        self._superseded: set[str] = set()
        self._nodes: dict[str, _Node] = {}
        for number in range(_NODES):
            name = f"n{number}"
            self._nodes[name] = _Node(10 ** self._chance.random())
            self._take(
                self._machine.handle(NodeChange(name, 1, Telemetry(), features=FEATURES), 0.0)
            )

    def at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happens))

    def submit(self, plan: JobPlan, item_s: float, bad: frozenset[int] = frozenset()) -> None:
        self.jobs[plan.job_id] = _Job(item_s, bad, self.now)
        self._handle(JobAdded(plan))

    def run(self) -> None:
        while self._events and self.now < 4 * _BUSY_S:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._plan()

    def _plan(self) -> None:
        self._take(self._machine.handle(TimePassed(), self.now))
        self._take(self._machine.plan(self.now))
        due = self._machine.next_deadline()
        if due is None or len(self.states) == len(self.jobs):
            return
        due = max(due, self.now + 1e-3)
        if not self.now < self._wake_at <= due:
            self._wake_at = due
            self.at(due, lambda: None)

    def _handle(self, event: Any) -> Outcome:
        outcome = self._machine.handle(event, self.now)
        self._take(outcome)
        return outcome

    def _take(self, outcome: Outcome) -> None:
        assert not outcome.faults, outcome.faults
        self._superseded |= {
            each.assignment.id
            for each in outcome.transitions
            if isinstance(each, AssignmentChanged)
            and each.assignment.state is AssignmentState.SUPERSEDED
        }
        for each in outcome.instructions:
            node = self._nodes[each.node_id]
            if isinstance(each, Send):
                job = self.jobs[each.job_id]
                if job.first_at is None:
                    job.first_at = self.now
                noise = self._chance.lognormvariate(-0.045, 0.3)
                length_s = noise * each.n_items * job.item_s / node.speed
                node.queue.append(_Run(each, length_s))
                self._take(self._machine.handle(Accepted(each.assignment.id), self.now))
            elif isinstance(each, Preempt):
                node.background.add(each.assignment_id)
            elif isinstance(each, Withdraw):
                self._withdrawn(node, each.assignment_id)
            self._go_on(node)
        for end in outcome.transitions:
            if isinstance(end, JobEnded):
                self.states[end.job_id] = end.state.value
                self.jobs[end.job_id].ended_at = self.now

    def _withdrawn(self, node: _Node, assignment_id: str) -> None:
        self._pause(node)
        for run in node.queue:
            if run.sent.assignment.id == assignment_id:
                node.queue.remove(run)
                job_id = job_of(assignment_id)
                is_copy = assignment_id in self._superseded or job_id in self.states
                why = "copies" if is_copy else "gave_way"
                if self.jobs[job_id].item_s == _ENDLESS:
                    why = "endless"
                self.wasted_s[why] += run.ran_s
                break

    def _pause(self, node: _Node) -> None:
        """Put what runs back to the front, with what is left of it."""
        run = node.running
        if run is not None and run.begun_at is not None:
            run.ran_s += self.now - run.begun_at
            run.left_s -= self.now - run.begun_at
            run.begun_at = None
            node.queue.insert(0, run)
        node.running = None
        node.turn += 1

    def _go_on(self, node: _Node) -> None:
        """Run what waits; what gave way only if nothing else does."""
        waiting = [run for run in node.queue if run.sent.assignment.id not in node.background]
        current = node.running
        if current is not None:
            is_background = current.sent.assignment.id in node.background
            if not (is_background and waiting):
                return
            self._pause(node)
        chosen = next(iter(waiting or node.queue), None)
        if chosen is None:
            return
        node.queue.remove(chosen)
        chosen.begun_at = self.now
        node.running, node.turn = chosen, node.turn + 1
        turn, left_s = node.turn, min(chosen.left_s, _WALL_S - chosen.ran_s)
        self.at(self.now + left_s, lambda: self._ends(node, turn))

    def _ends(self, node: _Node, turn: int) -> None:
        run = node.running
        if node.turn != turn or run is None or run.begun_at is None:
            return
        ran_s = run.ran_s + self.now - run.begun_at
        node.running = None
        assignment_id = run.sent.assignment.id
        job = self.jobs[run.sent.job_id]
        first = run.sent.first_item
        if ran_s >= _WALL_S - 1e-6 and run.left_s > _WALL_S:
            self.wasted_s["endless"] += ran_s
            self._handle(Failed(assignment_id, _TIMED_OUT))
        elif job.bad.isdisjoint(range(first, first + run.sent.n_items)):
            counted = self._handle(Finished(assignment_id, ran_s)).counted is not None
            if counted:
                self.useful_s += ran_s
            else:
                self.wasted_s["copies"] += ran_s
        else:
            self.wasted_s["isolation"] += ran_s
            self._handle(Failed(assignment_id, "exit: bad item"))
        self._go_on(node)


def main() -> int:
    """Run the fleets and print."""
    figures, options = start(__doc__ or "")
    for seed in range(1, 2 if options.quick else 4):
        _measure(figures, seed)
    return 0


def _measure(figures: Figures, seed: int) -> None:
    fleet = _Fleet(seed)
    total_speed = sum(node.speed for node in fleet._nodes.values())
    n_items = 50_000
    item_s = _BUSY_S * total_speed / n_items

    def plan(job_id: str, program: str, n_items: int, owner: str, **more: Any) -> JobPlan:
        return JobPlan(
            job_id, program, n_items, None, 10**9, owner=owner, wall_s=_WALL_S, isolates=True,
            **more,
        )  # fmt: skip

    fleet.at(0.0, lambda: fleet.submit(plan("large", "large", n_items, "a"), item_s))
    for number in range(30):
        at = 60.0 + 50.0 * number

        def small(number: int = number) -> None:
            fleet.submit(plan(f"small{number}", f"small{number}", 40, "b"), 2.0)

        def urgent(number: int = number) -> None:
            fleet.submit(plan(f"urgent{number}", "urgent", 10, "a", priority=10), 5.0)

        fleet.at(at, small)
        fleet.at(at + 25.0, urgent)
    fleet.at(300.0, lambda: fleet.submit(plan("endless", "endless", 100, "c"), _ENDLESS))
    bad = frozenset(range(250, 5000, 1000))
    fleet.at(400.0, lambda: fleet.submit(plan("flawed", "flawed", 5000, "d", skips=True), 2.0, bad))
    fleet.run()
    of_all = 100 / (fleet.useful_s + sum(fleet.wasted_s.values()))
    wasted = {why: round(of_all * seconds, 2) for why, seconds in sorted(fleet.wasted_s.items())}
    given = fleet.wasted_s["gave_way"] + fleet.wasted_s["isolation"]
    figures.add("wasted_percent", of_all * given, "%", target=3, seed=seed, **wasted)

    def waits(kind: str, to: Callable[[_Job], float | None]) -> list[float]:
        return [
            (to(job) or 0.0) - job.came_at
            for job_id, job in fleet.jobs.items()
            if job_id.startswith(kind)
        ]

    for kind in ("small", "urgent"):
        begun = waits(kind, lambda job: job.first_at)
        ended = waits(kind, lambda job: job.ended_at)
        figures.add(
            f"{kind}_begins_s", max(begun), "s", target=5, seed=seed,
            median=round(sorted(begun)[len(begun) // 2], 2),
            ends_median_s=round(sorted(ended)[len(ended) // 2], 1),
            ends_longest_s=round(max(ended), 1),
        )  # fmt: skip
    endless = fleet.jobs["endless"]
    figures.add(
        "endless_failed_s", (endless.ended_at or 0.0) - endless.came_at, "s", seed=seed,
        state=fleet.states.get("endless"), flawed=fleet.states.get("flawed"),
        large=fleet.states.get("large"), failed_items=_failed(fleet),
    )  # fmt: skip


def _failed(fleet: _Fleet) -> int | None:
    entry = fleet._machine.job("flawed")
    return None if entry is None else entry.n_failed_items


if __name__ == "__main__":
    sys.exit(main())
