"""Rights to slots that are taken: which waiting job may have which running shard give way; pure.

The better right has, in this order: the higher priority, an owner who has less than half of an
equal share of the slots, a module that is proven (has given a result) before one that is not, and
of two that are not the one that has no slot before one that has run for a while (the rule of least
attained service: Nuyens and Wierman, "The Foreground-Background queue: a survey", 2008).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.scheduler.entries import AssignmentEntry, JobEntry, ShardEntry
from swarm_hub.components.scheduler.moves import OPEN
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.components.scheduler.state import SchedulerState

# The share of all slots that modules without a result get at most while proven ones wait.
UNPROVEN_SHARE: Final = 0.5
# A shard that should end within this time is waited for, and one that is late by up to as long as
# it should take; but who has a better right waits no longer than this altogether.
_WAIT_S: Final = 5.0
_WAIT_MARGIN_S: Final = 0.5
# Who waits gets this long what ends by itself, before anything is run in vain.
_PATIENCE_S: Final = 1.5
# A shard of unknown length runs at least this long, and at least that long where others that are
# unproven wait.
_UNMEASURED_MIN_S: Final = 0.5
_TURN_S: Final = 2.0
# A shard that gave way this often gives way only to a higher priority.
_WITHDRAWALS_MAX: Final = 2
# What waits on a node before a shard for longer than this gives way too.
_AHEAD_MAX_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Victim:
    """A running shard that may have to give way, and whether it should be suspended for that."""

    node: NodeEntry
    assignment: AssignmentEntry
    can_wait: bool


class Claims:
    """Who holds the slots at one moment, and who may take them."""

    def __init__(self, book: SchedulerState, now: float, unproven_share: float) -> None:
        self._book = book
        self._now = now
        self._by_owner: Counter[str] = Counter()
        self._by_job: Counter[str] = Counter()
        self._n_unproven = 0
        # What is not about to end; usually that is little.
        self._victims: list[Victim] = []
        for node in book.nodes.by_id.values():
            for assignment in node.running():
                self._count(assignment, 1)
                if not self._ends_soon(assignment):
                    can_wait = not self._is_proven(assignment) and not self._is_spare(assignment)
                    self._victims.append(Victim(node, assignment, can_wait))
        self._victims.sort(key=self._loss)
        owners = {job.plan.owner for job in book.jobs.values() if not job.ended}
        self._low = book.nodes.slots / max(1, len(owners)) / 2
        self._unproven_max = max(1, int(unproven_share * book.nodes.slots))

    def victims(self, job: JobEntry) -> Iterator[Victim]:
        """Yield what may give way to a job, the least loss first.

        What is `taken` on the way counts for the next ones.
        """
        for victim in tuple(self._victims):
            if self.may_take(job, victim.assignment):
                yield victim

    def may_take(self, job: JobEntry, assignment: AssignmentEntry) -> bool:
        """Whether a job has a better right to a slot than the shard that occupies it."""
        holder = self._book.jobs[assignment.job_id]
        proven = self._is_proven(assignment)
        if holder is not job and self._is_spare(assignment):
            is_equal = job.plan.priority >= holder.plan.priority
            return is_equal and self._waits_proven(job)
        if holder is job or self._is_just_late(job, assignment):
            return False
        if proven and self._waited_s(job) < _PATIENCE_S:
            return False
        if job.plan.priority != holder.plan.priority:
            return job.plan.priority > holder.plan.priority
        if proven and assignment.shard.had.withdrawals >= _WITHDRAWALS_MAX:
            return False
        if job.plan.owner != holder.plan.owner:
            owed = self._by_owner[job.plan.owner] < self._low
            holder_owed = self._by_owner[holder.plan.owner] - 1 < self._low
            if owed != holder_owed:
                return owed
        if proven:
            return False
        if self._waits_proven(job):
            return not self._by_job[job.job_id] or self._n_unproven > self._unproven_max
        ran_s = self._now - assignment.begun_at
        return not self._by_job[job.job_id] and ran_s >= _TURN_S

    def behind(self, victim: Victim, job: JobEntry) -> list[AssignmentEntry]:
        """Return what would take the victim's slot before the job, and for too long."""
        slots = victim.node.change.slots
        return [
            each
            for each in victim.node.load[slots:]
            if self._book.jobs[each.job_id] is not job
            and each.load_s > _AHEAD_MAX_S
            and self._book.jobs[each.job_id].plan.priority <= job.plan.priority
        ]

    def taken(self, victim: Victim, job: JobEntry) -> None:
        """Note that a job got the slot of a victim."""
        self._victims.remove(victim)
        self._count(victim.assignment, -1)
        self._by_owner[job.plan.owner] += 1
        self._by_job[job.job_id] += 1
        self._n_unproven += not self._waits_proven(job)

    def _count(self, assignment: AssignmentEntry, sign: int) -> None:
        job = self._book.jobs[assignment.job_id]
        self._by_owner[job.plan.owner] += sign
        self._by_job[job.job_id] += sign
        self._n_unproven += sign * (not self._is_proven(assignment))

    def _is_proven(self, assignment: AssignmentEntry) -> bool:
        return is_proven(self._book, self._book.jobs[assignment.job_id], assignment.shard)

    def _is_spare(self, assignment: AssignmentEntry) -> bool:
        """Whether an attempt was given up, and goes on only because it may still be the first.

        One of unknown length runs to its wall time.
        """
        job = self._book.jobs[assignment.job_id]
        late = assignment.state not in OPEN and assignment.run_s is not None
        return late and self._book.is_proven(job)

    def _waits_proven(self, job: JobEntry) -> bool:
        """Whether what waits of a job is proven: not only shards that took too long before."""
        return self._book.is_proven(job) and (
            bool(job.pool_items) or any(not job.shards[index].had.expiries for index in job.wanting)
        )

    def _ends_soon(self, assignment: AssignmentEntry) -> bool:
        """Whether nobody needs to take a shard's slot, as it should be free soon."""
        ran_s = self._now - assignment.begun_at
        if assignment.run_s is None:
            return ran_s < _UNMEASURED_MIN_S
        return 0 < assignment.run_s - ran_s <= _WAIT_S

    def _is_just_late(self, job: JobEntry, assignment: AssignmentEntry) -> bool:
        """Whether a job can still wait for a shard that should have ended a moment ago."""
        if assignment.run_s is None:
            return False
        late_s = self._now - assignment.begun_at - assignment.run_s
        can_wait = self._waited_s(job) < _WAIT_S - _WAIT_MARGIN_S
        return 0 <= late_s < assignment.run_s + _WAIT_MARGIN_S and can_wait

    def _waited_s(self, job: JobEntry) -> float:
        return 0.0 if job.waits_since is None else self._now - job.waits_since

    def _loss(self, victim: Victim) -> tuple[bool, bool, bool, float, str]:
        """Sort what was given up first, then what can be suspended, then the youngest."""
        assignment = victim.assignment
        has_place = len(victim.node.background) < victim.node.change.slots
        return (
            not self._is_spare(assignment),
            not victim.can_wait,
            not has_place,
            -assignment.begun_at,
            assignment.id,
        )


def is_proven(book: SchedulerState, job: JobEntry, shard: ShardEntry) -> bool:
    """Whether a shard should end: its module has given a result, and it was never too late."""
    return book.is_proven(job) and not shard.had.expiries
