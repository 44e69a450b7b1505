"""The states of jobs, shards and assignments: events in, transitions and instructions out.

Pure: no I/O, clock or randomness; time comes as an argument (monotonic seconds). `handle` moves
states, `plan` gives out work; the gateway stores the transitions of both in one transaction and
only then carries out the instructions. `entries` holds what the machine remembers.
"""

import heapq
from collections.abc import Callable
from typing import Final

from swarm_hub.components.scheduler.entries import (
    AssignmentEntry,
    ImpossibleTransitionError,
    JobEntry,
    JobPlan,
    NodeChange,
    NodeEntry,
    ShardEntry,
)
from swarm_hub.components.scheduler.outcome import (
    AssignmentChanged,
    AssignmentOffered,
    JobEnded,
    JobStarted,
    Outcome,
    Send,
    ShardChanged,
    Withdraw,
)
from swarm_hub.components.scheduler.retry import is_hopeless, retry_node
from swarm_hub.components.scheduler.strategy import Cut, JobView, Strategy
from swarm_hub.models.job import JobState
from swarm_hub.models.shard import AssignmentState, ShardState, assignment_id

__all__ = [
    "AssignmentChanged",
    "AssignmentOffered",
    "ImpossibleTransitionError",
    "JobEnded",
    "JobEntry",
    "JobPlan",
    "JobStarted",
    "NodeChange",
    "Outcome",
    "Send",
    "ShardChanged",
    "StateMachine",
    "Withdraw",
]

# A node that rejected a shard is asked again after this time.
_PAUSE_S: Final = 1.0
_OPEN: Final = (AssignmentState.OFFERED, AssignmentState.ACCEPTED)

# deadline_s(expected seconds or None when no rate is known, attempt from 1) -> seconds
DeadlineRule = Callable[[float | None, int], float]


class StateMachine:
    """Every unfinished job and every connected node of one gateway."""

    def __init__(self, strategy: Strategy, deadline_s: DeadlineRule) -> None:
        self._strategy = strategy
        self._deadline_s = deadline_s
        self._jobs: dict[str, JobEntry] = {}
        self._nodes: dict[str, NodeEntry] = {}
        self._assignments: dict[str, AssignmentEntry] = {}
        self._deadlines: list[tuple[float, str]] = []

    def add_job(self, job: JobPlan, now: float, reconnect_s: float = 0.0) -> Outcome:
        """Take a new job, or one from before a restart with its shards and assignments.

        Assignments in flight are re-armed: their nodes have `reconnect_s` to come back. One that
        is here already, as when a job of another gateway is adopted, is sent them at once.
        """
        outcome = Outcome()
        entry = self._jobs[job.job_id] = JobEntry.of(job)
        for shard in entry.shards.values():
            for assignment in shard.live.values():
                self._assignments[assignment.id] = assignment
                self._arm(assignment, now + reconnect_s)
                node = self._nodes.get(assignment.node_id)
                if node is not None and assignment.state in _OPEN:
                    outcome.instructions.append(self._send_again(node, assignment, now))
        if entry.n_done_items == entry.plan.n_items:
            self._complete(entry, outcome)
        return outcome

    def node_changed(self, change: NodeChange, now: float) -> list[Send]:
        """Take a new or changed node; returns what it must be sent again after a restart."""
        node = self._nodes.get(change.node_id)
        if node is not None:
            node.change = change
            return []
        node = self._nodes[change.node_id] = NodeEntry(change)
        return [
            self._send_again(node, assignment, now)
            for assignment in self._assignments.values()
            if assignment.node_id == change.node_id and assignment.state in _OPEN
        ]

    def node_lost(self, node_id: str, reason: str) -> Outcome:
        """Return the shards of a node that is gone; what it finished may still arrive."""
        outcome = Outcome()
        node = self._nodes.pop(node_id, None)
        for held in () if node is None else tuple(node.load):
            assignment = self._assignments[held]
            assignment.lost = True
            self._expire(assignment, reason, outcome)
        return outcome

    def accepted(self, held: str) -> Outcome:
        """Note that a node has an assignment on its disk."""
        outcome = Outcome()
        assignment = self._assignments.get(held)
        if assignment is not None and assignment.state is AssignmentState.OFFERED:
            self._move(assignment, AssignmentState.ACCEPTED, None, outcome)
        return outcome

    def rejected(self, held: str, reason: str, now: float) -> Outcome:
        """Return a shard that a node does not take; the node gets a moment's rest."""
        outcome = Outcome()
        assignment = self._assignments.get(held)
        if assignment is None or assignment.state not in _OPEN:
            return outcome
        self._move(assignment, AssignmentState.REJECTED, reason, outcome)
        self._release(assignment)
        self._return(self._shard(assignment), reason, outcome)
        if (node := self._nodes.get(assignment.node_id)) is not None:
            node.paused_until = now + _PAUSE_S
            heapq.heappush(self._deadlines, (node.paused_until, assignment.node_id))
        return outcome

    def failed(self, held: str, text: str) -> Outcome:
        """Count a failure of the module; on three different nodes it fails the job."""
        outcome = Outcome()
        assignment = self._assignments.get(held)
        if assignment is None:
            return outcome
        shard = self._shard(assignment)
        self._move(assignment, AssignmentState.FINISHED, text, outcome)
        self._release(assignment)
        shard.failures.append((assignment.node_id, text))
        outcome.failures.append((shard.snapshot(), assignment.node_id, text))
        if is_hopeless(shard, self._nodes.keys()):
            self._end(self._jobs[shard.job_id], JobState.FAILED, outcome)
        else:
            self._return(shard, text, outcome)
        return outcome

    def finished(self, held: str, wall_s: float) -> Outcome:
        """Count a result; `outcome.counted` says whether it is the one that counts.

        A late result counts while its shard is unfinished and its own assignment was neither
        superseded nor cancelled.
        """
        outcome = Outcome()
        assignment = self._assignments.get(held)
        if assignment is None:
            return outcome
        job, shard = self._jobs[assignment.job_id], self._shard(assignment)
        if (node := self._nodes.get(assignment.node_id)) is not None:
            node.measured(job.plan.module_sha, shard.n_items, wall_s)
        self._move(assignment, AssignmentState.FINISHED, None, outcome)
        self._release(assignment)
        if shard.state is ShardState.QUEUED:
            job.returned.remove(shard.index)
            shard.move(ShardState.ASSIGNED, "a late result arrived")
        shard.accepted = assignment.id
        shard.move(ShardState.DONE, f"{assignment.id} finished")
        outcome.shard_changed(shard.snapshot(), shard.accepted)
        outcome.counted = shard.snapshot()
        self._close_others(shard, AssignmentState.SUPERSEDED, "another result came first", outcome)
        job.done(shard)
        if job.n_done_items == job.plan.n_items:
            self._complete(job, outcome)
        return outcome

    def cancel(self, job_id: str) -> Outcome:
        """End a job at its owner's wish."""
        outcome = Outcome()
        if (job := self._jobs.get(job_id)) is not None and not job.ended:
            self._end(job, JobState.CANCELLED, outcome)
        return outcome

    def abort(self, job_id: str, reason: str) -> Outcome:
        """End a job that can't go on, for a reason that is no node's fault."""
        outcome = Outcome()
        if (job := self._jobs.get(job_id)) is not None and not job.ended:
            self._end(job, JobState.FAILED, outcome, reason)
        return outcome

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended or is another gateway's now; its results are unknown here."""
        for shard in self._jobs[job_id].shards.values():
            for assignment in tuple(shard.live.values()):
                self._release(assignment)
        del self._jobs[job_id]

    def expire(self, now: float) -> Outcome:
        """Return the shards whose deadline has passed."""
        outcome = Outcome()
        while self._deadlines and self._deadlines[0][0] <= now:
            due, held = heapq.heappop(self._deadlines)
            if self._is_due(due, held) and held in self._assignments:
                self._expire(self._assignments[held], "no result before its deadline", outcome)
        return outcome

    def next_deadline(self) -> float | None:
        """Return when `expire` and `plan` should be called next, None when nothing is out."""
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def plan(self, now: float) -> Outcome:
        """Give out as much work as the nodes have room for, the most urgent job first."""
        outcome = Outcome()
        for job in sorted(self._jobs.values(), key=lambda job: job.order):
            if not job.ended:
                self._plan_returned(job, now, outcome)
                self._plan_pool(job, now, outcome)
        return outcome

    def job(self, job_id: str) -> JobEntry | None:
        """Return what is remembered of an unfinished job; for reading only."""
        return self._jobs.get(job_id)

    def node(self, node_id: str) -> NodeEntry | None:
        """Return what is remembered of a connected node; for reading only."""
        return self._nodes.get(node_id)

    def assignment(self, held: str) -> AssignmentEntry | None:
        """Return an assignment whose result could still count; for reading only."""
        return self._assignments.get(held)

    def has_work(self) -> bool:
        """Whether any item waits to be given out."""
        return any(job.pool_items or job.returned for job in self._jobs.values() if not job.ended)

    def why_waiting(self, job_id: str) -> str | None:
        """Say why a job makes no progress; None when it does."""
        job = self._jobs.get(job_id)
        if job is None or job.ended or any(shard.live for shard in job.shards.values()):
            return None
        if not self._nodes:
            return "no worker is connected"
        refusing = [node.change.refuses for node in self._nodes.values() if node.change.refuses]
        if len(refusing) == len(self._nodes):
            return f"{len(refusing)} nodes take no work: {', '.join(sorted(set(refusing)))}"
        return f"{len(self._nodes)} nodes are busy with other jobs"

    def _plan_returned(self, job: JobEntry, now: float, outcome: Outcome) -> None:
        for index in tuple(job.returned):
            node = retry_node(job.shards[index], self._nodes.values(), now)
            if node is not None:
                job.returned.remove(index)
                self._offer(job, job.shards[index], node, now, outcome)

    def _plan_pool(self, job: JobEntry, now: float, outcome: Outcome) -> None:
        while job.pool_items:
            nodes = [node.view(job, now) for node in self._nodes.values() if node.room(now) > 0]
            if not nodes:
                return
            plan = job.plan
            view = JobView(
                plan.job_id, plan.n_items, job.pool_items, plan.shard_size, plan.max_items
            )
            cuts = [cut for cut in self._strategy.cut(view, nodes) if self._fits(cut)]
            if not cuts:
                return
            for cut in cuts:
                node = self._nodes[cut.node_id]
                if job.pool_items and node.room(now) > 0:
                    self._offer(job, job.cut(cut.n_items), node, now, outcome)

    def _fits(self, cut: Cut) -> bool:
        return cut.n_items > 0 and cut.node_id in self._nodes

    def _offer(
        self, job: JobEntry, shard: ShardEntry, node: NodeEntry, now: float, outcome: Outcome
    ) -> None:
        if not job.started:
            job.started = True
            outcome.transitions.append(JobStarted(job.plan.job_id))
        shard.attempts += 1
        job.n_retries += shard.attempts > 1
        node_id = node.change.node_id
        assignment = AssignmentEntry(
            id=assignment_id(shard.job_id, shard.index, shard.attempts),
            job_id=shard.job_id,
            index=shard.index,
            attempt=shard.attempts,
            node_id=node_id,
        )
        shard.tried.add(node_id)
        shard.live[assignment.id] = assignment
        self._assignments[assignment.id] = assignment
        expected_s = node.expected_s(job.plan.module_sha, shard.n_items)
        node.load.add(assignment.id)
        self._arm(assignment, now + self._deadline_s(expected_s, shard.attempts))
        shard.move(ShardState.ASSIGNED, f"{assignment.id} offered to {node_id}")
        outcome.shard_changed(shard.snapshot(), shard.accepted)
        outcome.transitions.append(AssignmentOffered(assignment.snapshot(), shard.n_items))
        outcome.instructions.append(self._send(job, assignment))

    def _send(self, job: JobEntry, assignment: AssignmentEntry) -> Send:
        shard = job.shards[assignment.index]
        return Send(assignment.node_id, assignment.snapshot(), shard.first_item, shard.n_items)

    def _send_again(self, node: NodeEntry, assignment: AssignmentEntry, now: float) -> Send:
        node.load.add(assignment.id)
        self._arm(assignment, now + self._deadline_s(None, assignment.attempt))
        return self._send(self._jobs[assignment.job_id], assignment)

    def _expire(self, assignment: AssignmentEntry, reason: str, outcome: Outcome) -> None:
        shard = self._shard(assignment)
        if assignment.state not in _OPEN:
            return
        if assignment.state is AssignmentState.OFFERED:
            # It was never ACKed, so the node does not have it: it holds no place there.
            assignment.lost = True
            if (node := self._nodes.get(assignment.node_id)) is not None:
                node.load.discard(assignment.id)
        self._move(assignment, AssignmentState.EXPIRED, reason, outcome)
        self._return(shard, reason, outcome)

    def _return(self, shard: ShardEntry, reason: str, outcome: Outcome) -> None:
        """Queue a shard again, unless another attempt is still within its time."""
        if shard.state is not ShardState.ASSIGNED:
            return
        if any(held.state in _OPEN for held in shard.live.values()):
            return
        shard.move(ShardState.QUEUED, reason)
        self._jobs[shard.job_id].returned.append(shard.index)
        outcome.shard_changed(shard.snapshot(), shard.accepted)
        outcome.returned.append((shard.snapshot(), reason))

    def _complete(self, job: JobEntry, outcome: Outcome) -> None:
        job.ended = True
        outcome.transitions.append(JobEnded(job.plan.job_id, JobState.COMPLETED, ()))

    def _end(
        self, job: JobEntry, state: JobState, outcome: Outcome, reason: str | None = None
    ) -> None:
        failed = state is JobState.FAILED
        texts = [f"{node_id}: {text}" for s in job.shards.values() for node_id, text in s.failures]
        texts += [] if reason is None else [reason]
        job.ended = True
        for shard in job.shards.values():
            ended = AssignmentState.CANCELLED
            self._close_others(shard, ended, f"the job is {state.value}", outcome)
            if shard.state in (ShardState.ASSIGNED, ShardState.QUEUED):
                shard.move(ShardState.DEAD if failed else ShardState.CANCELLED, "the job ended")
                outcome.shard_changed(shard.snapshot(), shard.accepted)
        job.returned.clear()
        outcome.transitions.append(
            JobEnded(job.plan.job_id, state, tuple(dict.fromkeys(texts)) if failed else ())
        )

    def _close_others(
        self, shard: ShardEntry, state: AssignmentState, reason: str, outcome: Outcome
    ) -> None:
        for assignment in tuple(shard.live.values()):
            self._move(assignment, state, reason, outcome)
            self._release(assignment)
            if assignment.node_id in self._nodes:
                outcome.instructions.append(Withdraw(assignment.node_id, assignment.id))

    def _move(
        self,
        assignment: AssignmentEntry,
        state: AssignmentState,
        reason: str | None,
        outcome: Outcome,
    ) -> None:
        assignment.move(state, self._shard(assignment))
        outcome.transitions.append(AssignmentChanged(assignment.snapshot(), reason))

    def _release(self, assignment: AssignmentEntry) -> None:
        """Forget an assignment whose result can no longer count and free its place."""
        self._assignments.pop(assignment.id, None)
        self._shard(assignment).live.pop(assignment.id, None)
        if (node := self._nodes.get(assignment.node_id)) is not None:
            node.load.discard(assignment.id)

    def _is_due(self, due: float, held: str) -> bool:
        """Whether a heap entry still means something: an open assignment or a node's pause."""
        if (node := self._nodes.get(held)) is not None:
            return node.paused_until == due
        assignment = self._assignments.get(held)
        return assignment is not None and assignment.deadline == due and assignment.state in _OPEN

    def _arm(self, assignment: AssignmentEntry, deadline: float) -> None:
        assignment.deadline = deadline
        heapq.heappush(self._deadlines, (deadline, assignment.id))

    def _shard(self, assignment: AssignmentEntry) -> ShardEntry:
        return self._jobs[assignment.job_id].shards[assignment.index]
