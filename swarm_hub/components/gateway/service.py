"""What clients ask about jobs: their state, results, shards, receipts and history.

It is long because all that is asked comes through it; each answer is short.
"""

import asyncio
import dataclasses
import json
import mmap
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.results.failures import Failures
from swarm_hub.components.gateway.results.notes import note
from swarm_hub.components.gateway.results.partial import PartialResults, why_no_result
from swarm_hub.components.gateway.results.receipts import ReceiptRule, described, why_none
from swarm_hub.components.gateway.results.reduce import (
    ReduceError,
    gives_json,
    is_numeric,
    media_type,
    number,
    spelled_out,
    total,
)
from swarm_hub.components.gateway.shapes import (
    Attempt,
    CancelledJob,
    FailureShape,
    JobStatus,
    JobSummary,
    Receipts,
    RuntimeFields,
    ShardDetails,
)
from swarm_hub.components.gateway.submission.chosen_items import RUNS_MAX, Run, joined
from swarm_hub.components.gateway.submission.intake import Intake
from swarm_hub.components.gateway.submission.module_call import module_call
from swarm_hub.components.gateway.watchers import JobWatchers
from swarm_hub.components.sandbox import ModuleReport
from swarm_hub.components.scheduler import StateMachine
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    Busy,
    Conflict,
    Gone,
    InvalidInput,
    Lost,
    MalformedRequest,
    NotFound,
    RequestError,
    StoreError,
)
from swarm_hub.models.event import DurableEvent
from swarm_hub.models.job import Job, JobState
from swarm_hub.models.job_change import JobChange
from swarm_hub.models.shard import Cutting, ShardResult, ShardState
from swarm_hub.models.submission import Submission, Submitted
from swarm_hub.storage.queries import (
    events,
    jobs,
    leases,
    listing,
    overview,
    receipts,
    recovery,
    shard_results,
)
from swarm_hub.storage.queries.listing import JobFilter
from swarm_hub.util.clock import isoformat
from swarm_hub.util.within import within

_BREAKDOWN_MAX: Final = 1000
# A larger result is only linked from the status.
_SHOWN_MAX_BYTES: Final = 1024 * 1024
# How long a cancellation waits for the gateway that owns the job.
_CANCELLED_MAX: Final = 1024
_OWNER_WITHIN_S: Final = 10.0
_FAILURES_A_PAGE: Final = 500
# How long a change waits for the disk.
_COMMIT_WITHIN_S: Final = 20.0
_LOOK_AGAIN_S: Final = 0.5
_RETRY_AFTER_S: Final = 2
# The words that the original Swarm Runtime uses for our states.
_STATUS: Final = {
    JobState.QUEUED: "awaiting_telemetry",
    JobState.RUNNING: "partial",
}


@dataclass(frozen=True, slots=True)
class Result:
    """The bytes of a result, to be entered, and of how many of the job's items they are."""

    media_type: str
    reading: AbstractAsyncContextManager[bytes | mmap.mmap]
    n_done_items: int
    n_items: int
    ended_at: str


class JobService:
    """Answers questions about jobs, whether unfinished, finished or pruned."""

    def __init__(
        self,
        hub: Hub,
        receipts: ReceiptRule,
        watchers: JobWatchers,
        intake: Intake,
        dispatcher: Dispatcher,
        machine: StateMachine,
        partial_results: PartialResults,
        failures: Failures,
    ) -> None:
        self._hub = hub
        self._receipts = receipts
        self._watchers = watchers
        self._intake = intake
        self._dispatcher = dispatcher
        self._machine = machine
        self._partial_results = partial_results
        self._failures = failures
        # Who cancelled what; the log takes it from here.
        self.cancelled_by: dict[str, str] = {}
        if hub.store.shared:
            hub.bus.listen(DurableEvent, self._on_event)
            hub.store.follow_while(
                lambda: any(dispatcher.job(job_id) is None for job_id in watchers.job_ids())
            )

    @property
    def gateway_id(self) -> str:
        """The peer id of this gateway, by which others on its store know it."""
        return self._dispatcher.gateway_id

    @property
    def module_bytes_max(self) -> int:
        """How large a module may be, in bytes."""
        return self._intake.module_bytes_max

    async def submit(self, submission: Submission) -> Submitted:
        """Check and store a job; raises RequestError."""
        return await self._intake.submit(submission)

    async def inspect(self, module: bytes) -> tuple[str, ModuleReport]:
        """Return a module's hash and what it exports and needs; raises RequestError."""
        return await self._intake.inspect(module)

    def _on_event(self, event: DurableEvent) -> None:
        """Wake those who wait for another gateway's job; for our own the dispatcher does so."""
        job_id = event.job_id
        if job_id is None or not self._watchers.watched(job_id):
            return
        if self._dispatcher.job(job_id) is None:
            self._watchers.job_changed(job_id)

    async def status(self, job_id: str, wait_s: float) -> JobStatus:
        """Return a job's status; `wait_s` holds the answer until the state changes or is final."""
        if wait_s > 0:
            with self._watchers.watching(job_id) as changed:
                if await self._is_open(job_id):
                    await within(wait_s, changed.wait())
        return await self._described(job_id)

    async def ended(self, job_id: str, wait_s: float) -> JobStatus:
        """Return a job's status once it has ended, or after `wait_s`."""
        await self._until_ended(job_id, self._hub.clock.monotonic() + wait_s)
        return await self._described(job_id)

    async def _until_ended(self, job_id: str, give_up_at: float) -> None:
        while (left_s := give_up_at - self._hub.clock.monotonic()) > 0:
            with self._watchers.watching(job_id) as changed:
                if self._watchers.closed or not await self._is_open(job_id):
                    return
                await within(left_s, changed.wait())

    async def _is_open(self, job_id: str) -> bool:
        """Whether a job is unfinished, here or at another gateway of a shared store."""
        if await self._dispatcher.own(job_id) is not None:
            return True
        store = self._hub.store
        if not store.shared or self._dispatcher.recent.get(job_id) is not None:
            return False
        return await store.read(leases.owner, job_id) is not None

    async def check_owner(self, job_id: str, owner: str) -> None:
        """Raise NotFound for a job of another owner, as if there were none of that id."""
        found = (await self.owners((job_id,))).get(job_id)
        if found is not None and found != owner:
            raise NotFound("not_found", f"there is no job {job_id}")

    async def owners(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return the owners of jobs by id; those of unknown ones are left out."""
        known = {each: job.owner for each in job_ids if (job := self._dispatcher.known(each))}
        rest = [job_id for job_id in job_ids if job_id not in known]
        if rest:
            known |= await self._hub.store.read(jobs.owners_of, rest)
        return known

    async def page(
        self, wanted: JobFilter, before: str | None, limit: int
    ) -> tuple[list[JobSummary], str | None]:
        """Return a page of jobs, newest first, and what the next page is before."""
        await self._dispatcher.be_sure()
        found, cursor = await self._hub.store.read(listing.page, wanted, before, limit)
        return [self._summary(job, await self._cutting(job)) for job in found], cursor

    async def change(self, job_id: str, change: JobChange) -> JobStatus:
        """Give an unfinished job other values; returns its status once that is durable.

        Raises Conflict for one that has ended.
        """
        job = await self._dispatcher.own(job_id) or await self._job(job_id)
        deadline_s = change.values.get("deadline_s")
        if deadline_s is not None and job.created_at + deadline_s <= self._hub.clock.time():
            message = "that many seconds after the job was submitted are over already"
            raise InvalidInput.at("deadline_s", message)
        committed = self._dispatcher.change(job_id, change)
        if committed is not None:
            try:
                async with asyncio.timeout(_COMMIT_WITHIN_S):
                    await committed
            except (StoreError, TimeoutError) as error:
                told = f"whether job {job_id} was changed is not known; ask for it, or try again"
                raise Busy("busy", told, retry_after_s=_RETRY_AFTER_S) from error
        elif not await self._changed_by_its_owner(job_id, change):
            state = (await self._job(job_id)).state.value
            raise Conflict(
                "job_ended", f"job {job_id} is {state}; a job that has ended can't be changed"
            )
        return await self._described(job_id)

    async def _changed_by_its_owner(self, job_id: str, change: JobChange) -> bool:
        """Have the gateway that owns a job change it; returns whether the job was unfinished."""
        store = self._hub.store
        if not (
            store.shared and await store.change(leases.ask_to_change, job_id, change.to_json())
        ):
            return False
        await store.hint_request()
        give_up_at = self._hub.clock.monotonic() + _OWNER_WITHIN_S
        while (left_s := give_up_at - self._hub.clock.monotonic()) > 0:
            with self._watchers.watching(job_id) as changed:
                if not await store.read(leases.is_asked_to_change, job_id):
                    return True
                if not await self._is_open(job_id):
                    return False
                if self._watchers.closed:
                    break
                # This gateway may be the one that takes the job over, which wakes nobody.
                await within(min(left_s, _LOOK_AGAIN_S), changed.wait())
        raise Busy(
            "busy",
            f"the gateway of job {job_id} does not answer; it makes the change when it is back, or "
            "the one that takes the job over",
            retry_after_s=_RETRY_AFTER_S,
        )

    async def cancel_many(
        self, job_ids: Sequence[str], own: str | None, by: str
    ) -> list[CancelledJob]:
        """Cancel jobs, with `own` of this owner alone; returns what became of each.

        They are cancelled together, so this takes hardly longer than one.
        """
        await self._dispatcher.be_sure()
        store = self._hub.store
        owners = await self.owners(job_ids)
        seen = [each for each in job_ids if each in owners and own in (None, owners[each])]
        elsewhere = [each for each in seen if not self._cancel(each, by) and store.shared]
        if elsewhere:
            await store.change(leases.ask_to_cancel, elsewhere)
            await store.hint_request()
        give_up_at = self._hub.clock.monotonic() + _OWNER_WITHIN_S
        await asyncio.gather(*(self._until_ended(job_id, give_up_at) for job_id in seen))
        states = await store.read(jobs.states_of, seen)
        gone = await store.read(jobs.pruned_among, [each for each in job_ids if each not in owners])
        return [_cancelled(job_id, states.get(job_id), job_id in gone) for job_id in job_ids]

    async def resubmit(
        self,
        job_id: str,
        changes: Mapping[str, Any],
        items: str | list[Run] | None,
        caller: str,
        key: str | None,
    ) -> Submitted:
        """Submit a job, or some of its items, again with some values of its spec changed.

        Raises RequestError.
        """
        job = await self._job(job_id)
        spec = dataclasses.replace(job.spec, **changes)
        asked = [job_id, spec.to_json()] if items is None else [job_id, spec.to_json(), items]
        of = json.dumps(["resubmit", *asked], sort_keys=True)
        if items is None:
            return await self._intake.resubmit(job, spec, of, caller, key)

        async def find_runs() -> list[Run]:
            return joined(await self._failed_runs(job) if isinstance(items, str) else items)

        return await self._intake.resubmit(job, spec, of, caller, key, find_runs)

    async def _failed_runs(self, job: Job) -> list[Run]:
        """Return the items that failed and are not tried again; raises Conflict if none did."""
        found: list[Run] = []
        after = -1
        while len(found) <= RUNS_MAX:
            page = await self._failures.page(job, after, _FAILURES_A_PAGE)
            found += [
                (each["first_item"], each["n_items"])
                for each in page
                if each["state"] != "retrying"
            ]
            if len(page) < _FAILURES_A_PAGE:
                break
            after = page[-1]["first_item"]
        else:
            raise Conflict(
                "too_many_failures",
                f"more than {RUNS_MAX} runs of items of job {job.id} failed; submit it as a whole",
            )
        if not found:
            raise Conflict(
                "nothing_failed",
                f"no item of job {job.id} has failed so far; see: swarm-hub job failures {job.id}",
            )
        return found

    async def cancel(self, job_id: str, by: str) -> JobStatus:
        """Cancel a job; returns its status once that is durable. An ended job stays as it is.

        `by` is who wants it, for the log.
        """
        await self._dispatcher.be_sure()
        if not self._cancel(job_id, by) and await self._is_open(job_id):
            await self._hub.store.change(leases.ask_to_cancel, [job_id])
            await self._hub.store.hint_request()
        return await self.ended(job_id, _OWNER_WITHIN_S)

    def _cancel(self, job_id: str, by: str) -> bool:
        if not self._dispatcher.cancel(job_id):
            return False
        # The end follows with a later commit.
        self.cancelled_by[job_id] = by
        if len(self.cancelled_by) > _CANCELLED_MAX:
            del self.cancelled_by[next(iter(self.cancelled_by))]
        return True

    async def result(self, job_id: str, *, partial: bool = False) -> Result:
        """Return a job's result, and mark it as read.

        With `partial` also what was done of a job that failed or was cancelled. Raises NotFound,
        Gone, or Conflict for a job that has neither.
        """
        job = await self._job(job_id)
        if (why_not := why_no_result(job, partial)) is not None:
            raise Conflict("no_result", f"job {job_id} is {job.state.value}; {why_not}")
        if job.state is JobState.COMPLETED:
            self._mark_read(job)
            reading = self._reading(job)
        else:
            reading = self._reading_partial(job)
        assert job.finished_at is not None, "only what has ended has a result"
        return Result(
            media_type(job.spec.reduce), reading, job.n_done_items, job.n_items,
            isoformat(job.finished_at),
        )  # fmt: skip

    @asynccontextmanager
    async def _reading_partial(self, job: Job) -> AsyncIterator[bytes | mmap.mmap]:
        try:
            async with self._partial_results.folded(job) as body:
                self._mark_read(job)
                yield body
        except StoreError:
            # Its rows may have been removed while they were read.
            await self._job(job.id)
            raise

    @asynccontextmanager
    async def _reading(self, job: Job) -> AsyncIterator[bytes | mmap.mmap]:
        if job.result_inline is not None or job.result_sha is None:
            yield await self._result_body(job)
            return
        async with self._hub.store.blobs.reading(job.result_sha) as body:
            if body is None:
                raise _lost(job)
            yield body

    async def shards(
        self,
        job_id: str,
        states: frozenset[ShardState],
        node_id: str | None,
        after: int,
        limit: int,
    ) -> tuple[list[ShardDetails], int | None]:
        """Return a page of a job's shards with every attempt, and what the next page is after."""
        await self._job(job_id)
        found, cursor = await self._hub.store.read(
            listing.shards, job_id, states, node_id, after, limit
        )
        if not found:
            return [], cursor
        first_items = sorted({shard.first_item for shard in found})
        spent = await self._hub.store.read(shard_results.spent_on, job_id, first_items)
        indexes = [shard.index for shard in found]
        attempts: dict[int, list[Attempt]] = defaultdict(list)
        for tried in await self._hub.store.read(jobs.assignments_of, job_id, indexes):
            attempts[tried.assignment.index].append(
                {
                    "attempt": tried.assignment.attempt,
                    "node_id": tried.assignment.node_id,
                    "state": tried.assignment.state.value,
                    "reason": tried.reason,
                    "offered_at": isoformat(tried.offered_at),
                    "ended_at": None if tried.ended_at is None else isoformat(tried.ended_at),
                }
            )
        details: list[ShardDetails] = [
            {
                "index": shard.index,
                "state": shard.state.value,
                "first_item": shard.first_item,
                "n_items": shard.n_items,
                "attempts": attempts[shard.index],
                "result": spent.get(shard.index),
            }
            for shard in found
        ]
        return details, cursor

    async def has_ended(self, job_id: str) -> bool:
        """Whether a job has ended and all its events are in the store; raises NotFound or Gone."""
        ended = (await self._job(job_id)).state.finished
        if ended:
            await self._hub.store.catch_up()
        return ended

    async def ended_at(self, job_id: str) -> str | None:
        """Return when a job ended, None if it has not, or if there is none."""
        if await self._dispatcher.own(job_id) is not None:
            return None
        ended_at = await self._hub.store.read(jobs.ended_at, job_id)
        return None if ended_at is None else isoformat(ended_at)

    async def failures(self, job_id: str, after: int, limit: int) -> list[FailureShape]:
        """Return a page of the ranges of a job's items that failed, in item order."""
        return await self._failures.page(await self._job(job_id), after, limit)

    async def receipts(
        self, job_id: str, node_id: str | None, after: str | None, limit: int
    ) -> Receipts:
        """Return a page of a job's receipts, of one node or of all, with the results of each."""
        job = await self._job(job_id)
        found = await self._hub.store.read(receipts.page, job_id, node_id, after, limit)
        if found is None:
            raise MalformedRequest(
                "invalid_query", f"cursor: job {job_id} has no result of assignment {after}"
            )
        none_at_all = not found.results and after is None and node_id is None
        why = why_none(self._receipts.policy, job) if none_at_all else None
        others = await self._hub.store.read(leases.gateways)
        gateways = sorted({self._dispatcher.gateway_id, *others})
        return await asyncio.to_thread(described, found, why, gateways, module_call(job, None))

    async def story(self, job_id: str, after: int, limit: int) -> list[DurableEvent]:
        """Return a job's transitions in order."""
        await self._job(job_id)
        await self._hub.store.catch_up()
        return await self._hub.store.read(events.story, job_id, after, limit)

    async def check_kept(self, job_id: str) -> None:
        """Raise NotFound for a job that was never here, Gone for one that was removed."""
        if await self._dispatcher.own(job_id) is None:
            await self._job(job_id)

    async def end_seq(self, job_id: str) -> int | None:
        """Return the `seq` of the event that a job ended with, None if it has not ended."""
        store = self._hub.store
        found = await store.read(events.end_seq, job_id)
        if found is None and not await self._is_open(job_id):
            # It may have ended just now.
            await store.catch_up()
            # The event of a job that ended long ago may have been removed before it.
            found = await store.read(events.end_seq, job_id) or 0
        return found

    async def _job(self, job_id: str) -> Job:
        job = await self._hub.store.read(jobs.get, job_id)
        if job is None:
            raise await self._missing(job_id)
        return job

    async def _missing(self, job_id: str) -> RequestError:
        if await self._hub.store.read(jobs.was_pruned, job_id):
            return Gone("pruned", f"job {job_id} was finished and has been removed (see gc:)")
        return NotFound("not_found", f"there is no job {job_id}")

    async def _described(self, job_id: str) -> JobStatus:
        job = await self._dispatcher.own(job_id)
        if job is None or job.state.finished:
            found = self._dispatcher.recent.get(job_id) or await self._hub.store.read(
                overview.overview, job_id, _BREAKDOWN_MAX + 1
            )
            if found is None:
                raise await self._missing(job_id)
            job, results, shares = found
        elif job.state is JobState.RUNNING and is_numeric(job.spec.reduce):
            results = await self._hub.store.read(shard_results.of_job, job_id, _BREAKDOWN_MAX + 1)
            shares = []
        else:
            results, shares = [], []
        entry = self._machine.job(job_id)
        summary = self._summary(job, await self._cutting(job))
        plain = {
            **summary,
            "spec": job.spec.to_json(),
            "dataset_sha": job.dataset_sha,
            "failures": list(job.failures),
            "failed_items": summary["progress"]["items_failed"],
            "problem": None if entry is None else await self._failures.problem(job, entry),
            "note": None,
            "waits": self._machine.why_waiting(job_id, self._hub.clock.monotonic()),
            "missing_shards": []
            if entry is None
            else [shard.index for shard in entry.shards.values()],
            **_runtime_fields(job, results),
        }
        described = cast(JobStatus, plain)
        if job.result_sha is not None and job.result_inline is None:
            described["result_sha"] = job.result_sha
            described["result_bytes"] = job.result_bytes
        if job.state.finished:
            described["nodes"] = [
                {
                    "node_id": share.node_id,
                    "shards": share.shards,
                    "attempts": share.attempts,
                    "wall_s": round(share.wall_s, 6),
                    "cpu_s": round(share.cpu_s, 6),
                    "peak_memory_bytes": share.peak_memory_bytes,
                }
                for share in shares
            ]
        if job.state is JobState.COMPLETED:
            await self._describe_result(job, described)
        return described

    async def _describe_result(self, job: Job, described: JobStatus) -> None:
        """Add a completed job's result, if it is small JSON, and what there is to say of it."""
        value = None
        size_bytes = job.result_bytes or 0
        if gives_json(job.spec.reduce) and size_bytes <= _SHOWN_MAX_BYTES:
            value = json.loads(await self._result_body(job))
            described["result"] = value
            if (text := spelled_out(value)) is not None:
                described["result_text"] = text
            self._mark_read(job)
        described["note"] = note(job.spec.reduce, size_bytes, value)

    async def _cutting(self, job: Job) -> Cutting:
        """Return how far along a job is; of an unfinished one, what its gateway knows."""
        entry = None if self._dispatcher.known(job.id) is None else self._machine.job(job.id)
        if entry is not None:
            return Cutting(
                entry.n_cut, entry.first_uncut, entry.n_done_shards, entry.n_done_items,
                entry.n_retries, entry.n_failed_items,
            )  # fmt: skip
        if not job.state.finished and self._hub.store.shared:
            return await self._hub.store.read(recovery.cutting_of, job.id)
        return Cutting(
            job.n_shards, job.n_items, job.n_done_shards, job.n_done_items, job.n_retries,
            job.n_failed_items,
        )  # fmt: skip

    def _summary(self, job: Job, cutting: Cutting) -> JobSummary:
        return {
            "job_id": job.id,
            "status": _STATUS.get(job.state, job.state.value),
            "state": job.state.value,
            "reduce": job.spec.reduce,
            "owner": job.owner,
            "name": job.spec.name,
            "labels": dict(job.spec.labels),
            "module_sha": job.module_sha,
            "progress": {
                "items": job.n_items,
                "items_done": cutting.n_done_items,
                "items_failed": cutting.n_failed_items,
                "shards": cutting.n_shards,
                "shards_done": cutting.n_done_shards,
                "retries": cutting.n_retries,
            },
            "created_at": isoformat(job.created_at),
            "started_at": None if job.started_at is None else isoformat(job.started_at),
            "finished_at": None if job.finished_at is None else isoformat(job.finished_at),
            "duration_s": None
            if job.finished_at is None
            else round(job.finished_at - job.created_at, 6),
        }

    async def _result_body(self, job: Job) -> bytes:
        if job.result_inline is not None:
            return job.result_inline
        body = None if job.result_sha is None else await self._hub.store.blobs.get(job.result_sha)
        if body is None:
            raise _lost(job)
        return body

    def _mark_read(self, job: Job) -> None:
        if job.read_at is None:
            now = self._hub.clock.time()
            self._dispatcher.recent.mark_read(job.id, now)
            self._dispatcher.keep([jobs.mark_read(job.id, now)])


def _cancelled(job_id: str, state: JobState | None, pruned: bool) -> CancelledJob:
    if state is None:
        missing = "pruned" if pruned else "not_found"
        return {"job_id": job_id, "state": None, "cancelled": False, "code": missing}
    is_cancelled = state is JobState.CANCELLED
    why_not = None if is_cancelled else "job_ended" if state.finished else "busy"
    return {"job_id": job_id, "state": state.value, "cancelled": is_cancelled, "code": why_not}


def _lost(job: Job) -> Lost:
    return Lost("result_lost", f"the result of job {job.id} is gone")


def _runtime_fields(job: Job, results: list[ShardResult]) -> RuntimeFields:
    """Return what Swarm Runtime's clients read: `total_sum` and others."""
    nothing: RuntimeFields = {"total_sum": 0, "breakdown": [], "hashes": []}
    if not is_numeric(job.spec.reduce):
        return nothing
    if len(results) > _BREAKDOWN_MAX:
        omitted = f"more than {_BREAKDOWN_MAX} shards; see links.shards"
        # A sum is the job's result, too.
        known = job.result_inline if job.spec.reduce == "sum" else None
        sum_of_all = 0 if known is None else json.loads(known)
        return {**nothing, "total_sum": sum_of_all, "breakdown_omitted": omitted}
    try:
        values = [number(result.body or b"") for result in results]
        sum_so_far = total(values)
    except (ValueError, ReduceError):
        return nothing
    return {
        **nothing,
        "total_sum": sum_so_far,
        "breakdown": [[each.index, value] for each, value in zip(results, values, strict=True)],
    }
