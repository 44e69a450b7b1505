"""A state machine whose nodes acknowledge what they get, and whose time passes in small steps."""

from typing import Any

from swarm_hub.components.scheduler import (
    Accepted,
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
from swarm_hub.models.features import BASELINE, PREEMPT
from swarm_hub.models.node import ProgramSpeed, Telemetry

RULE = expected.create(factor=2.0, initial_s=15)
SUSPENDS = BASELINE | {PREEMPT}
TIMED_OUT = "wall_time: The shard ran longer than its limit of 60 s; cut smaller shards"


def machine() -> StateMachine:
    return StateMachine(adaptive.create(), RULE)


def node(name: str, slots: int = 1, **more: Any) -> NodeChange:
    return NodeChange(name, slots, Telemetry(), **{"features": SUSPENDS, **more})


def speed(program: str, shard_s: float) -> ProgramSpeed:
    return ProgramSpeed(program, rate=1 / shard_s, shard_s=shard_s)


def job(job_id: str, n_items: int = 1, program: str = "", **more: Any) -> JobPlan:
    """Return a job of shards of one item, with a program of its own."""
    return JobPlan(job_id, program or f"program of {job_id}", n_items, 1, 10**9, **more)


class Driven:
    """A state machine whose nodes acknowledge what they get; time passes in small steps."""

    def __init__(self, *nodes: NodeChange) -> None:
        self.machine = machine()
        self.now = 0.0
        self.sent: dict[str, tuple[str, float]] = {}
        self.preempted: list[str] = []
        self.withdrawn: list[str] = []
        self.ended: list[JobEnded] = []
        for each in nodes:
            self.handle(each)

    def handle(self, event: Any) -> Outcome:
        outcome = self.machine.handle(event, self.now)
        self._take(outcome)
        self._take(self.machine.plan(self.now))
        return outcome

    def add(self, plan: JobPlan) -> None:
        self.handle(JobAdded(plan))

    def until(self, then: float) -> None:
        while self.now < then:
            due = self.machine.next_deadline()
            self.now = min(then, max(self.now + 0.001, then if due is None else due))
            self.handle(TimePassed())

    def given(self, job_id: str) -> dict[str, str]:
        """Return the assignments of a job that were sent, with their nodes."""
        return {
            each: where for each, (where, _) in self.sent.items() if each.startswith(f"{job_id}.")
        }

    def _take(self, outcome: Outcome) -> None:
        assert not outcome.faults
        for instruction in outcome.instructions:
            if isinstance(instruction, Send):
                self.sent[instruction.assignment.id] = (instruction.node_id, self.now)
                self._take(self.machine.handle(Accepted(instruction.assignment.id), self.now))
            elif isinstance(instruction, Preempt):
                self.preempted.append(instruction.assignment_id)
            elif isinstance(instruction, Withdraw):
                self.withdrawn.append(instruction.assignment_id)
        self.ended += [each for each in outcome.transitions if isinstance(each, JobEnded)]
