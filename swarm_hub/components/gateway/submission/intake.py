"""Taking a job in: everything is checked before anything is stored, then committed at once.

It is long because one order counts, from the first check to the commit, whoever sends the job and
whether it is new, sent again or repeated.
"""

import asyncio
import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.components.gateway.submission import json_process
from swarm_hub.components.gateway.submission.chosen_items import Run, chosen, spec_of
from swarm_hub.components.gateway.submission.dataset import Measured, json_form, measure
from swarm_hub.components.gateway.submission.places import Parts
from swarm_hub.components.gateway.submission.program import as_script, report_of, runtime_of
from swarm_hub.components.gateway.submission.resolve_spec import (
    check_fit,
    choose_abi,
    choose_entry,
    choose_isolate,
    choose_max_failures,
    choose_reduce,
    choose_shard_size,
    default_split,
    place_script,
)
from swarm_hub.components.gateway.submission.spec import RequestedSpec, parse_spec
from swarm_hub.components.runtimes import Catalog, Runtime
from swarm_hub.components.sandbox import ModuleReport, SandboxError, SandboxService
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    Busy,
    Conflict,
    Gone,
    HubError,
    InvalidInput,
    InvalidSpec,
    LimitReached,
    MalformedRequest,
    RequestError,
    StorageFull,
    StoreConflictError,
    TooLarge,
)
from swarm_hub.models.blob import windows
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import Job, JobSpec, JobState
from swarm_hub.models.submission import DatasetPart, Submission, Submitted
from swarm_hub.storage import Write
from swarm_hub.storage.queries import jobs
from swarm_hub.util.hashing import sha256_hex

_REPORTS_KEPT: Final = 256
_KEYS_SEEN_MAX: Final = 4096
# Larger datasets are measured in a thread, so that the loop stays free.
_MEASURED_INLINE_BYTES: Final = 64 * 1024
# JSON is parsed in a thread up to this size, which holds the interpreter as long.
_PARSED_HERE_BYTES: Final = 4 * 1024 * 1024
_RETRY_AFTER_S: Final = 2
# Larger datasets of several pieces are put together on disk.
_JOINED_HERE_BYTES: Final = 1024 * 1024
_COMMIT_TIMEOUT_S: Final = 20.0


class Intake:
    """Turns submissions into durable jobs and hands them to `accept`."""

    def __init__(
        self,
        hub: Hub,
        service: SandboxService,
        gateway_id: str,
        dataset_max_bytes: int,
        redundancy: int | str,
        has_room: Callable[[], bool],
        jobs_per_owner: int | None,
        wall_time_s: float,
        n_jobs_of: Callable[[str], int],
        accept: Callable[[Job, bytes | None, list[Write], NewEvent], Awaitable[None]],
        catalog: Catalog,
    ) -> None:
        self._hub = hub
        self._service = service
        self._gateway_id = gateway_id
        self._dataset_max_bytes = dataset_max_bytes
        self._redundancy = redundancy
        self._has_room = has_room
        self._jobs_per_owner = jobs_per_owner
        self._wall_time_s = wall_time_s
        self._n_jobs_of = n_jobs_of
        self._accept = accept
        self._catalog = catalog
        self._reports: OrderedDict[str, ModuleReport] = OrderedDict()
        self._submitting: dict[str, asyncio.Lock] = {}
        self._keys_seen: OrderedDict[str, None] = OrderedDict()

    def bound(
        self,
        service: SandboxService,
        dataset_max_bytes: int,
        redundancy: int | str,
        jobs_per_owner: int | None,
        wall_time_s: float,
    ) -> None:
        """Take the jobs to come within these bounds."""
        self._service = service
        self._dataset_max_bytes = dataset_max_bytes
        self._redundancy = redundancy
        self._jobs_per_owner = jobs_per_owner
        self._wall_time_s = wall_time_s

    @property
    def module_bytes_max(self) -> int:
        """How large a module may be, in bytes."""
        return self._service.module_bytes_max

    async def submit(self, submission: Submission) -> Submitted:
        """Check and store a job; it is durable when this returns.

        Raises RequestError that says what to do; then nothing is stored.
        """
        self._check_room(submission.owner)
        key = submission.idempotency_key
        if key is None:
            return await self._submit(submission, "")
        key = _own_key(submission.owner, key)
        submission = dataclasses.replace(submission, idempotency_key=key)

        async def digest() -> str:
            # Most are small, and a thread costs more than to hash them.
            bodies = (submission.module, *(part.body for part in submission.parts))
            if sum(map(len, bodies)) <= _MEASURED_INLINE_BYTES:
                return _digest(submission)
            return await asyncio.to_thread(_digest, submission)

        return await self._once(key, digest, partial(self._submit, submission))

    async def resubmit(
        self,
        job: Job,
        spec: JobSpec,
        of: str,
        caller: str,
        key: str | None,
        find_runs: Callable[[], Awaitable[list[Run]]] | None = None,
    ) -> Submitted:
        """Store a job again, for the same owner; it is durable when this returns.

        `of` says all that was asked for, `key` is the caller's, and `find_runs` finds which items
        it is to have. Raises RequestError, Gone if its module or its data are not there any more.
        """
        self._check_room(job.owner)
        own_key = None if key is None else _own_key(caller, key)

        async def submit(digest: str) -> Submitted:
            now = self._hub.clock.time()
            shas = (job.module_sha, job.dataset_sha, job.script_sha, job.parts_sha)
            # From here on they stay long enough for the new job to refer to them.
            if not await self._hub.store.blobs.keep([sha for sha in shas if sha is not None], now):
                raise Gone("pruned", f"what job {job.id} was made of has been removed (see gc:)")
            wall_time = spec.limits.wall_time or self._wall_time_s
            blob_rows: list[Write] = []
            of_items, of_spec = job, spec
            if find_runs is not None:
                runs = await find_runs()
                of_spec = spec_of(spec, runs)
                of_items = await self._chosen(job, runs, blob_rows, now)
            again = Job(
                id=ulid_now(),
                state=JobState.QUEUED,
                spec=dataclasses.replace(
                    of_spec, limits=dataclasses.replace(spec.limits, wall_time=wall_time)
                ),
                module_sha=job.module_sha,
                module_bytes=job.module_bytes,
                dataset_sha=of_items.dataset_sha,
                n_items=of_items.n_items,
                dataset_bytes=of_items.dataset_bytes,
                range_start=of_items.range_start,
                created_at=now,
                owner=job.owner,
                parts_sha=of_items.parts_sha,
            )
            return await self._store(again, None, blob_rows, own_key, digest)

        async def digest() -> str:
            return sha256_hex(of.encode())

        return await (submit("") if own_key is None else self._once(own_key, digest, submit))

    async def _chosen(
        self, job: Job, runs: Sequence[Run], blob_rows: list[Write], now: float
    ) -> Job:
        """Return a job with these items alone as its dataset, which is stored."""
        blobs = self._hub.store.blobs
        async with AsyncExitStack() as opened:
            body = await opened.enter_async_context(blobs.reading(job.dataset_sha))
            index = None
            if job.parts_sha is not None:
                index = await opened.enter_async_context(blobs.reading(job.parts_sha))
            if body is None:
                raise Gone("pruned", f"the dataset of job {job.id} has been removed (see gc:)")
            parts = None if index is None else Parts(index)
            measured = await asyncio.to_thread(chosen, job, body, parts, runs)
            dataset_sha, rows = await self._store_dataset(measured, (), now)
        blob_rows += rows
        parts_sha = None
        if measured.parts:
            parts_sha, row = await blobs.put(measured.parts, now)
            blob_rows.append(row)
        return dataclasses.replace(
            job, dataset_sha=dataset_sha, n_items=measured.n_items, parts_sha=parts_sha,
            dataset_bytes=measured.size_bytes, range_start=measured.range_start,
        )  # fmt: skip

    def _check_room(self, owner: str) -> None:
        self._hub.store.refuse_if_away()
        if self._hub.store.busy:
            raise Busy("busy", "the store can't keep up; try again", retry_after_s=_RETRY_AFTER_S)
        if (full := self._hub.store.full) is not None:
            raise StorageFull("disk_full", full)
        if not self._has_room():
            raise LimitReached(
                "too_many_jobs",
                "this gateway has as many unfinished jobs as it takes (gateway: jobs); wait for "
                "one to end, or cancel one",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._check_quota(owner)

    async def _once(
        self,
        key: str,
        digest: Callable[[], Awaitable[str]],
        submit: Callable[[str], Awaitable[Submitted]],
    ) -> Submitted:
        """Submit unless that was done under this key, one request at a time."""
        lock = self._submitting.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return await self._submit_once(key, await digest(), submit)
        finally:
            if not lock.locked():
                self._submitting.pop(key, None)

    def _check_quota(self, owner: str) -> None:
        most = self._jobs_per_owner
        if most is not None and self._n_jobs_of(owner) >= most:
            raise LimitReached(
                "too_many_jobs_of_owner",
                f"{owner} has {most} unfinished jobs here, as many as one owner may have "
                "(gateway: jobs_per_owner); wait for one to end, or cancel one",
                retry_after_s=_RETRY_AFTER_S,
            )

    async def _submit_once(
        self, key: str, digest: str, submit: Callable[[str], Awaitable[Submitted]]
    ) -> Submitted:
        # Most keys are new, and looking them up would cost each job a read. One that came before is
        # looked up: a write that conflicts costs the others in its batch a commit of their own.
        if key in self._keys_seen and (known := await self._known(key, digest)) is not None:
            return known
        self._keys_seen[key] = None
        while len(self._keys_seen) > _KEYS_SEEN_MAX:
            self._keys_seen.popitem(last=False)
        try:
            return await submit(digest)
        except Busy:
            raise
        except (RequestError, StoreConflictError):
            # Taken before this hub started or by another gateway on its store; meanwhile there may
            # be reasons to refuse it.
            if (known := await self._known(key, digest)) is None:
                raise
            return known

    async def _known(self, key: str, digest: str) -> Submitted | None:
        """Return the job submitted under a key; raises RequestError if that was a different job."""
        known = await self._hub.store.read(jobs.by_idempotency_key, key)
        if known is None:
            return None
        if known[1] != digest:
            raise Conflict(
                "idempotency_conflict",
                f"the Idempotency-Key was used for another request (job {known[0]}); "
                "choose a new key for a new job",
            )
        return Submitted(known[0], known=True)

    async def _submit(self, submission: Submission, digest: str) -> Submitted:
        with ExitStack() as spools:
            return await self._submit_with(submission, digest, spools)

    async def _submit_with(
        self, submission: Submission, digest: str, spools: ExitStack
    ) -> Submitted:
        requested = self._with_redundancy(parse_spec(submission.spec))
        self._check_sizes(submission)
        if (language := runtime_of(submission, requested)) is None:
            submission = await self._assembled(submission)
            module_sha, report = await self._inspect(submission.module)
            module_bytes = len(submission.module)
        else:
            runtime = self._catalog.get(language)
            submission, requested = as_script(submission, requested, runtime)
            module_sha, report = runtime.sha, report_of(runtime)
            module_bytes = runtime.size_bytes
        abi = choose_abi(requested, report)
        entry = choose_entry(requested, report, abi)
        script, args = place_script(submission, requested, abi)
        reducer = choose_reduce(requested, report, abi)
        submission, measured = await self._measure(submission, requested, abi, spools)
        check_fit(requested, abi, measured)
        spec = JobSpec(
            abi=abi,
            entry=entry,
            split=measured.split,
            record_bytes=measured.record_bytes,
            reduce=reducer,
            shard_size=choose_shard_size(requested, measured.split),
            redundancy=requested.redundancy or self._redundancy,
            deterministic=requested.deterministic,
            limits=dataclasses.replace(
                requested.limits, wall_time=requested.limits.wall_time or self._wall_time_s
            ),
            args=args,
            env=requested.env,
            priority=requested.priority,
            deadline_s=requested.deadline_s,
            constraints=requested.constraints,
            labels=requested.labels,
            name=requested.name,
            script=script,
            known_answers=requested.known_answers,
            isolate=choose_isolate(requested, reducer),
            on_error=requested.on_error,
            max_failures=choose_max_failures(requested, measured.n_items),
            runtime=requested.runtime,
        )
        now = self._hub.clock.time()
        store = self._hub.store
        module = submission.module
        if language is not None and not store.blobs.touched_lately(module_sha, now):
            module = await _module_of(runtime)
        blob_rows = await store.blobs.touch(module_sha, module, now)
        dataset_sha, dataset_rows = await self._store_dataset(measured, submission.parts, now)
        blob_rows += dataset_rows
        if script is not None and submission.script is not None:
            blob_rows += await store.blobs.touch(script.sha, submission.script[1], now)
        parts_sha = None
        if measured.parts:
            parts_sha, parts_row = await store.blobs.put(measured.parts, now)
            blob_rows.append(parts_row)
        job = Job(
            id=ulid_now(),
            state=JobState.QUEUED,
            spec=spec,
            module_sha=module_sha,
            module_bytes=module_bytes,
            dataset_sha=dataset_sha,
            n_items=measured.n_items,
            dataset_bytes=measured.size_bytes,
            range_start=measured.range_start,
            created_at=now,
            owner=submission.owner,
            parts_sha=parts_sha,
        )
        dataset = measured.body if measured.size_bytes <= INLINE_MAX_BYTES else None
        submitted = await self._store(job, dataset, blob_rows, submission.idempotency_key, digest)
        for sha in (module_sha, dataset_sha, job.script_sha):
            if sha is not None:
                store.blobs.touched(sha, now)
        return submitted

    async def _store(
        self, job: Job, dataset: bytes | None, blob_rows: list[Write], key: str | None, digest: str
    ) -> Submitted:
        row = jobs.submit(job, self._gateway_id, 1, key, digest)
        queued = NewEvent(EventType.JOB_QUEUED, {"job_id": job.id, "n_items": job.n_items}, job.id)
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await self._accept(job, dataset, [*blob_rows, row], queued)
        except TimeoutError:
            raise Busy(
                "busy",
                "the store does not answer; the job may have been accepted all the same, so send "
                "it again with the same Idempotency-Key",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        return Submitted(job.id, known=False)

    def _with_redundancy(self, requested: RequestedSpec) -> RequestedSpec:
        redundancy = requested.redundancy or self._redundancy
        # Results of honest nodes are equal only if they do not depend on the device.
        deterministic = requested.deterministic or redundancy != 1
        return dataclasses.replace(requested, redundancy=redundancy, deterministic=deterministic)

    async def _store_dataset(
        self, measured: Measured, parts: Sequence[DatasetPart], now: float
    ) -> tuple[str, list[Write]]:
        """Store a dataset; an upload that already is the dataset, byte for byte, is on disk."""
        blobs = self._hub.store.blobs
        for part in parts:
            is_whole = len(measured.pieces) == 1 and measured.pieces[0] is part.body
            if part.spooled is not None and is_whole:
                return part.spooled.sha, [await blobs.adopt(part.spooled, now)]
        if measured.size_bytes <= INLINE_MAX_BYTES:
            sha = sha256_hex(measured.body)
            return sha, await blobs.touch(sha, measured.body, now)
        if measured.size_bytes <= _JOINED_HERE_BYTES:
            sha, row = await blobs.put(measured.body, now)
            return sha, [row]
        with blobs.spool() as spool:
            for piece in measured.pieces:
                for window in windows(piece):
                    await spool.write(window)
            spooled = await spool.finish()
            return spooled.sha, [await blobs.adopt(spooled, now)]

    def _check_sizes(self, submission: Submission) -> None:
        if len(submission.module) > self._service.module_bytes_max:
            raise TooLarge(
                "module_too_large",
                f"the module has {len(submission.module)} bytes, more than the "
                f"limit of {self._service.module_bytes_max} (sandbox: module)",
            )
        if sum(len(part.body) for part in submission.parts) > self._dataset_max_bytes:
            raise TooLarge(
                "dataset_too_large",
                f"the dataset is larger than {self._dataset_max_bytes} bytes (gateway: dataset)",
            )

    async def inspect(self, module: bytes) -> tuple[str, ModuleReport]:
        """Return the hash of a module, in text form that of what it becomes, and what it is for.

        Raises RequestError for what is no module.
        """
        return await self._report(await self._as_wasm(module))

    async def _assembled(self, submission: Submission) -> Submission:
        """Return the submission with its module as Wasm, where it came as WAT text."""
        module = await self._as_wasm(submission.module)
        return dataclasses.replace(submission, module=module)

    async def _as_wasm(self, module: bytes) -> bytes:
        try:
            return await self._service.sandbox.as_wasm(module)
        except SandboxError as error:
            raise InvalidInput(error.code, str(error)) from error

    async def _inspect(self, module: bytes) -> tuple[str, ModuleReport]:
        sha, report = await self._report(module)
        if report.refused is not None:
            raise InvalidInput("bad_module", report.refused)
        return sha, report

    async def _report(self, module: bytes) -> tuple[str, ModuleReport]:
        if not module:
            raise MalformedRequest("no_module", "the request has no module")
        sha = sha256_hex(module)
        report = self._reports.get(sha)
        if report is None:
            try:
                report = await self._service.sandbox.inspect(module)
            except SandboxError as error:
                raise InvalidInput(error.code, str(error)) from error
            self._reports[sha] = report
            if len(self._reports) > _REPORTS_KEPT:
                self._reports.popitem(last=False)
        return sha, report

    async def _measure(
        self, submission: Submission, requested: RequestedSpec, abi: str, spools: ExitStack
    ) -> tuple[Submission, Measured]:
        """Return the dataset, and the submission with the files that it is made of."""
        default = default_split(abi)
        if submission.values is None and not submission.parts:
            raise InvalidInput(
                "no_dataset",
                "the request has no dataset; upload a file as `dataset`, or give a range",
            )
        size_bytes = sum(len(part.body) for part in submission.parts)
        form = None
        if size_bytes > _PARSED_HERE_BYTES:
            form = json_form(submission.parts, requested.split, default)
        if form is not None:
            spool = spools.enter_context(self._hub.store.blobs.spool())
            part = await json_process.convert(submission.parts, form, spool)
            submission = dataclasses.replace(submission, parts=(part,))
        work = partial(
            measure, submission.parts, submission.values, requested.split, default,
            as_archive=abi == "wasi-files", converted=form is not None,
        )  # fmt: skip
        if size_bytes > _MEASURED_INLINE_BYTES or submission.values is not None:
            return submission, await asyncio.to_thread(work)
        return submission, work()


async def _module_of(runtime: Runtime) -> bytes:
    try:
        return await runtime.read()
    except (HubError, OSError) as error:
        raise InvalidSpec("no_runtime", f"the {runtime.name} runtime: {error}") from error


def _own_key(owner: str, key: str) -> str:
    # Owners don't know, and must not be able to use up, each other's keys.
    return sha256_hex(f"{owner}\n{key}".encode())


def _digest(submission: Submission) -> str:
    """Return the hash that tells whether two requests under one key are the same."""
    digest = hashlib.sha256(submission.spec)
    for part in (submission.module, *(part.body for part in submission.parts)):
        digest.update(len(part).to_bytes(8, "big"))
        for window in windows(part):
            digest.update(window)
    digest.update(repr(submission.values).encode())
    if submission.script is not None:
        digest.update(repr(submission.script).encode())
    return digest.hexdigest()
