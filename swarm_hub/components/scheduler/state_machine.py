"""The states of jobs, shards and assignments: events in, transitions and instructions out.

Pure: no I/O, clock or randomness; time comes as an argument (monotonic seconds). `handle` moves
states, `plan` gives out work; the gateway stores the transitions of both in one transaction and
only then carries out the instructions. `book` has the steps, `planner` the choices. It is long
because it has a handler for each kind of event, and nothing else.
"""

from collections.abc import Callable
from typing import Any, Final

from swarm_hub.components.scheduler.claims import UNPROVEN_SHARE
from swarm_hub.components.scheduler.eligibility import unfit, why
from swarm_hub.components.scheduler.entries import (
    AssignmentEntry,
    Failure,
    JobEntry,
    JobPlan,
    ShardEntry,
)
from swarm_hub.components.scheduler.events import (
    Accepted,
    Event,
    Failed,
    Finished,
    JobAborted,
    JobAdded,
    JobCancelled,
    JobChanged,
    NodeLost,
    Rejected,
    StandingChanged,
    TimePassed,
)
from swarm_hub.components.scheduler.moves import OPEN
from swarm_hub.components.scheduler.nodes import NodeChange, NodeEntry
from swarm_hub.components.scheduler.outcome import Outcome
from swarm_hub.components.scheduler.planner import Planner
from swarm_hub.components.scheduler.retry import (
    FAILURES_MAX,
    is_hopeless,
    may_be_skipped,
    never_ends,
    pause_s,
)
from swarm_hub.components.scheduler.state import DeadlineRule, SchedulerState
from swarm_hub.components.scheduler.strategies import adaptive
from swarm_hub.components.scheduler.strategies.base import Strategy
from swarm_hub.components.scheduler.votes import Vote, is_refuted, is_undecidable, winner
from swarm_hub.models.job import JobState
from swarm_hub.models.messages import GAVE_WAY
from swarm_hub.models.shard import AssignmentState, ShardState

# A node that rejected a shard is asked again after this time.
_PAUSE_S: Final = 1.0


class StateMachine:
    """Every unfinished job and every connected node of one gateway."""

    def __init__(
        self, strategy: Strategy, deadline_s: DeadlineRule, unproven_share: float = UNPROVEN_SHARE
    ) -> None:
        self._book = SchedulerState(deadline_s)
        self._planner = Planner(self._book, strategy, adaptive.create(), unproven_share)
        # The most frequent first.
        self._handlers: dict[type, Callable[[Any, float, Outcome], None]] = {
            Finished: self._finished,
            Accepted: self._accepted,
            TimePassed: self._time_passed,
            NodeChange: self._node_changed,
            JobAdded: self._job_added,
            Failed: self._failed,
            Rejected: self._rejected,
            NodeLost: self._node_lost,
            StandingChanged: self._standing_changed,
            JobChanged: self._job_changed,
            JobCancelled: self._cancelled,
            JobAborted: self._aborted,
        }

    def decide_by(
        self, strategy: Strategy, deadline_s: DeadlineRule, unproven_share: float
    ) -> None:
        """Cut, time and share out by these from the next shard on."""
        self._book.decide_by(deadline_s)
        self._planner.decide_by(strategy, unproven_share)

    def handle(self, event: Event, now: float) -> Outcome:
        """Return the transitions and instructions that follow from an event.

        An event about an assignment, node or job that is no longer known changes nothing.
        """
        outcome = Outcome()
        self._book.now = now
        self._handlers[type(event)](event, now, outcome)
        return outcome

    def plan(self, now: float) -> Outcome:
        """Give out as much work as the nodes have room for, the most urgent job first."""
        outcome = Outcome()
        self._book.now = now
        self._planner.plan(now, outcome)
        return outcome

    def next_deadline(self) -> float | None:
        """Return when `TimePassed` and `plan` are due next, None when nothing is out."""
        return self._book.alarms.next()

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended or is another gateway's now; its results are unknown here."""
        self._book.forget(job_id)

    def job(self, job_id: str) -> JobEntry | None:
        """Return what is remembered of an unfinished job; for reading only."""
        return self._book.jobs.get(job_id)

    def job_ids(self) -> frozenset[str]:
        """Return the ids of the unfinished jobs."""
        return frozenset(self._book.jobs)

    def node(self, node_id: str) -> NodeEntry | None:
        """Return what is remembered of a connected node; for reading only."""
        return self._book.nodes.by_id.get(node_id)

    @property
    def wary(self) -> bool:
        """Whether any node was contradicted, in which case all have to earn more trust."""
        return self._book.nodes.wary

    def assignment(self, assignment_id: str) -> AssignmentEntry | None:
        """Return an assignment whose result could still count; for reading only."""
        return self._book.assignments.get(assignment_id)

    def has_work(self) -> bool:
        """Whether any item waits to be given out."""
        return any(
            job.pool_items or job.wanting for job in self._book.jobs.values() if not job.ended
        )

    def why_waiting(self, job_id: str, now: float) -> str | None:
        """Say why a job makes no progress; None if it does."""
        job = self._book.jobs.get(job_id)
        if job is None or job.ended or any(shard.live for shard in job.shards.values()):
            return None
        told = why(self._book.nodes.by_id.values(), job.plan, now)
        n_owners = len({node.owner for node in self._book.nodes.by_id.values()})
        needed = job.plan.redundancy.quorum
        if 0 < n_owners < needed:
            verb = "is" if n_owners == 1 else "are"
            told += (
                f"; its results need {needed} nodes of different owners, there {verb} {n_owners}"
            )
        return told

    def stranded(self, job_id: str, now: float) -> JobPlan | None:
        """Return the plan of a job of which nothing is out and which no node here may run."""
        job = self._book.jobs.get(job_id)
        if job is None or job.ended or any(shard.live for shard in job.shards.values()):
            return None
        nodes = self._book.nodes.by_id.values()
        may_run = any(
            not each.change.refuses and unfit(each, job.plan, now) is None for each in nodes
        )
        return None if may_run else job.plan

    # Jobs

    def _job_added(self, event: JobAdded, now: float, outcome: Outcome) -> None:
        book, plan = self._book, event.plan
        job = JobEntry.of(plan)
        book.add(job)
        self._set_deadline(job, now)
        for shard in job.shards.values():
            for assignment in shard.live:
                book.assignments[assignment.id] = assignment
                assignment.begun_at = now
                if assignment.state not in OPEN:
                    continue
                book.arm(assignment, now + event.reconnect_s)
                node = book.nodes.by_id.get(assignment.node_id)
                if node is None:
                    book.await_node(assignment)
                else:
                    outcome.instructions.append(book.send_again(node, assignment, now))
        if job.is_done:
            self._complete(job, outcome)

    def _job_changed(self, event: JobChanged, now: float, _outcome: Outcome) -> None:
        if (job := self._book.jobs.get(event.job_id)) is not None and not job.ended:
            self._book.change(job, event.priority, event.deadline_in_s)
            self._set_deadline(job, now)

    def _set_deadline(self, job: JobEntry, now: float) -> None:
        self._book.alarms.cancel(job.deadline)
        within_s = job.plan.deadline_in_s
        job.deadline = (
            None if within_s is None else self._book.alarms.set(now + within_s, self._overdue, job)
        )

    def _cancelled(self, event: JobCancelled, _now: float, outcome: Outcome) -> None:
        if (job := self._book.jobs.get(event.job_id)) is not None and not job.ended:
            self._book.end(job, JobState.CANCELLED, outcome)

    def _aborted(self, event: JobAborted, _now: float, outcome: Outcome) -> None:
        if (job := self._book.jobs.get(event.job_id)) is not None and not job.ended:
            self._book.end(job, JobState.FAILED, outcome, event.reason)

    def _overdue(self, job: JobEntry, outcome: Outcome) -> None:
        if not job.ended:
            done, n_items = job.n_done_items, job.plan.n_items
            reason = f"its deadline passed with {done} of {n_items} items done"
            now = 0.0 if job.deadline is None else job.deadline.due
            if (waited := self.why_waiting(job.plan.job_id, now)) is not None:
                reason += f"; it waited: {waited}"
            self._book.end(job, JobState.FAILED, outcome, reason)

    # Nodes

    def _node_changed(self, event: NodeChange, now: float, outcome: Outcome) -> None:
        node, is_new = self._book.nodes.change(event, now)
        if is_new:
            for quarantine in event.quarantines:
                self._book.rest(node, quarantine.until)
            for assignment in self._book.awaited(event.node_id):
                try:
                    outcome.instructions.append(self._book.send_again(node, assignment, now))
                except Exception as error:
                    outcome.faults.append((assignment.job_id, error))

    def _node_lost(self, event: NodeLost, _now: float, outcome: Outcome) -> None:
        self._book.lose(event.node_id, event.reason, outcome)

    def _standing_changed(self, event: StandingChanged, _now: float, _outcome: Outcome) -> None:
        self._book.nodes.restand(event.node_id, event.agreements, event.contradictions)

    # Assignments

    def _accepted(self, event: Accepted, _now: float, outcome: Outcome) -> None:
        assignment = self._book.assignments.get(event.assignment_id)
        if assignment is not None and assignment.state is AssignmentState.OFFERED:
            self._book.move(assignment, AssignmentState.ACCEPTED, None, outcome)

    def _rejected(self, event: Rejected, now: float, outcome: Outcome) -> None:
        """Take back a shard that a node refuses; the node gets a moment's rest.

        A node that lacks what the job needs gets no more of that job, and needs no rest from
        others. Neither does one that made way for other work.
        """
        book = self._book
        assignment = book.assignments.get(event.assignment_id)
        if assignment is None:
            return
        shard = assignment.shard
        # A worker's word for it is not enough: it could give back everything at once, for ever.
        gave_way = assignment.is_background and event.reason.startswith(GAVE_WAY)
        shard.setbacks().tried += (assignment.node_id,)
        if gave_way:
            shard.setbacks().excused = True
        book.move(assignment, AssignmentState.REJECTED, event.reason, outcome)
        book.release(assignment)
        book.give_back(shard, event.reason, outcome)
        if (node := book.nodes.by_id.get(assignment.node_id)) is None:
            return
        if lacking := event.lacks & book.jobs[assignment.job_id].plan.needs:
            node.lacks |= lacking
        elif not gave_way:
            book.pause(node, now + _PAUSE_S)

    def _failed(self, event: Failed, now: float, outcome: Outcome) -> None:
        """Count a failure of the module; on three different nodes it is the fault of the items.

        Then the shard is split, or its items are left out, or the job fails.
        """
        book = self._book
        assignment = book.assignments.get(event.assignment_id)
        if assignment is None:
            return
        job, shard = book.jobs[assignment.job_id], assignment.shard
        book.move(assignment, AssignmentState.FINISHED, event.text, outcome)
        book.release(assignment)
        node = book.nodes.by_id.get(assignment.node_id)
        owner = assignment.owner if node is None else node.owner
        failure = Failure(assignment.node_id, owner, event.text)
        setbacks = shard.setbacks()
        others = {each.node_id for each in setbacks.failures} - {failure.node_id}
        setbacks.failures += (failure,)
        setbacks.tried += (failure.node_id,)
        job.last_failure = shard.snapshot(), failure
        outcome.failures.append((shard.snapshot(), failure.node_id, failure.text))
        if setbacks.isolating:
            job.n_isolating += 1
            # A hub that was frozen or away hears late of what failed at once.
            ran_s = now - assignment.begun_at if event.wall_s is None else event.wall_s
            job.isolating_s += min(ran_s, job.plan.wall_s)
        if others or setbacks.isolating:
            # The items are to blame, not the nodes.
            for node_id in others:
                if (other := book.nodes.by_id.get(node_id)) is not None:
                    book.nodes.forgive(other, job.plan.program, now)
        elif node is not None:
            until = book.nodes.failed(node, job.plan.program, event.text, now)
            self._quarantine(node, job, until, outcome)
        if failure.timed_out and not job.n_done_shards:
            job.timed_out_on += (failure.node_id,)
        self._decide(job, shard, now, outcome)

    def _decide(self, job: JobEntry, shard: ShardEntry, now: float, outcome: Outcome) -> None:
        """Try a shard that failed again, split it, leave its items out, or fail the job."""
        book, setbacks, timed_out_on = self._book, shard.had, job.timed_out_on
        n_most = max(len(setbacks.failures), len(timed_out_on))
        if n_most < FAILURES_MAX and not setbacks.isolating:
            self._try_again(shard, now, outcome)
            return
        able = {
            each.node_id: each.owner
            for each in book.nodes.by_id.values()
            if not each.change.refuses and unfit(each, job.plan, now) is None
        }
        if job.may_be_endless and never_ends(shard, timed_out_on, able):
            reason = (
                f"it does not end: {len(timed_out_on)} attempts took all of their wall time of "
                f"{job.plan.wall_s:g} s, and none gave a result"
            )
            book.end(job, JobState.FAILED, outcome, reason)
        elif job.may_split(shard) and (setbacks.isolating or is_hopeless(shard, able)):
            book.split(job, shard, outcome)
        elif not is_hopeless(shard, able):
            self._try_again(shard, now, outcome)
        elif not job.plan.skips:
            book.end(job, JobState.FAILED, outcome, culprit=shard)
        elif may_be_skipped(shard, set(able.values())):
            self._skip(job, shard, outcome)
        else:
            self._try_again(shard, now, outcome)

    def _try_again(self, shard: ShardEntry, now: float, outcome: Outcome) -> None:
        shard.not_before = now + pause_s(shard)
        self._book.wake(shard.not_before)
        self._book.give_back(shard, shard.had.failures[-1].text, outcome)

    def _skip(self, job: JobEntry, shard: ShardEntry, outcome: Outcome) -> None:
        self._book.skip(job, shard, outcome)
        most = job.plan.failed_items_max
        if most is not None and job.n_failed_items > most:
            reason = f"{job.n_failed_items} items failed, more than max_failures: {most}"
            self._book.end(job, JobState.FAILED, outcome, reason, shard)
        elif job.is_done:
            self._complete(job, outcome, shard)

    def _complete(self, job: JobEntry, outcome: Outcome, culprit: ShardEntry | None = None) -> None:
        """End a job whose items are all done, or left out; without any result it has failed."""
        if job.n_done_items or not job.n_failed_items:
            self._book.complete(job, outcome)
        else:
            reason = f"all {job.plan.n_items} items failed"
            self._book.end(job, JobState.FAILED, outcome, reason, culprit)

    def _finished(self, event: Finished, now: float, outcome: Outcome) -> None:
        """Count a result, or keep it until others confirm it.

        A late result counts while its shard is unfinished and its own assignment was neither
        superseded nor cancelled.
        """
        book = self._book
        assignment = book.assignments.get(event.assignment_id)
        if assignment is None:
            return
        job, shard = book.jobs[assignment.job_id], assignment.shard
        node = book.nodes.by_id.get(assignment.node_id)
        if node is not None:
            book.nodes.measured(node, job.plan.program, shard.n_items, event.wall_s, now)
        book.move(assignment, AssignmentState.FINISHED, None, outcome)
        book.release(assignment)
        trusted = assignment.trusted and (node is None or book.nodes.trusts(node))
        owner = assignment.owner if node is None else node.owner
        vote = Vote(assignment.id, assignment.node_id, owner, event.sha, trusted)
        shard.votes += (vote,)
        known = job.plan.known_sha(shard)
        sha = winner(job.plan.redundancy, shard.votes, checked=shard.checked, known=known)
        if sha is not None:
            if known is None:
                self._judge(job, shard, sha, now, outcome)
            else:
                self._judge_by_known(job, shard, known, now, outcome)
            self._count(job, shard, vote, outcome)
        elif known is None:
            self._await_others(job, shard, outcome)
        else:
            self._await_known(job, shard, known, outcome)

    def _await_others(self, job: JobEntry, shard: ShardEntry, outcome: Outcome) -> None:
        """Keep a result that has no quorum yet."""
        outcome.awaiting = shard.snapshot()
        redundancy = job.plan.redundancy
        nodes = self._book.nodes.by_id.values()
        if is_undecidable(redundancy, shard.votes, lambda: {node.owner for node in nodes}):
            kinds = len({vote.sha for vote in shard.votes})
            reason = (
                f"shard {shard.index}: {len(shard.votes)} nodes gave {kinds} different results, "
                f"no {redundancy.quorum} of them equal; is the module deterministic?"
            )
            self._book.end(job, JobState.FAILED, outcome, reason)
        else:
            self._book.give_back(shard, "its result needs to be confirmed", outcome)

    def _await_known(self, job: JobEntry, shard: ShardEntry, known: str, outcome: Outcome) -> None:
        """Ask others for a shard's known answer, while it may still be right."""
        outcome.awaiting = shard.snapshot()
        last = shard.first_item + shard.n_items - 1
        items = f"items {shard.first_item} to {last}"
        if is_refuted(shard.votes, {n.owner for n in self._book.nodes.by_id.values()}):
            told = ", ".join(f"{vote.node_id} gave {vote.sha[:12]}" for vote in shard.votes)
            reason = (
                f"the known answer {known[:12]} to {items} is contradicted by all "
                f"who were asked: {told}; is it right, and is the module deterministic?"
            )
            self._book.end(job, JobState.FAILED, outcome, reason)
        else:
            node_id = shard.votes[-1].node_id
            reason = f"the result of {node_id} for {items} is not the known answer"
            self._book.give_back(shard, reason, outcome)

    def _judge_by_known(
        self, job: JobEntry, shard: ShardEntry, known: str, now: float, outcome: Outcome
    ) -> None:
        """Keep nodes that contradicted a known answer, now confirmed, from the job."""
        for vote in shard.votes:
            node = self._book.nodes.by_id.get(vote.node_id)
            if node is None:
                continue
            if vote.sha == known:
                self._book.nodes.succeeded(node, job.plan.program)
            else:
                until = self._book.nodes.refuted(node, job.plan.program, now)
                self._quarantine(node, job, until, outcome)

    def _judge(
        self, job: JobEntry, shard: ShardEntry, sha: str, now: float, outcome: Outcome
    ) -> None:
        """Score the nodes whose results were compared; a single result was not."""
        if len(shard.votes) == 1:
            node = self._book.nodes.by_id.get(shard.votes[0].node_id)
            if node is not None and job.plan.redundancy.copies == 1:
                self._book.nodes.succeeded(node, job.plan.program)
            return
        for vote in shard.votes:
            agreed = vote.sha == sha
            outcome.judged.append((vote.node_id, agreed))
            node = self._book.nodes.by_id.get(vote.node_id)
            if node is None:
                continue
            if agreed:
                self._book.nodes.agreed(node, job.plan.program)
            else:
                until = self._book.nodes.contradicted(node, job.plan.program, now)
                self._quarantine(node, job, until, outcome)

    def _count(self, job: JobEntry, shard: ShardEntry, vote: Vote, outcome: Outcome) -> None:
        """End a shard with the result that counts: of several equal ones the last to arrive."""
        if shard.state is ShardState.QUEUED:
            shard.move(ShardState.ASSIGNED, "a late result arrived")
        shard.move(ShardState.DONE, "finished")
        outcome.shard_changed(shard.snapshot(), vote.assignment_id)
        outcome.counted = shard.snapshot()
        ended = AssignmentState.SUPERSEDED
        self._book.close_others(shard, ended, "another result came first", outcome)
        job.done(shard)
        job.is_suspect, job.timed_out_on = False, ()
        if job.is_done:
            self._complete(job, outcome)

    def _quarantine(
        self, node: NodeEntry, job: JobEntry, until: float | None, outcome: Outcome
    ) -> None:
        if until is not None:
            outcome.quarantined.append((node.node_id, job.plan.program))
            self._book.rest(node, until)

    def _time_passed(self, _event: TimePassed, now: float, outcome: Outcome) -> None:
        self._book.alarms.ring(now, outcome)
