"""From events to effects: the state machine decides, the store commits, then the mesh sends.

Events change the state machine at once; what follows from them gathers while the last commit
is on its way to the disk, so that many shards share one transaction and one envelope.
"""

import asyncio
import dataclasses
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from swarm_hub.components.gateway import records
from swarm_hub.components.gateway.courier import Courier
from swarm_hub.components.gateway.inputs import Inputs
from swarm_hub.components.gateway.ledger import Ledger
from swarm_hub.components.gateway.reduce import ReduceError
from swarm_hub.components.mesh import Mesh
from swarm_hub.components.scheduler import (
    JobEnded,
    JobPlan,
    NodeChange,
    Outcome,
    Send,
    StateMachine,
    Withdraw,
)
from swarm_hub.components.signer import Batch, SignedPost
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, StoreError
from swarm_hub.models import messages
from swarm_hub.models.event import EphemeralEvent, NewEvent
from swarm_hub.models.job import Job, JobState
from swarm_hub.models.messages import Result
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage import Write, jobs
from swarm_hub.storage.jobs import Finish
from swarm_hub.util.hashing import sha256_hex

_LOGGER = logging.getLogger(__name__)

# After a restart the nodes of assignments in flight have this long to come back.
_RECONNECT_S: Final = 15.0
_OK: Final = "ok"
_SHARD_MAX_BYTES: Final = 16 * 1024 * 1024
_STORE_RETRY_S: Final = 0.5
_RESULT_WITHIN_S: Final = 0.004
_KEEP_WITHIN_S: Final = 0.5
_PROGRESS_EVERY_S: Final = 0.25


@dataclass(slots=True)
class _Gathered:
    """What will commit next and what may happen only after that."""

    outcome: Outcome = field(default_factory=Outcome)
    results: list[ShardResult] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    acks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    committed: list[asyncio.Future[None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.outcome or self.results or self.writes or self.events or self.acks)


class Dispatcher:
    """Runs the unfinished jobs of this gateway."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        post: SignedPost,
        machine: StateMachine,
        changed: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._machine = machine
        self._changed = changed
        self._jobs: dict[str, Job] = {}
        self._gathered = _Gathered()
        self._wake = asyncio.Event()
        self._progress_at: dict[str, float] = {}
        self.inputs = Inputs(hub)
        self._courier = Courier(post, self.inputs)
        self.ledger = Ledger(hub)
        post.on((messages.ACK, messages.NACK, messages.RESULT), self._on_batch)
        mesh.serve_blobs(self._serve)

    def start(self) -> None:
        """Begin to dispatch; recovered jobs should be added before."""
        self._hub.tasks.supervise(self._run, "dispatcher")

    def job(self, job_id: str) -> Job | None:
        """Return an unfinished job."""
        return self._jobs.get(job_id)

    async def add(self, job: Job, dataset: bytes, writes: list[Write], queued: NewEvent) -> None:
        """Take a new job: when this returns `writes` are on disk, with its first assignments."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.writes += writes
        self._gathered.events.append(queued)
        self._gathered.committed.append(committed)
        self.ledger.open(job.id)
        self.inputs.keep(job, dataset)
        self._take(job, _plan(job))
        await committed

    async def recover(self) -> None:
        """Continue the jobs that the last life of this gateway left unfinished."""
        for job in await self._hub.store.read(jobs.unfinished):
            shards = tuple(await self._hub.store.read(jobs.shards_of, job.id))
            held = tuple(await self._hub.store.read(jobs.assignments_of, job.id))
            plan = _plan(job)
            self._take(
                job,
                JobPlan(
                    plan.job_id, plan.module_sha, plan.n_items, plan.shard_size, plan.max_items,
                    plan.priority, shards, held,
                ),
            )  # fmt: skip
            _LOGGER.info("Continuing job %s with %d shards", job.id, len(shards))

    def node_changed(self, change: NodeChange) -> None:
        """Take a new or changed node."""
        again = self._machine.node_changed(change, self._hub.clock.monotonic())
        self._gathered.outcome.instructions += again
        self._wake.set()

    def node_lost(self, node_id: str, reason: str) -> None:
        """Give the work of a lost node to others."""
        self._gather(self._machine.node_lost(node_id, f"the node was lost: {reason}"))

    def event(self, event: NewEvent) -> None:
        """Store an event with whatever commits next."""
        self._gathered.events.append(event)
        self._wake.set()

    def keep(self, writes: list[Write]) -> None:
        """Store rows that are not urgent with whatever commits next, or in a moment."""
        self._gathered.writes += writes
        self._wake_within(_KEEP_WITHIN_S)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; returns whether it was unfinished."""
        if job_id not in self._jobs:
            return False
        self._gather(self._machine.cancel(job_id))
        return True

    def _take(self, job: Job, plan: JobPlan) -> None:
        self._jobs[job.id] = job
        self._gather(self._machine.add_job(plan, self._hub.clock.monotonic(), _RECONNECT_S))

    def _gather(self, outcome: Outcome) -> None:
        self._gathered.outcome.add(outcome)
        self._wake.set()

    def _wake_within(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._wake.set)

    def _on_batch(self, batch: Batch) -> None:
        self._gathered.writes += batch.writes
        for fields in batch.of(messages.ACK):
            for held in messages.ids(fields):
                if self._is_assignee(batch.peer_id, held):
                    # Nothing follows from an ACK, so it waits for whatever commits next.
                    self._gathered.outcome.add(self._machine.accepted(held))
        for fields in batch.of(messages.NACK):
            reason = str(fields.get("reason", ""))[:500]
            for held in messages.ids(fields):
                if self._is_assignee(batch.peer_id, held):
                    _LOGGER.info("%s gave back %s: %s", batch.peer_id, held, reason)
                    now = self._hub.clock.monotonic()
                    self._gather(self._machine.rejected(held, reason, now))
        for fields in batch.of(messages.RESULT):
            result = Result.from_wire(fields)
            if result.body is None and self._is_assignee(batch.peer_id, result.assignment_id):
                self._hub.tasks.spawn(self._fetch_result(batch.peer_id, result), "fetch result")
            else:
                self._on_result(batch.peer_id, result, None)

    async def _fetch_result(self, peer_id: str, result: Result) -> None:
        try:
            body = await self._mesh.fetch(peer_id, result.sha, result.size_bytes)
        except MeshError as error:
            # The worker keeps it in its outbox and offers it again.
            _LOGGER.info("A result of %s did not arrive: %s", peer_id, error)
            return
        _, row = await self._hub.store.blobs.put(body, self._hub.clock.time())
        self._on_result(peer_id, result, row)

    def _on_result(self, peer_id: str, result: Result, row: Write | None) -> None:
        held = result.assignment_id
        if not self._is_assignee(peer_id, held):
            # Unknown here: its job ended or another result came first. It is heard, not counted.
            self._gathered.acks[peer_id].append(held)
            self._wake.set()
            return
        assignment = self._machine.assignment(held)
        assert assignment is not None
        expected = self.inputs.sha(held)
        if expected is not None and expected != result.input_sha:
            _LOGGER.warning("%s answered %s for another input; not counted", peer_id, held)
            self._gather(self._machine.failed(held, "the result is of another input"))
        elif result.code != _OK:
            self._gather(self._machine.failed(held, f"{result.code}: {result.text}"))
        elif result.body is not None and sha256_hex(result.body) != result.sha:
            self._gather(self._machine.failed(held, "the result is not what was signed"))
        else:
            self._count(peer_id, result, row)
        self.inputs.drop(held)
        self._gathered.acks[peer_id].append(held)

    def _count(self, peer_id: str, result: Result, row: Write | None) -> None:
        outcome = self._machine.finished(result.assignment_id, result.wall_s)
        shard = outcome.counted
        assert shard is not None
        counted = ShardResult(
            result.assignment_id, shard.job_id, shard.index, shard.first_item, shard.n_items,
            peer_id, result.sha, result.size_bytes, result.body, result.wall_s, result.cpu_s,
        )  # fmt: skip
        self._gathered.results.append(counted)
        if row is not None:
            self._gathered.writes.append(row)
        self.ledger.add(counted)
        if _ends(outcome) or self._machine.has_work():
            self._gather(outcome)
        else:
            # Nobody waits for this one; it may share a commit with the next results.
            self._gathered.outcome.add(outcome)
            self._wake_within(_RESULT_WITHIN_S)

    def _is_assignee(self, peer_id: str, held: str) -> bool:
        assignment = self._machine.assignment(held)
        if assignment is None:
            return False
        if assignment.node_id != peer_id:
            _LOGGER.warning("%s spoke for an assignment of %s", peer_id, assignment.node_id)
            return False
        return True

    async def _run(self) -> None:
        while True:
            await self._wait()
            now = self._hub.clock.monotonic()
            self._gather(self._machine.expire(now))
            self._gather(self._machine.plan(now))
            gathered, self._gathered = self._gathered, _Gathered()
            self._wake.clear()
            if gathered:
                await self._commit(gathered)
                await self._carry_out(gathered)

    async def _wait(self) -> None:
        deadline = self._machine.next_deadline()
        timeout_s = None if deadline is None else deadline - self._hub.clock.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _commit(self, gathered: _Gathered) -> None:
        now = self._hub.clock.time()
        writes = [*gathered.writes, *records.writes(gathered.outcome, gathered.results, now)]
        finishes: list[Finish] = []
        to_fold: list[tuple[Job, Finish]] = []
        for end in _ends(gathered.outcome):
            job, base = self._jobs[end.job_id], self._base(end, now)
            if end.state is not JobState.COMPLETED:
                finishes.append(base)
            elif self.ledger.is_whole(job.id, base.n_shards):
                finishes.append(self._folded(job, base))
            else:
                to_fold.append((job, base))
        writes.append(jobs.finish(finishes))
        events = [
            *gathered.events,
            *records.events(gathered.outcome, gathered.results),
            *(records.ended(finish) for finish in finishes),
        ]
        await self._store(writes, events)
        for job_id in records.started(gathered.outcome):
            self._jobs[job_id] = dataclasses.replace(
                self._jobs[job_id], state=JobState.RUNNING, started_at=now
            )
            self._changed(job_id)
        for waiting in gathered.committed:
            if not waiting.done():
                waiting.set_result(None)
        for finish in finishes:
            self._close(finish)
        for job, base in to_fold:
            # Only now are the last results in the store.
            self._hub.tasks.spawn(self._fold_stored(job, base), f"fold {job.id}")

    async def _store(self, writes: list[Write], events: list[NewEvent]) -> None:
        """Commit, however long it takes: nothing was acknowledged or sent yet."""
        while True:
            try:
                await self._hub.store.commit(writes, events)
                return
            except StoreError:
                _LOGGER.exception("Can't store %d changes; trying again", len(writes))
                await asyncio.sleep(_STORE_RETRY_S)

    def _base(self, end: JobEnded, now: float) -> Finish:
        entry = self._machine.job(end.job_id)
        assert entry is not None
        return Finish(
            end.job_id, end.state, now, end.failures, None, None, None,
            len(entry.shards), entry.n_retries,
        )  # fmt: skip

    def _folded(self, job: Job, base: Finish) -> Finish:
        try:
            return self.ledger.fold(job, base)
        except ReduceError as error:
            return records.fold_failed(base, error)

    async def _fold_stored(self, job: Job, base: Finish) -> None:
        """Finish a job whose results are too many or too large to be kept in memory."""
        try:
            finish, writes = await self.ledger.fold_stored(job, base)
        except (ReduceError, StoreError) as error:
            finish, writes = records.fold_failed(base, error), []
        await self._store([*writes, jobs.finish([finish])], [records.ended(finish)])
        self._close(finish)

    def _close(self, finish: Finish) -> None:
        del self._jobs[finish.job_id]
        self._progress_at.pop(finish.job_id, None)
        self._machine.forget(finish.job_id)
        self.ledger.close(finish.job_id)
        self.inputs.close(finish.job_id)
        self._changed(finish.job_id)

    async def _carry_out(self, gathered: _Gathered) -> None:
        self._courier.acknowledge(gathered.acks)
        self._courier.withdraw(
            each for each in gathered.outcome.instructions if isinstance(each, Withdraw)
        )
        sends: dict[str, list[Send]] = defaultdict(list)
        for instruction in gathered.outcome.instructions:
            if isinstance(instruction, Send):
                sends[instruction.assignment.job_id].append(instruction)
        for job_id, group in sends.items():
            if (job := self._jobs.get(job_id)) is not None:
                try:
                    await self._courier.send(job, group)
                except (StoreError, OSError) as error:
                    _LOGGER.exception("The data of job %s can't be read", job_id)
                    self._gather(self._machine.abort(job_id, f"its data can't be read: {error}"))
        self._tell_progress({result.job_id for result in gathered.results})

    def _tell_progress(self, job_ids: set[str]) -> None:
        now = self._hub.clock.monotonic()
        for job_id in job_ids:
            entry = self._machine.job(job_id)
            if entry is None or now - self._progress_at.get(job_id, 0.0) < _PROGRESS_EVERY_S:
                continue
            self._progress_at[job_id] = now
            progress = {
                "job_id": job_id,
                "items_done": entry.n_done_items,
                "items": entry.plan.n_items,
                "shards_done": entry.n_done_shards,
                "retries": entry.n_retries,
            }
            self._hub.bus.fire(EphemeralEvent("job_progress", progress))

    async def _serve(self, _peer_id: str, sha: str) -> bytes | None:
        """Give a worker a module or a shard's input by its hash."""
        if (data := await self.inputs.by_sha(sha)) is not None:
            return data
        if any(job.module_sha == sha for job in self._jobs.values()):
            return await self._hub.store.blobs.get(sha)
        return None


def _ends(outcome: Outcome) -> list[JobEnded]:
    return [each for each in outcome.transitions if isinstance(each, JobEnded)]


def _plan(job: Job) -> JobPlan:
    per_item = max(1, job.dataset_bytes // job.n_items)
    return JobPlan(
        job.id,
        job.module_sha,
        job.n_items,
        job.spec.shard_size,
        max(1, _SHARD_MAX_BYTES // per_item),
        job.spec.priority,
    )
