"""A gateway without network and store: the hub's own state machine, and what its calls cost.

Each kind of event goes into the machine in one place here, as the dispatcher does it.
"""

import sys
import time
from dataclasses import fields, is_dataclass
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final

from swarm_hub.components.scheduler import (
    Accepted,
    Event,
    Finished,
    JobAdded,
    JobEnded,
    JobPlan,
    NodeChange,
    NodeLost,
    Outcome,
    Redundancy,
    Rejected,
    Send,
    StateMachine,
    Strategy,
    TimePassed,
    Withdraw,
)
from swarm_hub.components.sla import expected
from swarm_hub.models.job import JobState
from swarm_hub.models.shard import Shard

JOB_ID: Final = "01KAWG00000000000000000000"
_ITEMS_MAX: Final = 10**9
_SHARED: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Enum)


class JobFailedError(Exception):
    """The job failed or was cancelled, which nothing in a simulation should lead to."""


class SimulatedGateway:
    """Runs one job; what follows from events gathers until `turn`, as in the dispatcher."""

    def __init__(self, strategy: Strategy, n_items: int, redundancy: Redundancy) -> None:
        # The default rule with its default values.
        self._machine = StateMachine(strategy, expected.create(factor=2.0, initial_s=15.0))
        self._instructions: list[Send | Withdraw] = []
        self.decision_s = 0.0
        self.ended = False
        plan = JobPlan(JOB_ID, "m" * 64, n_items, None, _ITEMS_MAX, redundancy=redundancy)
        self._handle(JobAdded(plan), 0.0)

    def node_changed(self, change: NodeChange, now: float) -> None:
        """Take a new or changed node."""
        self._handle(change, now)

    def node_lost(self, node_id: str, now: float) -> None:
        """Give the work of a lost node to others."""
        self._handle(NodeLost(node_id, "the node was lost"), now)

    def accepted(self, assignment_id: str, now: float) -> None:
        """Note that a node has an assignment."""
        self._handle(Accepted(assignment_id), now)

    def rejected(self, assignment_id: str, reason: str, now: float) -> None:
        """Give a shard that a node does not take to another."""
        self._handle(Rejected(assignment_id, reason), now)

    def finished(
        self, assignment_id: str, wall_s: float, result_sha: str, now: float
    ) -> Shard | None:
        """Take a result; returns the shard if it is done by it."""
        return self._handle(Finished(assignment_id, wall_s, result_sha), now).counted

    def turn(self, now: float) -> tuple[list[Send | Withdraw], float | None]:
        """Give out work; returns what to send, and when the next turn is due at the latest."""
        begun = time.thread_time()
        outcome = self._machine.handle(TimePassed(), now)
        outcome.add(self._machine.plan(now))
        due = self._machine.next_deadline()
        self._took(outcome, begun)
        instructions, self._instructions = self._instructions, []
        return instructions, due

    def state_bytes(self) -> int:
        """Return the memory of the machine and all that it holds, shared constants aside."""
        return _deep_bytes(self._machine)

    def story(self, now: float) -> str:
        """Say how far the job is and why it waits, for the error about one that never ends."""
        job = self._machine.job(JOB_ID)
        if job is None:
            return "the machine does not know the job"
        lines = [
            f"{job.n_done_items} of {job.plan.n_items} items are done, {job.pool_items} uncut",
            f"it waits because: {self._machine.why_waiting(JOB_ID, now)}",
        ]
        for shard in list(job.shards.values())[:5]:
            assignment_id = ", ".join(f"{a.id} {a.state} place={a.place.name}" for a in shard.live)
            lines.append(f"{shard.state}, live: {assignment_id or 'none'}; {shard.told()[-600:]}")
        return "\n  ".join(lines)

    def _handle(self, event: Event, now: float) -> Outcome:
        begun = time.thread_time()
        outcome = self._machine.handle(event, now)
        self._took(outcome, begun)
        return outcome

    def _took(self, outcome: Outcome, begun: float) -> None:
        self.decision_s += time.thread_time() - begun
        if outcome.strategy_fault is not None:
            raise JobFailedError(f"the strategy failed: {outcome.strategy_fault}")
        self._instructions += outcome.instructions
        for each in outcome.transitions:
            if isinstance(each, JobEnded):
                self.ended = True
                if each.state is not JobState.COMPLETED:
                    raise JobFailedError(f"{each.state}: {'; '.join(each.failures)}")


def _deep_bytes(root: object) -> int:
    """Add up `sys.getsizeof` over everything that is reached from an object."""
    seen: set[int] = set()
    waiting = [root]
    total = 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _SHARED):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        if isinstance(each, dict):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        elif is_dataclass(each):
            waiting += [getattr(each, field.name) for field in fields(each)]
        elif hasattr(each, "__dict__"):
            waiting.append(vars(each))
    return total
