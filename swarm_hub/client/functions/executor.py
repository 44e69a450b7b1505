"""A swarm as an executor of `concurrent.futures`: calls that come together become one job."""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack, aclosing
from typing import Any, Final, TypeVar

from swarm_hub.client.blocking import Swarm
from swarm_hub.client.errors import ClientError
from swarm_hub.client.functions.answers import is_failure
from swarm_hub.client.functions.encoding import EncodingError, encode
from swarm_hub.client.functions.jobs import (
    cancel_sent,
    outcomes_of,
    packed_submission,
    telling_of,
)
from swarm_hub.client.functions.packing import Packed, pack
from swarm_hub.client.progress import Progress, telling
from swarm_hub.client.submission import Submission

_LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

# How long calls of a function are gathered for one job, and how many at most.
_GATHER_S: Final = 0.02
_CALLS_MAX: Final = 10_000
# Calls that nobody has the results of yet; who submits more waits for some of them.
_OPEN_MAX: Final = 1_000_000


class _Batch:
    """Calls of one function, which become one job."""

    def __init__(self, function: Callable[..., Any], packed: Packed, spec: dict[str, Any]) -> None:
        self.function = function
        self.packed = packed
        self.spec = spec
        self.lines: list[str] = []
        self.futures: list[Future[Any]] = []
        # These are of the loop that runs it.
        self.sending: asyncio.Future[str] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.is_abandoned = False

    def add(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> Future[Any]:
        """Take in a call; raises ClientError for arguments that are not plain data."""
        try:
            self.lines.append(encode((arguments, named)))
        except EncodingError as error:
            raise ClientError(f"an argument of {self.packed.name} can't be sent: {error}") from None
        future: Future[Any] = Future()
        self.futures.append(future)
        return future


class SwarmExecutor(Executor):
    """Calls Python functions on the devices of a swarm, as other executors do it in processes.

    Without a swarm it finds one as `Swarm()` does, and closes it at its end. `progress` is called
    with the status of each of its jobs, in a thread of its own, or True for a bar of them all.
    Other keywords are keys of the spec of its jobs. Calls of one function that are submitted within
    some milliseconds are one job; a call can be cancelled until then.

    >>> with SwarmExecutor(swarm) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self, swarm: Swarm | None = None, /, *, progress: Progress = None, **spec: Any
    ) -> None:
        self._swarm = Swarm() if swarm is None else swarm
        self._is_own = swarm is None
        self._spec = spec
        self._lock = threading.Condition()
        self._gathering: _Batch | None = None
        self._open = 0
        self._is_shut = False
        self._showing = ExitStack()
        self._tell = self._showing.enter_context(telling(progress))

    def submit(self, fn: Callable[..., _T], /, *arguments: Any, **named: Any) -> Future[_T]:
        """Call a function on some device; returns the future of what it gives.

        >>> from concurrent.futures import as_completed
        >>> with SwarmExecutor(swarm) as executor:
        ...     futures = [executor.submit(int, text, base=2) for text in ("11", "101")]
        ...     sorted(future.result() for future in as_completed(futures))
        [3, 5]
        """
        with self._lock:
            self._check_open()
            batch = self._gathering
            if batch is None or batch.function is not fn or len(batch.futures) >= _CALLS_MAX:
                batch = _Batch(fn, pack(fn, spread=True), self._spec)
            future = batch.add(arguments, named)
            self._open += 1
            if batch is not self._gathering:
                self._gathering = batch
                self._start(batch)
        return future

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[_T]:
        """Call a function for each item, or for items of several iterables; yields in their order.

        All calls are one job. A `chunksize` above 1 is how many of them are a shard; by default
        their speed decides. Whoever stops early cancels the rest.

        >>> with SwarmExecutor(swarm) as executor:
        ...     list(executor.map(pow, [2, 3], [5, 2], timeout=60))
        [32, 9]
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        until = None if timeout is None else time.monotonic() + timeout
        cut = {} if chunksize == 1 else {"shard_size": chunksize}
        batch = _Batch(fn, pack(fn, spread=True), {**self._spec, **cut})
        for arguments in itertools.islice(zip(*iterables, strict=False), _OPEN_MAX + 1):
            batch.add(arguments, {})
        if len(batch.futures) > _OPEN_MAX:
            raise ClientError(f"more than {_OPEN_MAX:,} calls of one map; give them in parts")
        with self._lock:
            self._check_open(len(batch.futures))
            self._open += len(batch.futures)
            if batch.futures:
                self._start(batch)

        def results() -> Iterator[_T]:
            try:
                for future in batch.futures:
                    left = None if until is None else until - time.monotonic()
                    yield future.result(left)
            finally:
                # Nobody takes what is not there yet.
                if not all(future.done() for future in batch.futures):
                    self._swarm._loop.start(_abandon(batch))

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those there are, or cancel those not on any device.

        >>> executor = SwarmExecutor(swarm)
        >>> executor.shutdown()
        >>> executor.submit(pow, 2, 10)
        Traceback (most recent call last):
        RuntimeError: cannot schedule new futures after shutdown
        """
        with self._lock:
            self._is_shut = True
            if cancel_futures and self._gathering is not None:
                for future in self._gathering.futures:
                    future.cancel()
            self._show_no_more()
            if not wait:
                return
            while self._open:
                self._lock.wait()
        if self._is_own:
            self._swarm.close()

    def _check_open(self, count: int = 1) -> None:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        while self._open and self._open + count > _OPEN_MAX:
            self._lock.wait()

    def _show_no_more(self) -> None:
        if self._is_shut and not self._open:
            self._showing.close()

    def _start(self, batch: _Batch) -> None:
        self._swarm._loop.start(self._run(batch))

    async def _run(self, batch: _Batch) -> None:
        """Send a batch, and give each of its futures what becomes of it."""
        batch.task = asyncio.current_task()
        try:
            if batch.is_abandoned:
                raise asyncio.CancelledError
            await asyncio.sleep(_GATHER_S)
            with self._lock:
                if self._gathering is batch:
                    self._gathering = None
            live = [
                (line, future)
                for line, future in zip(batch.lines, batch.futures, strict=True)
                if future.set_running_or_notify_cancel()
            ]
            if live:
                await self._settle(batch, live)
        except asyncio.CancelledError:
            if batch.sending is not None:
                await cancel_sent(self._swarm._twin, batch.sending)
            _fail(batch.futures, CancelledError())
        except Exception as error:
            # Whoever waits for a call is told why it has no result.
            if not _fail(batch.futures, error):
                _LOGGER.exception("The progress of %s can't be told", batch.packed.name)
        finally:
            with self._lock:
                self._open -= len(batch.futures)
                self._show_no_more()
                self._lock.notify_all()

    async def _settle(self, batch: _Batch, live: list[tuple[str, Future[Any]]]) -> None:
        swarm = self._swarm._twin
        lines = "".join(f"{line}\n" for line, _ in live).encode()
        spec = {"on_error": "skip", **batch.spec}
        job = Submission(b"", "", *packed_submission(batch.packed, lines, spec))
        # Whoever stops meanwhile needs its id to cancel it.
        batch.sending = asyncio.ensure_future(swarm._submitted(job))
        job_id = await asyncio.shield(batch.sending)
        found = outcomes_of(swarm, job_id, len(live), ordered=False)
        async with telling_of(swarm, job_id, self._tell), aclosing(found):
            async for number, outcome in found:
                future = live[number][1]
                if is_failure(outcome):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)


async def _abandon(batch: _Batch) -> None:
    batch.is_abandoned = True
    if batch.task is not None:
        batch.task.cancel()


def _fail(futures: list[Future[Any]], error: BaseException) -> bool:
    """Give those that have no result an exception; returns whether there are any."""
    left = [future for future in futures if not future.done()]
    for future in left:
        if not (isinstance(error, CancelledError) and future.cancel()):
            future.set_exception(error)
    return bool(left)
