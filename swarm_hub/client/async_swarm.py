"""The asyncio client: submitting jobs, and waiting for what becomes of them.

It is long because map, run and submit share how a job is sent, which has to be safe to repeat.
"""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from swarm_hub.client import submission, uploads
from swarm_hub.client.async_job import AsyncJob, OnTimeout
from swarm_hub.client.calls import id_of
from swarm_hub.client.device_calls import DeviceCalls
from swarm_hub.client.errors import ApiError, ClientError, JobFailedError, JobTimeoutError, failed
from swarm_hub.client.gateways import Gateway, Gateways
from swarm_hub.client.job_calls import AnyJob, JobCalls
from swarm_hub.client.job_events import job_events
from swarm_hub.client.progress import Progress, telling
from swarm_hub.client.reach import Reach
from swarm_hub.client.records import Failure, JobStatus, ShardResult
from swarm_hub.client.results import reader_of, results_of, values_of
from swarm_hub.client.submission import Module, Submission, is_of_functions
from swarm_hub.client.uploads import Source
from swarm_hub.const import TOKEN_VARIABLE, URL_VARIABLE
from swarm_hub.credentials import (
    admin_token,
    configured_url,
    found_dir,
    read_addresses,
)
from swarm_hub.exceptions import HubError

Script = Path | str | tuple[str, bytes] | None
Tokens = str | Sequence[str | None] | None
Urls = str | Sequence[str] | Mapping[str, str] | None

# A gateway that restarts is back within seconds; a call that fails meanwhile doesn't fail the job.
PATIENCE_S: Final = 30.0
_FAILURES_TOLD: Final = 100
# A job that nobody waits for any more is cancelled within this, or said to go on.
_CANCEL_WITHIN_S: Final = 5.0
# How often at most a change is told, and how long results are collected for one request.
_TOLD_EVERY_S: Final = 0.25
_GATHER_S: Final = 0.02
# Of more jobs than that each is asked in turn, instead of having its answers held.
_HELD_AT_ONCE: Final = 32


class AsyncSwarm(JobCalls, DeviceCalls):
    """Talks to a swarm: `async with AsyncSwarm() as swarm: …`, or without `async with`.

    Address and token are found as the command line finds them: in SWARM_HUB_URL and
    SWARM_HUB_TOKEN, else in the configuration directory (SWARM_HUB_CONFIG). `url` may leave out
    http:// and the port. Several addresses, in a list, are gateways of one swarm: what one does not
    answer, the next is asked. `token` is for all, or a list with one for each; a mapping of
    addresses has them as its values.

    Once a hub has answered, calls wait `patience_s` for one that restarts. Every call raises
    UnreachableError when no hub answers and ApiError when it refuses.

    >>> async with AsyncSwarm(url, token) as swarm:
    ...     await swarm.map("primes.wat", range(100), reduce="sum")
    25

    The examples of the calls have a connected `swarm`, and the `job_id` of a job like this one.
    """

    def __init__(
        self,
        url: Urls = None,
        token: Tokens = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._hub = Gateways(_gateways(url, token), patience_s)
        self._takes_cbor = True
        self._takes_blobs = True
        # The hashes of those that the hub has.
        self._modules_there: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens them anew.

        >>> swarm = AsyncSwarm(url, token)
        >>> (await swarm.health()).ok
        True
        >>> await swarm.close()
        """
        await self._hub.close()

    def job(self, job_id: AnyJob) -> AsyncJob:
        """Return a handle of a job that was submitted, by whomever; nothing is asked.

        >>> await swarm.job(job_id).result()
        25
        """
        status = JobStatus(job_id) if isinstance(job_id, Mapping) else None
        return AsyncJob(id_of(job_id), self, status)

    async def map(
        self,
        /,
        module: Module,
        items: Any,
        *,
        reduce: str | None = None,
        script: Script = None,
        idempotency_key: str | None = None,
        progress: Progress = None,
        timeout: float | None = None,
        on_timeout: OnTimeout = "cancel",
        return_exceptions: bool = False,
        dry_run: bool = False,
        **spec: Any,
    ) -> Any:
        """Run a module, or a Python function, over items and return the folded result.

        The module is a path, bytes, or WAT text. Items are a `range`, bytes, a path or a list of
        paths (files), or a list of JSON values. Numbers and JSON come as Python values, the others
        as bytes. Raises JobFailedError, and JobTimeoutError after `timeout` seconds; the job is
        then cancelled unless `on_timeout` is "leave".

        A function is called for each item, on the devices; what it returns comes as a list in the
        order of the items. The first exception is raised, and the job cancelled, unless
        `return_exceptions` puts exceptions at their places. With `dry_run` nothing is sent, and
        what would be is listed.

        >>> await swarm.map("primes.wat", range(100), reduce="sum")
        25
        >>> counts = await swarm.map("wordcount.wat", b"to be or not", split="lines", reduce="json")
        >>> sorted(counts)
        ['be', 'not', 'or', 'to']
        """
        if callable(module):
            from swarm_hub.client.functions import jobs

            if reduce is not None or script is not None:
                raise ClientError(
                    "reduce: what a function gives comes as a list; fold that, as sum(swarm.map(…))"
                )
            if dry_run:
                return jobs.listing(module, items, spec)
            return await jobs.map_function(
                self, module, items, jobs.Waiting(timeout, on_timeout, progress),
                idempotency_key or _new_key(), return_exceptions=return_exceptions, spec=spec,
            )  # fmt: skip
        if return_exceptions or dry_run:
            raise ClientError("return_exceptions and dry_run are for functions")
        status = await self.run(
            module, items, reduce=reduce, script=script, idempotency_key=idempotency_key,
            progress=progress, timeout=timeout, on_timeout=on_timeout, **spec,
        )  # fmt: skip
        return await self._value(status)

    async def submit(
        self,
        /,
        module: Module,
        items: Any,
        *,
        script: Script = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> AsyncJob:
        """Submit a job; returns its handle, which is its id, once the hub has it on disk.

        `script` is what the module interprets: a path, or a name and its bytes. A job that is
        submitted again with the same `idempotency_key` is taken once.

        >>> job = await swarm.submit("primes.wat", range(100), priority=10, shard_size=50)
        >>> (await job.wait()).state
        'completed'
        """
        job = Submission.of(module, items, script, spec)
        return self.job(await self._submitted(job, idempotency_key))

    async def run(
        self,
        /,
        module: Module,
        items: Any,
        *,
        script: Script = None,
        idempotency_key: str | None = None,
        progress: Progress = None,
        timeout: float | None = None,
        on_timeout: OnTimeout = "cancel",
        **spec: Any,
    ) -> JobStatus:
        """Submit a job, wait for it and return its last status.

        A short job takes one request, unless its `progress` is told.

        >>> status = await swarm.run("primes.wat", range(100), shard_size=50)
        >>> status.state, status.result, status.progress.shards
        ('completed', 25, 2)
        """
        job, key = Submission.of(module, items, script, spec), idempotency_key or _new_key()

        async def find(taken: list[str]) -> None:
            await self._send(job, key, 0, taken)

        async with self._within(timeout, on_timeout, find) as taken:
            await self._hub.learn()
            hold_s = 0 if progress else self._hub.hold_s
            last = await self._send(job, key, hold_s, taken)
            if last is not None and last.ended:
                return last
            return await self.wait(taken[0], progress=progress)

    async def wait(
        self,
        job: AnyJob,
        *,
        progress: Progress = None,
        timeout: float | None = None,
        on_timeout: OnTimeout = "leave",
        every_s: float | None = None,
    ) -> JobStatus:
        """Wait until a job has ended and return its last status.

        `progress` is called with the status on every change, at most four times a second; True
        shows a bar. After `timeout` seconds JobTimeoutError is raised; the job goes on unless
        `on_timeout` is "cancel".

        >>> status = await swarm.wait(job_id, progress=lambda status: print(status.state))
        completed
        >>> status.result
        25
        """
        async with self._within(timeout, on_timeout) as taken:
            taken.append(id_of(job))
            with telling(progress) as tell:
                if tell is None:
                    return await self._last_status(job, every_s)
                status = await self.status(job)
                tell(status)
                if status.ended:
                    return status
                async with aclosing(job_events(self._hub, id_of(job), _TOLD_EVERY_S)) as changes:
                    async for _ in changes:
                        newer = await self.status(job)
                        if newer != status or newer.ended:
                            status = newer
                            tell(status)
                        if status.ended:
                            return status
                # Its last event came, but not its last status.
                status = await self._last_status(job, every_s)
                tell(status)
                return status

    async def _last_status(self, job: AnyJob, every_s: float | None) -> JobStatus:
        while True:
            # Whoever answers now may know of others.
            await self._hub.learn()
            hold_s = self._hub.hold_s if every_s is None else max(1, round(every_s))
            if (status := await self.status(job, wait_s=hold_s)).ended:
                return status

    async def results(
        self, job: AnyJob, *, ordered: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[ShardResult, None]:
        """Yield what a job's shards gave, as they finish, those first that are done already.

        `ordered` yields them in the order of their items. At the end JobFailedError is raised if
        the job failed, JobCancelledError if it was cancelled, and after `timeout` seconds
        JobTimeoutError; the job goes on then.

        >>> [each.value async for each in swarm.results(job_id, ordered=True)]
        [15, 10]
        """
        limit = None if timeout is None else asyncio.get_running_loop().time() + timeout
        read = reader_of(await self.status(job))
        found = results_of(self._hub, id_of(job), read, _GATHER_S)
        async with aclosing(values_of(found, ordered=ordered)) as values:
            while True:
                at = asyncio.timeout_at(limit)
                try:
                    async with at:
                        value = await anext(values, None)
                except TimeoutError as error:
                    if not at.expired():
                        raise
                    raise await self._too_late(id_of(job), timeout, "leave") from error
                if value is None:
                    break
                yield value
        if (status := await self.wait(job)).state != "completed":
            raise await self._failure(status)

    async def imap(
        self,
        function: Callable[..., Any],
        /,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        progress: Progress = None,
        timeout: float | None = None,
        **spec: Any,
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """Call a Python function for each item, and yield (item, result) as shards finish.

        In the order of the items, unless `ordered` is False. Whoever stops early cancels the job;
        one that has to outlive this program is submitted: `swarm.submit(function, items)`.
        `progress` is told as in `wait`.

        >>> [(item, root) async for item, root in swarm.imap(math.isqrt, [9, 16])]
        [(9, 3), (16, 4)]
        """
        from swarm_hub.client.functions import jobs

        found = jobs.each_outcome(
            self, function, items, ordered=ordered, timeout=timeout, spec=spec,
            return_exceptions=return_exceptions, progress=progress,
        )  # fmt: skip
        async with aclosing(found):
            async for each in found:
                yield each

    def imap_unordered(
        self,
        function: Callable[..., Any],
        /,
        items: Iterable[Any],
        *,
        return_exceptions: bool = False,
        progress: Progress = None,
        timeout: float | None = None,
        **spec: Any,
    ) -> AsyncGenerator[tuple[Any, Any], None]:
        """Call a Python function for each item, and yield (item, result) as they come.

        >>> sorted([each async for each in swarm.imap_unordered(math.isqrt, [9, 16])])
        [(9, 3), (16, 4)]
        """
        return self.imap(
            function, items, ordered=False, return_exceptions=return_exceptions,
            progress=progress, timeout=timeout, **spec,
        )  # fmt: skip

    async def as_completed(
        self, jobs: Iterable[AnyJob], *, timeout: float | None = None
    ) -> AsyncGenerator[AsyncJob, None]:
        """Yield handles of jobs as these end, however they do.

        >>> jobs = [await swarm.submit("primes.wat", range(n)) for n in (10, 100)]
        >>> sorted([await job.result() async for job in swarm.as_completed(jobs)])
        [4, 25]
        """
        handles = [each if isinstance(each, AsyncJob) else self.job(each) for each in jobs]
        free = asyncio.Semaphore(_HELD_AT_ONCE)

        async def ended(job: AsyncJob) -> AsyncJob:
            while not job.ended:
                async with free:
                    await self._hub.learn()
                    hold_s = self._hub.hold_s if len(handles) <= _HELD_AT_ONCE else 1
                    job._status = await self.status(job, wait_s=hold_s)
            return job

        waiting = [asyncio.create_task(ended(each)) for each in handles]
        try:
            for each in asyncio.as_completed(waiting, timeout=timeout):
                try:
                    job = await each
                except TimeoutError as error:
                    left = [job for job in handles if not job.ended]
                    raise JobTimeoutError(
                        f"{len(left)} of {len(handles)} jobs had not ended after {timeout:g} s; "
                        "they go on"
                    ) from error
                yield job
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def gather(self, *jobs: AnyJob, timeout: float | None = None) -> list[Any]:
        """Return the results of jobs, in the order in which these are given.

        The first that fails is raised; the others go on.

        >>> jobs = [await swarm.submit("primes.wat", range(n)) for n in (100, 10)]
        >>> await swarm.gather(*jobs)
        [25, 4]
        """
        found: dict[str, Any] = {}
        async with aclosing(self.as_completed(jobs, timeout=timeout)) as ended:
            async for job in ended:
                found[job] = await job.result()
        return [found[id_of(each)] for each in jobs]

    async def resubmit(
        self,
        /,
        job: AnyJob,
        *,
        items: str | Sequence[Mapping[str, int]] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> AsyncJob:
        """Submit a job once more, with some keys of its spec changed; returns the new one.

        `items="failed"` takes those of its items that failed, `[{"first_item": 3, "n_items": 2}]`
        those that it names.

        >>> again = await swarm.resubmit(job_id, labels={"run": "2"})
        >>> (await swarm.wait(again)).labels
        {'run': '2'}
        """
        headers = {"Idempotency-Key": idempotency_key or _new_key()}
        # Gateways of an earlier version know no `items`.
        body = {"spec": spec} if items is None else {"spec": spec, "items": items}
        answer = await self._json(
            "POST", f"/jobs/{id_of(job)}/resubmit", json=body, headers=headers
        )
        return self.job(str(answer["job_id"]))

    async def _submitted(self, job: Submission, idempotency_key: str | None = None) -> str:
        """Send a job; returns its id once a hub has it on disk."""
        taken: list[str] = []
        await self._send(job, idempotency_key or _new_key(), 0, taken)
        return taken[0]

    async def _value(self, status: JobStatus) -> Any:
        """Return the result of a job that has ended; raises JobFailedError."""
        if status.state != "completed":
            raise await self._failure(status)
        if "result" in status:
            return status.result
        if is_of_functions(status):
            from swarm_hub.client.functions.jobs import values_of_job

            return await values_of_job(self, status)

        async def read(response: Any) -> Any:
            body = await response.read()
            return json.loads(body) if response.content_type == "application/json" else body

        return await self._json("GET", f"/jobs/{status.job_id}/result", read=read)

    async def _failure(self, status: JobStatus) -> JobFailedError:
        """Return the error of a job that has no result, with the items that failed."""
        failures: list[Failure] = []
        try:
            query = {"limit": _FAILURES_TOLD}
            page = await self._json("GET", f"/jobs/{status.job_id}/failures", query)
            failures += Failure.each_of(page["failures"])
        except ClientError:
            # The status has them in words.
            pass
        return failed(status, failures)

    @asynccontextmanager
    async def _within(
        self,
        timeout: float | None,
        on_timeout: OnTimeout,
        find: Callable[[list[str]], Awaitable[None]] | None = None,
    ) -> AsyncIterator[list[str]]:
        """Hold what waits to a time; whoever is within puts the job's id into the list.

        `find` does so for a job of which it is not known yet whether a hub has it.
        """
        if on_timeout not in ("cancel", "leave"):
            raise ClientError(f"on_timeout: expected 'cancel' or 'leave', got {on_timeout!r}")
        taken: list[str] = []
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                yield taken
        except TimeoutError as error:
            if not limit.expired():
                raise
            if not taken and find is not None:
                with contextlib.suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(_CANCEL_WITHIN_S):
                        await find(taken)
            job_id = taken[0] if taken else None
            raise await self._too_late(job_id, timeout, on_timeout) from error

    async def _too_late(
        self, job_id: str | None, timeout: float | None, on_timeout: OnTimeout
    ) -> JobTimeoutError:
        if job_id is None:
            return JobTimeoutError(f"the hub had not taken the job in after {timeout:g} s")
        text = f"job {job_id} had not ended after {timeout:g} s"
        goes_on = f"it goes on; to wait for it again: swarm.job({job_id!r}).result()"
        if on_timeout == "leave":
            return JobTimeoutError(f"{text}; {goes_on}", job_id)
        try:
            async with asyncio.timeout(_CANCEL_WITHIN_S):
                await self.cancel(job_id)
        except (ClientError, TimeoutError) as error:
            why = str(error) or "no answer"
            return JobTimeoutError(f"{text} and can't be cancelled ({why}); {goes_on}", job_id)
        return JobTimeoutError(f"{text}; it was cancelled", job_id)

    async def _send(
        self, job: Submission, key: str, wait_s: int, taken: list[str]
    ) -> JobStatus | None:
        """Send a job until a hub has it, under one key; puts its id into `taken`.

        Returns its status after `wait_s` at most, None if that did not come.
        """
        headers = {"Idempotency-Key": key}
        query = {"wait": wait_s} if wait_s else {}
        named = await self._uploaded(job)
        ways = self._ways(job, named)
        way, trying = next(ways), self._hub.trying()
        while True:
            kind = {"Content-Type": submission.CBOR} if way.is_cbor else {}
            try:
                async with self._hub.request(
                    "POST", "/jobs", params=query, data=way.make(), headers={**headers, **kind},
                    hold_s=wait_s, is_upload=not way.is_cbor,
                ) as response:  # fmt: skip
                    first = json.loads(await response.content.readline())
                    taken.append(str(first["job_id"]))
                    if way.is_cbor and job.module_sha:
                        self._modules_there.add(job.module_sha)
                    last = await response.content.read() if wait_s else b""
                    return JobStatus(json.loads(last)) if last.strip() else None
            except ClientError as error:
                if taken:
                    # It is on disk; whoever waits asks for it.
                    return None
                if self._is_refused(way, error, job, named):
                    way = next(ways)
                    continue
                await trying.after(error)

    def _is_refused(
        self, way: "_Way", error: ClientError, job: Submission, named: dict[Source, str]
    ) -> bool:
        """Whether the hub does not take a job in this way, and should be sent it in the next."""
        if not isinstance(error, ApiError):
            return False
        if error.code == "unsupported_media_type" and way.is_cbor:
            # A hub of an earlier version takes forms only.
            self._takes_cbor = False
            return True
        if error.code == "unknown_module" and way.is_cbor:
            self._modules_there.discard(job.module_sha)
            return True
        if error.code in ("unknown_module", "unknown_blob") and named:
            # It went already, for lack of room.
            named.clear()
            return True
        return False

    async def _uploaded(self, job: Submission) -> dict[Source, str]:
        """Send what is large of a job, if the hub lacks it; returns the hashes to name it by."""
        named: dict[Source, str] = {}
        # How long a broken upload is tried again is the upload's to say.
        ask = partial(self._hub.ask, patience_s=0.0)
        for source in job.large() if self._takes_blobs else ():
            sha = await uploads.hash_of(source)
            try:
                await uploads.ensure(ask, source, sha)
            except ApiError as error:
                if error.code == "blob_too_large":
                    continue
                if error.code not in ("not_found", "method_not_allowed"):
                    raise
                # A hub of an earlier version.
                self._takes_blobs = False
                return {}
            named[source] = sha
        return named

    def _ways(self, job: Submission, named: Mapping[Source, str]) -> Iterator["_Way"]:
        """Yield the ways to say a job, each for a hub that does not take the one before."""
        if named:
            yield _Way(partial(job.as_form, named))
        if self._takes_cbor and job.module_sha in self._modules_there and job.is_small(0):
            yield _Way(partial(job.as_cbor, by_hash=True), is_cbor=True)
        if self._takes_cbor and job.is_small(len(job.module)):
            yield _Way(partial(job.as_cbor, by_hash=False), is_cbor=True)
        yield _Way(partial(job.as_form, {}))


def _new_key() -> str:
    return uuid.uuid4().hex


class _Way(NamedTuple):
    """How a job is said; what is sent is made anew for each request."""

    make: Callable[[], Any]
    is_cbor: bool = False


def _gateways(url: Urls, token: Tokens) -> list[Gateway]:
    """Return the gateways of a swarm with their tokens, as they are given or found."""
    if isinstance(url, Mapping):
        if token is not None:
            raise ClientError("give the tokens once: as the values of the addresses, or as token=")
        return [Gateway(Reach.parse(each), mine) for each, mine in url.items()]
    folder = found_dir()
    try:
        if url is None:
            url = os.environ.get(URL_VARIABLE) or None
        is_found = url is None
        url = configured_url(folder) if url is None else url
        urls = read_addresses(url) if isinstance(url, str) else list(url)
    except HubError as error:
        raise ClientError(f"the address of a hub: {error}") from None
    if not urls:
        raise ClientError("no address of a hub was given")
    found = [Reach.parse(each) for each in urls]
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE)
    if token is None:
        token = admin_token(folder, None if is_found else [each.url for each in found])
    tokens = [token] * len(found) if token is None or isinstance(token, str) else list(token)
    if len(tokens) != len(found):
        raise ClientError(f"{len(tokens)} tokens were given for {len(found)} addresses")
    return [Gateway(reach, mine) for reach, mine in zip(found, tokens, strict=True)]
