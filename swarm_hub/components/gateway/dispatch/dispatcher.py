"""From events to effects: the state machine decides, the store commits, then the nodes are told.

Events change the state machine at once; what follows from them gathers while the last commit
is on its way to the disk, so that many shards share one transaction and one envelope.

It is long because every way in which handling a job can fail ends here: what raises is noted for
the job (`_fault`), which is read anew from the store between two commits (`_mend`).
"""

import asyncio
import dataclasses
import logging
import math
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.components.gateway.dispatch import rows
from swarm_hub.components.gateway.dispatch.pending_commit import (
    ChangedJob,
    NewJob,
    PendingCommit,
)
from swarm_hub.components.gateway.dispatch.progress import Progress
from swarm_hub.components.gateway.dispatch.sender import Sender, sends_by_job
from swarm_hub.components.gateway.dispatch.trust import Standing, Trust
from swarm_hub.components.gateway.links.base import NodeLinks
from swarm_hub.components.gateway.results import endings
from swarm_hub.components.gateway.results.failures import Failures
from swarm_hub.components.gateway.results.recent_jobs import RecentJobs
from swarm_hub.components.gateway.results.reductions import Reductions
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.gateway.submission.inputs import Inputs
from swarm_hub.components.gateway.submission.job_plan import plan_of, votes_of
from swarm_hub.components.scheduler import (
    Accepted,
    Event,
    Failed,
    Finished,
    ItemsFailed,
    JobAborted,
    JobAdded,
    JobCancelled,
    JobChanged,
    JobEnded,
    JobPlan,
    NodeChange,
    NodeLost,
    Outcome,
    Preempt,
    Rejected,
    StandingChanged,
    StateMachine,
    TimePassed,
    Withdraw,
)
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    PASSING_ERRORS,
    StoreBusyError,
    StoreError,
    StoreFencedError,
    StoreFullError,
)
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import Job, JobState
from swarm_hub.models.job_change import JobChange
from swarm_hub.models.messages import Result
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import job_of
from swarm_hub.storage import Fence, Write
from swarm_hub.storage.queries import jobs, leases, recovery
from swarm_hub.storage.queries.jobs import Finish
from swarm_hub.storage.queries.takeover import BATCH, LeftJob, left_job, left_jobs
from swarm_hub.util.apart import apart
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

# After a restart the nodes of assignments in flight have this long to come back.
_RECONNECT_S: Final = 15.0
_RESULT_WITHIN_S: Final = 0.02
_KEEP_WITHIN_S: Final = 0.5
_KEEP_SPEEDS_EVERY_S: Final = 30.0
_FIRST_EPOCH: Final = 1
# Without a lease: as long as an answer may be on its way.
_SURE_FOR_S: Final = 1.0
_FAULTS_MAX: Final = 2
_MEND_AGAIN_S: Final = 1.0


class Dispatcher:
    """Runs the unfinished jobs of this gateway."""

    def __init__(
        self,
        hub: Hub,
        gateway_id: str,
        machine: StateMachine,
        result_cache: ResultCache,
        failures: Failures,
        trust: Trust,
        changed: Callable[[str], None],
        owner_key: bytes,
        keeps_receipts: Callable[[Job], bool],
    ) -> None:
        self._hub = hub
        self._machine = machine
        self._changed = changed
        self.gateway_id = gateway_id
        self._jobs: dict[str, Job] = {}
        # A commit by an older epoch than the one that owns the job is refused.
        self._epochs: dict[str, int] = {}
        # By the monotonic clock; for ever on a store of one's own.
        self.leased_until = math.inf
        # Until then nobody may have ended the lease: one that is not renewed and whose session with
        # the store has ended, as the server may do to one that was frozen, ends early.
        self.sure_until = math.inf
        # When the store last said which jobs are this gateway's.
        self._sure_at = -math.inf
        self._pending = PendingCommit()
        # How often each job made its handling fail, and those that did since the last commit.
        self._faults: Counter[str] = Counter()
        self._faulty: dict[str, Exception] = {}
        # New jobs of a commit that failed in a way that does not tell whether they are stored.
        self._unsure: dict[str, NewJob] = {}
        self._in_hand: PendingCommit | None = None
        # When to note the speeds of each node again.
        self._keep_at: dict[str, float] = {}
        # The job whose assignments are being sent.
        self._sending: str | None = None
        self._storing = False
        self._round = asyncio.Event()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._progress = Progress(hub)
        self.inputs = Inputs(hub, self._jobs, self._assignments_on)
        self.links = NodeLinks(self.inputs.serve)
        self._sender = Sender(self.links, self.inputs, owner_key, keeps_receipts)
        self.result_cache = result_cache
        self.recent = RecentJobs(hub)
        self._reductions = Reductions(hub, result_cache, self._close)
        self._failures = failures
        self._trust = trust
        # Keeps nodes from knowing which shards of an adaptive job are checked.
        self._secret = secrets.token_bytes(32)

    def start(self) -> None:
        """Begin to dispatch; recovered jobs should be added first."""
        self._running = self._hub.tasks.supervise(self._run, "dispatcher")

    async def sign(self) -> None:
        """Return when the dispatcher has made a round, or waits for the store, which has a sign."""
        if not self._storing:
            self._wake.set()
            await self._round.wait()

    def _give_sign(self) -> None:
        made, self._round = self._round, asyncio.Event()
        made.set()

    def restart(self) -> None:
        """Restart the loop; the jobs that it had in hand are read anew from the store."""
        self._running.cancel()
        stuck_with, self._in_hand = self._in_hand, None
        if stuck_with is not None:
            self._read_anew(stuck_with, TimeoutError("the dispatcher was stuck with it"))
        self.start()

    @property
    def n_jobs(self) -> int:
        """How many jobs of this gateway are unfinished."""
        return len(self._jobs)

    def n_jobs_of(self, owner: str) -> int:
        """Return how many jobs of an owner are unfinished at this gateway."""
        return sum(job.owner == owner for job in self._jobs.values())

    def job(self, job_id: str) -> Job | None:
        """Return an unfinished job of this gateway, for what is done about it; see `own`."""
        return self._jobs.get(job_id)

    async def own(self, job_id: str) -> Job | None:
        """Return an unfinished job that is this gateway's for sure, for whoever asks about it."""
        await self.be_sure()
        return self._jobs.get(job_id)

    def known(self, job_id: str) -> Job | None:
        """Return an unfinished job that is this gateway's for sure; None if the store knows."""
        return self._jobs.get(job_id) if self._is_sure() else None

    def _is_sure(self) -> bool:
        now = self._hub.clock.monotonic()
        return now < self.sure_until or now - self._sure_at < _SURE_FOR_S

    def is_read_anew(self, job_id: str) -> bool:
        """Whether a job is about to be read from the store; until then nothing is known of it."""
        return job_id in self._epochs and self._machine.job(job_id) is None

    async def add(
        self, job: Job, dataset: bytes | None, writes: list[Write], queued: NewEvent
    ) -> None:
        """Take a new job: when this returns, `writes` and its first assignments are on disk.

        Raises StoreError when the job can't be stored; then no part of it is.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.new_jobs[job.id] = NewJob(writes, queued, committed)
        self.result_cache.open(job)
        self.inputs.keep(job, dataset)
        try:
            self._take(job, _FIRST_EPOCH, self._plan(job))
        except Exception:
            self._close(job.id)
            raise
        await committed

    async def adopt(self, *, starting: bool, limit: int | None = None) -> int:
        """Continue jobs from before a restart and those of dead gateways; returns how many."""
        epochs = await self._hub.store.change(
            leases.adopt, self.gateway_id, starting=starting, limit=limit
        )
        self._epochs.update(epochs)
        taken = list(epochs)
        for at in range(0, len(taken), BATCH):
            await self._continue_all(taken[at : at + BATCH], starting=starting)
        return len(epochs)

    async def _continue_all(self, job_ids: Sequence[str], *, starting: bool) -> None:
        left: dict[str, LeftJob] = {}
        try:
            left = await self._hub.store.read(left_jobs, job_ids)
        except PASSING_ERRORS as error:
            if starting:
                raise
            # They are this gateway's now, so nobody else continues them.
            for job_id in job_ids:
                self._mend_later(job_id, error)
            return
        except Exception:
            # One that can't be read does not keep the others from it.
            _LOGGER.warning("%d jobs are read one by one", len(job_ids), exc_info=True)
        for job_id in job_ids:
            try:
                await self._continue(job_id, left.get(job_id))
            except PASSING_ERRORS as error:
                if starting:
                    raise
                self._mend_later(job_id, error)
            # Each costs milliseconds, and the loop has others to serve.
            await asyncio.sleep(0)

    def epoch(self, job_id: str) -> int:
        """Return how many owners an unfinished job of this gateway has had, with this one."""
        return self._epochs.get(job_id, _FIRST_EPOCH)

    async def offer_to(self, gateway_id: str, job_ids: Sequence[str]) -> None:
        """Give jobs up, as if their lease had run out, so that another gateway adopts them.

        One of which something is about to be committed stays.
        """
        commits = [self._pending, *([] if self._in_hand is None else [self._in_hand])]
        busy = {job_id for each in commits for job_id in each.job_ids()} | self._faulty.keys()
        epochs = {each: self._epochs[each] for each in job_ids if each in self._epochs}
        idle = {job_id: epoch for job_id, epoch in epochs.items() if job_id not in busy}
        given = await self._hub.store.change(leases.offer, self.gateway_id, gateway_id, idle)
        for job_id in given:
            if self._epochs.get(job_id) == epochs[job_id]:
                _LOGGER.info("Job %s goes to gateway %s, which has workers", job_id, gateway_id)
                self._close(job_id)

    async def be_sure(self) -> None:
        """Let go of jobs that another gateway took over, if the lease may have run out.

        Whoever was frozen would else tell of them what it remembers. While the store is away this
        raises StoreAwayError: nobody shall wait for what only the store can bring.
        """
        self._hub.store.refuse_if_away()
        if not self._is_sure():
            await self.let_go_of_lost()

    async def let_go_of_lost(self) -> None:
        """Ask the store which jobs are this gateway's, and let go of the others."""
        began = self._hub.clock.monotonic()
        commits = [self._pending, *([] if self._in_hand is None else [self._in_hand])]
        new = {job_id for each in commits for job_id in each.new_jobs} | self._unsure.keys()
        remembered = {each: epoch for each, epoch in self._epochs.items() if each not in new}
        owned = await self._hub.store.read(leases.owned, self.gateway_id)
        for job_id, epoch in remembered.items():
            if owned.get(job_id) != epoch and self._epochs.get(job_id) == epoch:
                _LOGGER.warning("Job %s was taken over by another gateway, or ended", job_id)
                self._close(job_id)
        self._sure_at = began

    async def _continue(self, job_id: str, left: LeftJob | None = None) -> None:
        """Take a job as it is in the store; one that makes this fail twice is failed."""
        try:
            if left is None:
                left = await self._hub.store.read(left_job, job_id)
            job, cutting = left.job, left.cutting
            plan = dataclasses.replace(
                self._plan(job), cut=cutting, shards=tuple(left.shards),
                assignments=tuple(left.assignments),
                votes=votes_of(left.unconfirmed, self._trust.owner),
                # A result may come before its node has reconnected.
                voters={
                    each.node_id: self._trust.owner(each.node_id) for each, _ in left.assignments
                },
            )  # fmt: skip
            if job.state.finished:
                self._close(job_id)
                return
            self._take(job, self._epochs[job_id], plan)
        except PASSING_ERRORS:
            raise
        except Exception as error:
            self._fault(job_id, error)
        else:
            _LOGGER.info(
                "Continuing job %s: %d of %d items are done",
                job_id, cutting.n_done_items, job.n_items,
            )  # fmt: skip

    def node_changed(self, change: NodeChange) -> None:
        """Take a new or changed node."""
        self._gather(self._handle(change, None))

    def node_lost(self, node_id: str, reason: str) -> None:
        """Give a disconnected node's work to others."""
        self._keep_speeds(node_id)
        self._gather(self._handle(NodeLost(node_id, f"the node was lost: {reason}"), None))

    def standing_changed(self, node_id: str, standing: Standing) -> None:
        """Take over the standing of a node about which another gateway learned more."""
        event = StandingChanged(node_id, standing.agreements, standing.contradictions)
        self._gather(self._handle(event, None))

    def accepted(self, assignment_id: str) -> None:
        """Note that a node has an assignment; nothing depends on it, so the commit may wait."""
        self._pending.outcome.add(self._handle(Accepted(assignment_id), job_of(assignment_id)))

    def rejected(self, assignment_id: str, reason: str, lacks: frozenset[str]) -> None:
        """Give a shard that a node refused, perhaps because it `lacks` features, to another."""
        event = Rejected(assignment_id, reason, lacks)
        self._gather(self._handle(event, job_of(assignment_id)))

    def failed(self, assignment_id: str, text: str, wall_s: float | None = None) -> None:
        """Count a failure of an assignment, which took `wall_s` seconds if its node told so."""
        self._gather(self._handle(Failed(assignment_id, text, wall_s), job_of(assignment_id)))

    def finished(
        self, node_id: str, result: Result, row: Write | None, receipt: Receipt | None
    ) -> bool:
        """Count a result, or compare it with others; returns whether it is stored with a commit.

        `row` names its blob if it is large; a `receipt` is stored in the same commit.
        """
        event = Finished(result.assignment_id, result.wall_s, result.sha)
        outcome = self._handle(event, job_of(result.assignment_id))
        if self._hub.clock.monotonic() >= self._keep_at.get(node_id, 0.0):
            self._keep_speeds(node_id)
        shard = outcome.counted or outcome.awaiting
        if shard is None:
            return False
        counted = outcome.counted is not None
        given = rows.given(shard, node_id, result, receipt, counted=counted)
        self._pending.add_result(given, receipt)
        if row is not None:
            self._pending.writes.append(row)
        if outcome.judged:
            self._pending.writes.append(self._trust.judge(outcome.judged))
        if given.counted:
            self.result_cache.add(given)
        ended = any(isinstance(each, JobEnded) for each in outcome.transitions)
        if ended or self._machine.has_work():
            self._gather(outcome)
        else:
            self._keep_quarantines(outcome)
            # Nobody waits for this result; it may share a commit with the next ones.
            self._pending.outcome.add(outcome)
            self._wake_within(_RESULT_WITHIN_S)
        return True

    def acknowledge(self, node_id: str, assignment_id: str) -> None:
        """Tell a node that its result is on disk, or unwanted, once that is committed."""
        self._pending.acks[node_id].append(assignment_id)
        self._wake_within(_RESULT_WITHIN_S)

    def event(self, event: NewEvent) -> None:
        """Store an event with the next commit."""
        self._pending.events.append(event)
        self._wake.set()

    def keep(self, writes: list[Write]) -> None:
        """Store rows that are not urgent with the next commit, or in a moment."""
        self._pending.writes += writes
        self._wake_within(_KEEP_WITHIN_S)

    def add_to_next_commit(self, writes: list[Write]) -> None:
        """Store rows with the next commit, whenever that is."""
        self._pending.writes += writes

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; returns whether it was unfinished and belonged to this gateway."""
        if job_id not in self._jobs:
            return False
        entry = self._machine.job(job_id)
        if entry is not None and entry.ended:
            self._reductions.cancel(job_id)
        else:
            self._gather(self._handle(JobCancelled(job_id), job_id))
        return True

    def change(
        self, job_id: str, change: JobChange, asked: str | None = None
    ) -> "asyncio.Future[None] | None":
        """Give an unfinished job of this gateway other values; None if there is no such job.

        They hold at once; what this returns is done when they are on disk. `asked` is the request
        of another gateway that this answers.
        """
        job = self._jobs.get(job_id)
        if job is None:
            return None
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.is_read_anew(job_id):
            committed.set_exception(_again(job_id))
            return committed
        job = self._jobs[job_id] = dataclasses.replace(job, spec=change.applied_to(job.spec))
        writes = [jobs.change(job_id, job.spec)]
        if asked is not None:
            writes.append(leases.answer_change(job_id, asked))
        data = {"job_id": job_id, **change.to_json()}
        told = NewEvent(EventType.JOB_CHANGED, data, job_id)
        self._pending.changes[job_id].append(ChangedJob(writes, told, committed))
        plan = self._plan(job)
        event = JobChanged(job_id, plan.priority, plan.deadline_in_s)
        self._gather(self._handle(event, job_id))
        return committed

    def _assignments_on(self, node_id: str) -> list[str]:
        """Return the ids of the assignments that a connected node holds."""
        node = self._machine.node(node_id)
        return [] if node is None else [each.id for each in node.held()]

    async def prepare_input(self, assignment_id: str) -> None:
        """Make `inputs` know the hash of an assignment's input; raises StoreError, OSError."""
        assignment = self._machine.assignment(assignment_id)
        job = self._jobs.get(job_of(assignment_id))
        if assignment is not None and job is not None:
            shard = assignment.shard
            await self.inputs.prepare(job, assignment_id, shard.first_item, shard.n_items)

    def _plan(self, job: Job) -> JobPlan:
        return plan_of(job, self._hub.clock.time(), self._secret)

    def _take(self, job: Job, epoch: int, plan: JobPlan) -> None:
        self._jobs[job.id] = job
        self._epochs[job.id] = epoch
        event = JobAdded(plan, _RECONNECT_S)
        self._gather(self._machine.handle(event, self._hub.clock.monotonic()))

    def _handle(self, event: Event, job_id: str | None) -> Outcome:
        """Return what follows from an event of a job, None for one that is not only of one job."""
        try:
            return self._machine.handle(event, self._hub.clock.monotonic())
        except Exception as error:
            self._fault(job_id, error)
            return Outcome()

    def _fault(self, job_id: str | None, error: Exception, *, counts: bool = True) -> None:
        """Take a job off the scheduler that made it fail; it is read anew from the store.

        At the second fault that `counts` it is failed for good, so that no job ever stops the
        others.
        """
        _LOGGER.error(
            "Handling %s failed", f"job {job_id}" if job_id else "an event", exc_info=error
        )
        if job_id is None or job_id not in self._epochs:
            return
        if (new := self._pending.new_jobs.get(job_id)) is not None:
            self._close(job_id)
            if not new.committed.done():
                new.committed.set_exception(error)
            return
        self._faults[job_id] += counts
        self._faulty[job_id] = error
        self._wake.set()
        self._drop(job_id)

    def _read_anew(self, commit: PendingCommit, error: Exception) -> None:
        """Have each job of a commit that was not carried out to its end read from the store.

        It counts against the one that was at work, or that was alone.
        """
        self._unsure.update(commit.new_jobs)
        commit.tell_changes(error)
        job_ids, at_work = commit.job_ids(), self._sending
        self._sending = None
        for job_id in job_ids:
            self._fault(job_id, error, counts=job_id == at_work or len(job_ids) == 1)

    async def _mend(self) -> None:
        """Continue the jobs that made the scheduler fail from the store, or fail them for good.

        Between two commits the store has everything that was acknowledged.
        """
        faulty, self._faulty = self._faulty, {}
        for job_id, error in faulty.items():
            try:
                await self._mend_one(job_id, error)
            except PASSING_ERRORS as passing:
                _LOGGER.warning("Job %s can't be read for now: %s", job_id, passing)
                self._mend_later(job_id, error)
            except Exception:
                # Neither can it be failed: the next start finds it as it is in the store.
                _LOGGER.exception("Job %s is left alone", job_id)
                self._close(job_id)

    def _mend_later(self, job_id: str, error: Exception) -> None:
        self._faulty[job_id] = error
        self._wake_within(_MEND_AGAIN_S)

    async def _mend_one(self, job_id: str, error: Exception) -> None:
        if job_id not in self._epochs:
            return
        self._drop(job_id)
        new = self._unsure.pop(job_id, None)
        if new is not None and not new.committed.done():
            if await self._hub.store.read(jobs.get, job_id) is None:
                self._close(job_id)
                new.committed.set_exception(error)
                return
            new.committed.set_result(None)
        if self._faults[job_id] < _FAULTS_MAX:
            await self._continue(job_id)
            return
        await self._park(job_id, error)
        self._close(job_id)

    async def _park(self, job_id: str, error: Exception) -> None:
        now = self._hub.clock.time()
        cutting = await self._hub.store.read(recovery.cutting_of, job_id)
        finish = endings.internal(job_id, error, cutting, now)
        rows = [*jobs.abandon(job_id, "the job is failed", now), jobs.finish([finish])]
        await self._hub.store.commit_when_possible(
            rows, [endings.ended(finish)], self._fence({job_id})
        )

    def _gather(self, outcome: Outcome) -> None:
        if outcome.strategy_fault is not None:
            _LOGGER.error("The strategy failed, adaptive took over: %s", outcome.strategy_fault)
        self._keep_quarantines(outcome)
        for job_id, error in outcome.faults:
            self._fault(job_id, error)
        # What the faults of this outcome left of it.
        faulty = {job_id for job_id, _ in outcome.faults}
        self._pending.outcome.add(
            outcome.of(lambda job_id: job_id not in faulty) if faulty else outcome
        )
        self._wake.set()

    def _keep_quarantines(self, outcome: Outcome) -> None:
        for node_id, program in outcome.quarantined:
            _LOGGER.warning("%s gets no work of module %s for a while", node_id, program[:12])
            if (node := self._machine.node(node_id)) is not None:
                kept = node.quarantines(self._hub.clock.monotonic())
                self._pending.writes.append(self._trust.quarantined(node_id, kept))

    def _keep_speeds(self, node_id: str) -> None:
        """Have the speeds of a node survive its absence, and this gateway's."""
        if (node := self._machine.node(node_id)) is not None and node.speeds:
            self._keep_at[node_id] = self._hub.clock.monotonic() + _KEEP_SPEEDS_EVERY_S
            self._pending.writes.append(self._trust.measured(node_id, node.speeds.values()))

    def _wake_within(self, delay_s: float) -> None:
        """Commit what is pending after this time at most; what commits before takes it along."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + delay_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay_s, self._wake.set)

    def _take_pending(self) -> PendingCommit:
        if self._timer is not None:
            # What comes after this has its own time to wait.
            self._timer.cancel()
            self._timer = None
        self._wake.clear()
        commit, self._pending = self._pending, PendingCommit()
        return commit

    async def _run(self) -> None:
        while True:
            await self._wait()
            self._gather(self._handle(TimePassed(), None))
            apart(_LOGGER, "Giving out work", self._give_out)
            if commit := self._take_pending():
                self._in_hand = commit
                try:
                    await self._store_and_send(commit)
                except Exception as error:
                    # What of it is in the store is unknown.
                    self._read_anew(commit, error)
                self._in_hand = None
            self._give_sign()
            if self._faulty:
                await self._mend()

    def _give_out(self) -> None:
        self._gather(self._machine.plan(self._hub.clock.monotonic()))

    async def _wait(self) -> None:
        deadline = self._machine.next_deadline()
        timeout_s = None if deadline is None else deadline - self._hub.clock.monotonic()
        await within(timeout_s, self._wake.wait())

    async def _store_and_send(self, commit: PendingCommit) -> None:
        """Commit, however long it takes, then send; what can't be stored is split by job."""
        try:
            await self._commit(commit)
        except StoreFencedError as error:
            for job_id in error.job_ids:
                _LOGGER.warning("Job %s was taken over by another gateway", job_id)
                self._close(job_id)
            commit.tell_changes(error, error.job_ids)
            await self._store_and_send(commit.without(error.job_ids))
        except StoreFullError as error:
            # Acknowledged jobs wait for space; new ones are refused.
            for job_id in commit.new_jobs:
                self._give_up(job_id, commit, error)
            await self._store_and_send(commit.without(frozenset(commit.new_jobs)))
        except Exception as error:
            await self._store_apart(commit, error)
        else:
            await self._carry_out(commit)

    async def _store_apart(self, commit: PendingCommit, error: Exception) -> None:
        """Store each job by itself, so that only one that can't be stored is given up."""
        job_ids = sorted(commit.job_ids())
        rest = commit.without(frozenset(job_ids))
        if not job_ids:
            _LOGGER.error("%d rows of no job can't be stored: %s", len(rest.writes), error)
        elif len(job_ids) == 1 and not rest:
            self._give_up(job_ids[0], commit, error)
        else:
            _LOGGER.warning("A commit failed, trying its %d jobs alone: %s", len(job_ids), error)
            for part in (rest, *(commit.only(job_id.__eq__) for job_id in job_ids)):
                await self._store_and_send(part)

    async def _commit(self, commit: PendingCommit) -> None:
        now = self._hub.clock.time()
        finishes: list[Finish] = []
        to_fold: list[tuple[Job, Finish]] = []
        failed: dict[str, tuple[Job, Sequence[ItemsFailed | str]]] = {}
        for end in commit.ends():
            job = self._jobs[end.job_id]
            base = endings.unfolded(end, self._machine.job(job.id), now)
            if end.failures:
                failed[job.id] = job, end.failures
            if end.state is not JobState.COMPLETED:
                finishes.append(base)
            elif self.result_cache.is_whole(job.id, base.n_done_shards):
                finishes.append(self.result_cache.fold(job, base))
            else:
                to_fold.append((job, base))
        # A new job belongs to no other gateway yet.
        fence = self._fence(commit.job_ids() - commit.new_jobs.keys())
        if failed:
            # From here on a job may be dropped meanwhile.
            told = await asyncio.gather(*(self._failures.told(*each) for each in failed.values()))
            finishes = endings.with_failures(finishes, dict(zip(failed, told, strict=True)))
        writes = [*rows.writes(commit, now), jobs.finish(finishes)]
        events = rows.events(commit, finishes)
        self._storing = True
        self._give_sign()
        try:
            await self._hub.store.commit_when_possible(
                writes, events, fence, wait_for_space=not commit.new_jobs
            )
        finally:
            self._storing = False
        try:
            self._committed(commit, now, finishes, to_fold)
        except Exception as error:
            # It is in the store, and must not look as if it were not.
            self._read_anew(commit, error)

    def _committed(
        self,
        commit: PendingCommit,
        now: float,
        finishes: list[Finish],
        to_fold: list[tuple[Job, Finish]],
    ) -> None:
        """Do what may only follow a commit; a fault here must not make it look undone."""
        for new in commit.new_jobs.values():
            if not new.committed.done():
                new.committed.set_result(None)
        commit.tell_changes(None)
        for job_id in rows.started(commit.outcome):
            if (job := self._jobs.get(job_id)) is not None:
                self._jobs[job_id] = dataclasses.replace(
                    job, state=JobState.RUNNING, started_at=now
                )
                apart(_LOGGER, f"Telling who waits for job {job_id}", self._changed, job_id)
        for finish in finishes:
            job_id = finish.job_id
            apart(_LOGGER, f"Remembering job {job_id}", self._remember, finish)
            self._close(job_id)
        for job, base in to_fold:
            try:
                # Only now are the last results in the store.
                self._reductions.start(job, base, self._fence({job.id}))
            except Exception as error:
                self._fault(job.id, error)

    def _remember(self, finish: Finish) -> None:
        job, entry = self._jobs.get(finish.job_id), self._machine.job(finish.job_id)
        if job is not None and entry is not None:
            kept = self.result_cache.kept(finish.job_id)
            self.recent.remember(job, finish, kept, entry.n_attempts)

    def _fence(self, job_ids: set[str]) -> Fence:
        return Fence(self.gateway_id, {job_id: self._epochs[job_id] for job_id in job_ids})

    def _give_up(self, job_id: str, commit: PendingCommit, error: Exception) -> None:
        """Refuse a new job that can't be stored, and fail one that was stored before."""
        commit.tell_changes(error, (job_id,))
        if (new := commit.new_jobs.get(job_id)) is not None:
            self._close(job_id)
            if not new.committed.done():
                new.committed.set_exception(error)
            return
        if not isinstance(error, StoreError):
            self._fault(job_id, error)
            return
        _LOGGER.error("The state of job %s can't be stored: %s", job_id, error)
        entry = self._machine.job(job_id)
        if entry is not None and entry.ended:
            # The failure can't be stored either; the next start finds the job as it was.
            self._close(job_id)
        else:
            reason = f"its state can't be stored: {error}"
            self._gather(self._handle(JobAborted(job_id, reason), job_id))

    def _close(self, job_id: str) -> None:
        if self._epochs.pop(job_id, None) is None:
            return
        self._jobs.pop(job_id, None)
        self._faults.pop(job_id, None)
        apart(_LOGGER, f"Dropping job {job_id}", self._drop, job_id)
        apart(_LOGGER, f"Telling who waits for job {job_id}", self._changed, job_id)

    def _drop(self, job_id: str) -> None:
        """Forget what is not in the store of a job; each part is forgotten, whatever the others do.

        There may be more to store for a job that was taken over; that is up to its new gateway.
        """
        self._pending.tell_changes(_again(job_id), (job_id,))
        self._pending = self._pending.without(frozenset((job_id,)))
        for forget in (
            self._progress.forget, self._machine.forget, self.result_cache.close,
            self._reductions.forget, self.inputs.close,
        ):  # fmt: skip
            apart(_LOGGER, f"Forgetting job {job_id}", forget, job_id)

    async def _carry_out(self, commit: PendingCommit) -> None:
        instructions = commit.outcome.instructions
        withdrawn = [each for each in instructions if isinstance(each, Withdraw)]
        preempted = [each for each in instructions if isinstance(each, Preempt)]
        # A node that is not told sends its result, or an ACK, again.
        apart(_LOGGER, "Acknowledging results", self._sender.acknowledge, commit.acks)
        apart(_LOGGER, "Withdrawing assignments", self._sender.withdraw, withdrawn)
        apart(_LOGGER, "Having assignments give way", self._sender.preempt, preempted)
        for job_id, group in sends_by_job(instructions).items():
            if (job := self._jobs.get(job_id)) is not None:
                self._sending = job_id
                try:
                    await self._sender.send(job, group)
                except PASSING_ERRORS as error:
                    # Not the job's fault: assignments that were not sent run into their deadlines.
                    _LOGGER.error("The data of job %s can't be read for now: %s", job_id, error)
                except (StoreError, OSError) as error:
                    _LOGGER.error("The data of job %s can't be read: %s", job_id, error)
                    reason = f"its data can't be read: {error}"
                    self._gather(self._handle(JobAborted(job_id, reason), job_id))
                except Exception as error:
                    self._fault(job_id, error)
        self._sending = None
        for job_id in {result.job_id for result in commit.results}:
            told = self._machine.job(job_id)
            apart(_LOGGER, f"Telling the progress of job {job_id}", self._progress.tell, told)


def _again(job_id: str) -> StoreError:
    return StoreBusyError(f"job {job_id} is being read anew from the store")
