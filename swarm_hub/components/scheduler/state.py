"""The unfinished jobs and connected nodes, and the steps that all transitions are made of; pure.

Each step keeps the same facts in their several places equal: an attempt is in its shard, among
the assignments, on its node and counted by its job.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Final

from swarm_hub.components.scheduler.alarms import Alarms
from swarm_hub.components.scheduler.entries import (
    AssignmentEntry,
    JobEntry,
    Place,
    ShardEntry,
)
from swarm_hub.components.scheduler.moves import OPEN
from swarm_hub.components.scheduler.nodes import NodeEntry, Nodes
from swarm_hub.components.scheduler.outcome import (
    AssignmentChanged,
    AssignmentOffered,
    ItemsFailed,
    JobEnded,
    JobStarted,
    Outcome,
    Preempt,
    Send,
    Withdraw,
)
from swarm_hub.models.job import JobState
from swarm_hub.models.messages import GAVE_WAY
from swarm_hub.models.shard import AssignmentState, ShardState, assignment_id

_LATE: Final = "no result before its deadline"
_OVERDUE: Final = "it was not ended by its wall time"
# A worker ends an attempt at its wall time; this much later the gateway no longer waits for that.
_OVERDUE_GRACE_S: Final = 10.0
_FAILURES_TOLD_MAX: Final = 20

# deadline_s(expected seconds or None when no rate is known, attempt from 1) -> seconds
DeadlineRule = Callable[[float | None, int], float]


class SchedulerState:
    """What `StateMachine` and `Planner` change, one step at a time."""

    def __init__(self, deadline_s: DeadlineRule) -> None:
        self.jobs: dict[str, JobEntry] = {}
        self.nodes = Nodes()
        self.assignments: dict[str, AssignmentEntry] = {}
        self.alarms = Alarms()
        self._deadline_s = deadline_s
        self._order: list[JobEntry] | None = None
        # Open attempts from before a restart, by the nodes that are expected back.
        self._awaited: dict[str, list[AssignmentEntry]] = {}
        self._turns = count(1)
        # The time of what is being handled, in monotonic seconds.
        self.now = 0.0
        # What passed its deadline and is still in its node's way.
        self.overdue: dict[str, AssignmentEntry] = {}
        # Bound once for all alarms: each look-up makes a new object, which its alarm would keep.
        self._ring_late = self._late

    def add(self, job: JobEntry) -> None:
        """Take a job."""
        self.jobs[job.plan.job_id] = job
        self._order = None
        self.nodes.are_alone(len(self.jobs) == 1)

    def decide_by(self, deadline_s: DeadlineRule) -> None:
        """Give the assignments to come their deadlines by another rule."""
        self._deadline_s = deadline_s

    def change(self, job: JobEntry, priority: int, deadline_in_s: float | None) -> None:
        """Give a job another priority and deadline."""
        job.plan = replace(job.plan, priority=priority, deadline_in_s=deadline_in_s)
        self._order = None

    def forget(self, job_id: str) -> None:
        """Drop a job; its results are unknown from now on."""
        if (job := self.jobs.pop(job_id, None)) is None:
            return
        self._order = None
        self.nodes.are_alone(len(self.jobs) <= 1)
        self.alarms.cancel(job.deadline)
        for assignment in [each for shard in job.shards.values() for each in shard.live]:
            self.alarms.cancel(assignment.deadline)
            self.assignments.pop(assignment.id, None)
            self.overdue.pop(assignment.id, None)
            if assignment.place is not Place.NOWHERE and (
                node := self.nodes.by_id.get(assignment.node_id)
            ):
                # Without regard to counts: a fault may have left them wrong.
                node.drop(assignment)
                self.nodes.freed(node)
            assignment.place = Place.NOWHERE

    def in_order(self) -> list[JobEntry]:
        """Return the jobs, the most urgent first, then the oldest."""
        if self._order is None:
            self._order = sorted(self.jobs.values(), key=lambda job: job.order)
        return self._order

    def offer(
        self, job: JobEntry, shard: ShardEntry, node: NodeEntry, now: float, outcome: Outcome
    ) -> None:
        """Give a shard to a node."""
        if job.state is JobState.QUEUED:
            job.move(JobState.RUNNING)
            outcome.transitions.append(JobStarted(job.plan.job_id))
        # A copy beside an open attempt, an attempt that confirms another result and one after an
        # attempt that gave way are not retries.
        is_again = shard.attempts > 0 and not shard.open() and not shard.votes
        if is_again:
            job.n_retries += not shard.had.excused
            shard.setbacks().excused = False
        shard.attempts += 1
        job.n_attempts += 1
        run_s = node.run_s(job.plan.program, shard.n_items)
        expected_s = None if run_s is None else node.wait_s() + run_s
        assignment = AssignmentEntry(
            id=assignment_id(shard.job_id, shard.index, shard.attempts),
            shard=shard,
            attempt=shard.attempts,
            node_id=node.node_id,
            owner=node.owner,
            begun_at=now,
            run_s=run_s,
            trusted=self.nodes.trusts(node),
        )
        job.waits_since = None
        job.last_turn = next(self._turns)
        shard.live += (assignment,)
        self.assignments[assignment.id] = assignment
        self._place(node, assignment)
        self.arm(assignment, now + self._deadline_s(expected_s, shard.attempts))
        shard.move(ShardState.ASSIGNED, assignment.id)
        job.note_wanting(shard)
        outcome.shard_changed(shard.snapshot())
        outcome.transitions.append(AssignmentOffered(assignment.snapshot(), shard.n_items))
        outcome.instructions.append(_send(assignment))

    def send_again(self, node: NodeEntry, assignment: AssignmentEntry, now: float) -> Send:
        """Give a node again what it had before it, or this gateway, went away."""
        self._place(node, assignment)
        self.arm(assignment, now + self._deadline_s(None, assignment.attempt))
        return _send(assignment)

    def await_node(self, assignment: AssignmentEntry) -> None:
        """Remember to send a node an attempt when it comes back."""
        self._awaited.setdefault(assignment.node_id, []).append(assignment)

    def awaited(self, node_id: str) -> list[AssignmentEntry]:
        """Return the attempts that a node which came back still has to finish."""
        return [
            each
            for each in self._awaited.pop(node_id, ())
            if each.state in OPEN and self.assignments.get(each.id) is each
        ]

    def arm(self, assignment: AssignmentEntry, due: float) -> None:
        """Set when an attempt is over."""
        self.alarms.cancel(assignment.deadline)
        assignment.deadline = self.alarms.set(due, self._ring_late, assignment)

    def expire(self, assignment: AssignmentEntry, reason: str, outcome: Outcome) -> None:
        """End an attempt that took too long or lost its node; a late result may still count."""
        if assignment.state not in OPEN:
            self.alarms.cancel(assignment.deadline)
            return
        self.alarms.cancel(assignment.deadline)
        self.move(assignment, AssignmentState.EXPIRED, reason, outcome)
        self.give_back(assignment.shard, reason, outcome)

    def withdraw(self, assignment: AssignmentEntry, reason: str, outcome: Outcome) -> None:
        """Take an attempt off its node; a result that is under way still counts."""
        shard = assignment.shard
        self.alarms.cancel(assignment.deadline)
        self._unplace(assignment)
        outcome.instructions.append(Withdraw(assignment.node_id, assignment.id))
        if assignment.state in OPEN:
            self.move(assignment, AssignmentState.EXPIRED, reason, outcome)
            self.give_back(shard, reason, outcome)

    def give_way(self, assignment: AssignmentEntry, outcome: Outcome) -> None:
        """Take an attempt off its node for other work; it is no failure and no retry."""
        setbacks = assignment.shard.setbacks()
        setbacks.withdrawals += 1
        setbacks.excused = True
        self.withdraw(assignment, GAVE_WAY, outcome)

    def suspend(self, node: NodeEntry, assignment: AssignmentEntry, outcome: Outcome) -> None:
        """Have a node run an attempt only while it runs nothing else."""
        node.unplace(assignment, self.now)
        assignment.place = Place.BACKGROUND
        node.background += (assignment,)
        self.nodes.suspending[node.node_id] = node
        self.jobs[assignment.job_id].n_open -= 1
        self.overdue.pop(assignment.id, None)
        self.nodes.freed(node)
        self._await_end(assignment, self.now)
        outcome.instructions.append(Preempt(node.node_id, assignment.id))

    def resume(self, node: NodeEntry, assignment: AssignmentEntry) -> None:
        """Let an attempt that gave way have a slot again; its node goes on with it by itself."""
        node.unplace(assignment, self.now)
        assignment.place = Place.LOAD
        node.place(assignment, self.now)
        self.jobs[assignment.job_id].n_open += 1
        self._await_end(assignment, self.now)

    def is_proven(self, job: JobEntry) -> bool:
        """Whether a job's module has given a result, here or in an earlier job that was like it."""
        if job.n_done_shards:
            return True
        return not job.is_suspect and self.nodes.speed(job.plan.program).slots > 0

    def split(self, job: JobEntry, shard: ShardEntry, outcome: Outcome) -> None:
        """Replace a shard that failed by two with half of its items each."""
        why = "its items are tried in two halves"
        self.close_others(shard, AssignmentState.CANCELLED, "its shard was split", outcome)
        shard.move(ShardState.SPLIT, why)
        outcome.shard_changed(shard.snapshot())
        for part in job.halves(shard):
            job.note_wanting(part)
            outcome.shard_changed(part.snapshot())

    def skip(self, job: JobEntry, shard: ShardEntry, outcome: Outcome) -> None:
        """Leave the items of a shard that failed out of its job's result."""
        self.close_others(shard, AssignmentState.CANCELLED, "its shard was skipped", outcome)
        shard.move(ShardState.SKIPPED, "its items are left out")
        outcome.shard_changed(shard.snapshot())
        job.skipped(shard)

    def give_back(self, shard: ShardEntry, reason: str, outcome: Outcome) -> None:
        """Give a shard out again if needed; it is queued once no attempt is open."""
        self.jobs[shard.job_id].note_wanting(shard)
        if shard.state is not ShardState.ASSIGNED or shard.open():
            return
        shard.move(ShardState.QUEUED, reason)
        outcome.shard_changed(shard.snapshot())
        outcome.returned.append((shard.snapshot(), reason))

    def complete(self, job: JobEntry, outcome: Outcome) -> None:
        """End a job whose items are all done."""
        job.move(JobState.COMPLETED)
        self.alarms.cancel(job.deadline)
        outcome.transitions.append(JobEnded(job.plan.job_id, JobState.COMPLETED, ()))

    def end(
        self,
        job: JobEntry,
        state: JobState,
        outcome: Outcome,
        reason: str | None = None,
        culprit: ShardEntry | None = None,
    ) -> None:
        """End a job that failed or is no longer wanted, with all its attempts.

        Its failures are those of the `culprit`, if one shard is to blame, else of all shards.
        """
        failed = state is JobState.FAILED
        told: list[ItemsFailed | str] = [] if reason is None else [reason]
        for shard in job.shards.values() if culprit is None else (culprit,):
            if len(told) < _FAILURES_TOLD_MAX:
                told += failed_items(shard)
        job.move(state)
        self.alarms.cancel(job.deadline)
        for shard in job.shards.values():
            ended = AssignmentState.CANCELLED
            self.close_others(shard, ended, f"the job is {state.value}", outcome)
            if shard.state in (ShardState.ASSIGNED, ShardState.QUEUED):
                shard.move(ShardState.DEAD if failed else ShardState.CANCELLED, "the job ended")
                outcome.shard_changed(shard.snapshot())
        job.wanting.clear()
        outcome.transitions.append(JobEnded(job.plan.job_id, state, tuple(told) if failed else ()))

    def close_others(
        self, shard: ShardEntry, state: AssignmentState, reason: str, outcome: Outcome
    ) -> None:
        """End every attempt at a shard that could still count, and tell their nodes."""
        for assignment in shard.live:
            self.move(assignment, state, reason, outcome)
            self.release(assignment)
            if assignment.node_id in self.nodes.by_id:
                outcome.instructions.append(Withdraw(assignment.node_id, assignment.id))

    def move(
        self,
        assignment: AssignmentEntry,
        state: AssignmentState,
        reason: str | None,
        outcome: Outcome,
    ) -> None:
        """Change an attempt's state."""
        assignment.move(state)
        outcome.transitions.append(AssignmentChanged(assignment.snapshot(), reason))

    def release(self, assignment: AssignmentEntry) -> None:
        """Forget an attempt whose result can no longer count, and free its place."""
        self.alarms.cancel(assignment.deadline)
        self.assignments.pop(assignment.id, None)
        shard = assignment.shard
        shard.live = tuple(each for each in shard.live if each is not assignment)
        self._unplace(assignment)

    def lose(self, node_id: str, reason: str, outcome: Outcome) -> None:
        """Take the work away from a node that disconnected."""
        node = self.nodes.lose(node_id)
        for assignment in () if node is None else node.held():
            try:
                self.jobs[assignment.job_id].n_open -= not assignment.is_background
                assignment.place = Place.NOWHERE
                self.overdue.pop(assignment.id, None)
                self.expire(assignment, reason, outcome)
            except Exception as error:
                outcome.faults.append((assignment.job_id, error))

    def pause(self, node: NodeEntry, until: float) -> None:
        """Give a node no work until a time."""
        node.paused_until = until
        self.rest(node, until)

    def wake(self, due: float) -> None:
        """Have `plan` called at a given time."""
        self.alarms.set(due, _nothing, None)

    def rest(self, node: NodeEntry, until: float) -> None:
        """Look at a node again at a given time."""
        self.alarms.set(until, self._rested, node)

    def _late(self, assignment: AssignmentEntry, outcome: Outcome) -> None:
        """Have an attempt that takes long copied; one beyond its wall time is given up."""
        assert assignment.deadline is not None
        due, node = assignment.deadline.due, self.nodes.by_id.get(assignment.node_id)
        if assignment.is_background and node is not None:
            if node.load:
                self._await_end(assignment, due)
            else:
                self.resume(node, assignment)
        elif assignment.state in OPEN:
            job = self.jobs[assignment.job_id]
            job.is_suspect |= not job.n_done_shards
            # Without a measurement the deadline is a guess.
            if assignment.run_s is not None:
                assignment.shard.setbacks().expiries += 1
            self.expire(assignment, _LATE, outcome)
            if assignment.place is Place.LOAD:
                self.overdue[assignment.id] = assignment
                self._await_end(assignment, due)
        elif assignment.place is Place.LOAD:
            self.withdraw(assignment, _OVERDUE, outcome)

    def _await_end(self, assignment: AssignmentEntry, now: float) -> None:
        """Wait until the node must have ended an attempt, as the time of each is limited."""
        wall_s = self.jobs[assignment.job_id].plan.wall_s
        self.arm(assignment, now + wall_s + _OVERDUE_GRACE_S)

    def _rested(self, node: NodeEntry, _outcome: Outcome) -> None:
        self.nodes.freed(node)

    def _place(self, node: NodeEntry, assignment: AssignmentEntry) -> None:
        if assignment.place is Place.NOWHERE:
            assignment.place = Place.LOAD
            node.place(assignment, self.now)
            self.jobs[assignment.job_id].n_open += 1

    def _unplace(self, assignment: AssignmentEntry) -> None:
        if assignment.place is not Place.NOWHERE:
            node = self.nodes.by_id[assignment.node_id]
            node.unplace(assignment, self.now)
            self.overdue.pop(assignment.id, None)
            self.jobs[assignment.job_id].n_open -= not assignment.is_background
            assignment.place = Place.NOWHERE
            self.nodes.freed(node)


def failed_items(shard: ShardEntry) -> list[ItemsFailed]:
    """Return a shard's failures, each text once with the nodes that gave it."""
    nodes: dict[str, dict[str, None]] = {}
    for failure in shard.had.failures:
        nodes.setdefault(failure.text, {})[failure.node_id] = None
    return [
        ItemsFailed(shard.first_item, shard.n_items, text, tuple(node_ids))
        for text, node_ids in nodes.items()
    ]


def _send(assignment: AssignmentEntry) -> Send:
    shard = assignment.shard
    return Send(assignment.node_id, assignment.snapshot(), shard.first_item, shard.n_items)


def _nothing(_subject: object, _outcome: Outcome) -> None:
    """Do nothing: `plan` is called afterwards."""
