"""The blocking twins of `AsyncSwarm` and `AsyncJob`, for scripts and notebooks.

Each call is the other's, done in the background; so are its parameters and what its help says.
"""

import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from swarm_hub.client.async_job import AsyncJob, JobHandle
from swarm_hub.client.async_swarm import PATIENCE_S, AsyncSwarm, Tokens, Urls
from swarm_hub.client.background import BackgroundLoop
from swarm_hub.client.job_calls import AnyJob
from swarm_hub.client.progress import telling
from swarm_hub.client.records import JobStatus

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Call = Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]
_Each = Callable[Concatenate[Any, _P], AsyncGenerator[_T, None]]

_END: Final = object()
# What an example of a coroutine becomes without one.
_WITHOUT_ASYNC: Final = (
    ("await anext(", "next("), ("await ", ""), ("async for", "for"), ("async with", "with"),
    ("aclosing", "closing"), ("AsyncSwarm", "Swarm"), ("AsyncJob", "Job"),
)  # fmt: skip


def _twin_of(call: Callable[..., Any], returns: Any = None) -> Callable[[Any], Any]:
    """Give a blocking call the name, the parameters and the help of the asynchronous one."""

    def named(blocking: Any) -> Any:
        functools.update_wrapper(blocking, call)
        del blocking.__wrapped__
        doc = call.__doc__ or ""
        for old, new in _WITHOUT_ASYNC:
            doc = doc.replace(old, new)
        blocking.__doc__ = doc
        signature = inspect.signature(call)
        blocking.__signature__ = signature if returns is None else signature.replace(
            return_annotation=returns
        )  # fmt: skip
        return blocking

    return named


def _called(call: _Call[_P, _T]) -> Callable[Concatenate[Any, _P], _T]:
    """Return the blocking form of a coroutine."""

    @_twin_of(call)
    def blocking(twin: Any, /, *arguments: Any, **named: Any) -> Any:
        if (progress := named.get("progress")) is None:
            return twin._loop.run(call(twin._twin, *arguments, **named))
        # Whoever is told is told in the thread that waits.
        with telling(progress) as tell:
            calls: SimpleQueue[Any] = SimpleQueue()
            if tell is not None:
                named["progress"] = lambda status: calls.put(functools.partial(tell, status))
            return twin._loop.run(call(twin._twin, *arguments, **named), calls)

    found: Callable[Concatenate[Any, _P], _T] = blocking
    return found


def _giving_job(call: _Call[_P, AsyncJob]) -> "Callable[Concatenate[Any, _P], Job]":
    """Return the blocking form of a coroutine that gives a handle."""
    plain = _called(call)

    @_twin_of(call, "Job")
    def blocking(twin: Any, /, *arguments: Any, **named: Any) -> Any:
        return Job(plain(twin, *arguments, **named), twin._loop)

    found: Callable[Concatenate[Any, _P], Job] = blocking
    return found


def _each(call: _Each[_P, _T]) -> Callable[Concatenate[Any, _P], Iterator[_T]]:
    """Return the blocking form of an asynchronous generator."""

    @_twin_of(call, Iterator)
    def blocking(twin: Any, /, *arguments: Any, **named: Any) -> Iterator[Any]:
        return _iterate(twin._loop, call(twin._twin, *arguments, **named))

    found: Callable[Concatenate[Any, _P], Iterator[_T]] = blocking
    return found


def _each_job(call: _Each[_P, AsyncJob]) -> "Callable[Concatenate[Any, _P], Iterator[Job]]":
    """Return the blocking form of an asynchronous generator of handles."""

    @_twin_of(call, Iterator)
    def blocking(twin: Any, /, *arguments: Any, **named: Any) -> Iterator[Any]:
        found = _iterate(twin._loop, call(twin._twin, *arguments, **named))
        return (Job(each, twin._loop) for each in found)

    found: Callable[Concatenate[Any, _P], Iterator[Job]] = blocking
    return found


def _iterate(loop: BackgroundLoop, found: AsyncGenerator[_T, None]) -> Iterator[_T]:
    # A coroutine can't raise StopAsyncIteration.
    async def following() -> Any:
        return await anext(found, _END)

    async def close() -> None:
        await found.aclose()

    try:
        while (each := loop.run(following())) is not _END:
            yield each
    finally:
        if loop.is_here():
            # It is collected as garbage there.
            loop.start(close())
        elif loop.is_started:
            # Else the end of the loop has closed it.
            loop.run(close())


class Job(JobHandle):
    """A job: its id, which is a text, with the calls about it.

    >>> job = swarm.submit("primes.wat", range(100), reduce="sum")
    >>> job.result()
    25
    >>> job == job.id, job.state
    (True, 'completed')
    """

    __slots__ = ("_loop", "_twin")

    _twin: AsyncJob
    _loop: BackgroundLoop

    def __new__(cls, twin: AsyncJob, loop: BackgroundLoop) -> "Job":
        """Return the handle; whoever has a swarm calls `swarm.job(id)`."""
        made = super().__new__(cls, twin)
        made._twin = twin
        made._loop = loop
        return made

    def __repr__(self) -> str:
        return repr(self._twin).replace("AsyncJob", "Job", 1)

    @property
    def status(self) -> JobStatus | None:
        """Its status when the hub last told it, None before that.

        >>> swarm.job(job_id).status is None
        True
        """
        return self._twin.status

    @property
    def state(self) -> str | None:
        """Its state when the hub last told it, None before that.

        >>> job = swarm.job(job_id)
        >>> job.refresh().state
        'completed'
        >>> job.state
        'completed'
        """
        return self._twin.state

    @property
    def ended(self) -> bool:
        """Whether the hub told that it has ended.

        >>> swarm.job(job_id).ended
        False
        """
        return self._twin.ended

    refresh = _called(AsyncJob.refresh)
    done = _called(AsyncJob.done)
    wait = _called(AsyncJob.wait)
    result = _called(AsyncJob.result)
    exception = _called(AsyncJob.exception)
    results = _each(AsyncJob.results)
    shards = _called(AsyncJob.shards)
    failures = _called(AsyncJob.failures)
    cancel = _called(AsyncJob.cancel)

    def future(self) -> Future[Any]:
        """Return its result as a future of `concurrent.futures`.

        One that is cancelled waits no more; the job goes on.

        >>> from concurrent.futures import wait
        >>> job = swarm.submit("primes.wat", range(100), reduce="sum")
        >>> done, _ = wait([job.future()])
        >>> [future.result() for future in done]
        [25]
        """
        return self._loop.start(self._twin.result())


class Swarm:
    """Talks to a swarm: `with Swarm() as swarm: …`, or without `with`, also in a notebook.

    Address and token are found as the command line finds them: in SWARM_HUB_URL and
    SWARM_HUB_TOKEN, else in the configuration directory (SWARM_HUB_CONFIG). `url` may leave out
    http:// and the port. Several addresses, in a list, are gateways of one swarm: what one does not
    answer, the next is asked. `token` is for all, or a list with one for each; a mapping of
    addresses has them as its values.

    Once a hub has answered, calls wait `patience_s` for one that restarts. Every call raises
    UnreachableError when no hub answers and ApiError when it refuses. Several threads may use it.

    >>> with Swarm(url, token) as swarm:
    ...     swarm.map("primes.wat", range(100), reduce="sum")
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
        self._twin = AsyncSwarm(url, token, patience_s=patience_s)
        self._loop = BackgroundLoop()
        # Also at the end of the program, which otherwise would find connections open.
        weakref.finalize(self, self._loop.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread behind; the next call opens them anew.

        >>> swarm = Swarm(url, token)
        >>> swarm.health().ok
        True
        >>> swarm.close()
        """
        self._loop.stop()

    def job(self, job_id: AnyJob) -> Job:
        """Return a handle of a job that was submitted, by whomever; nothing is asked.

        >>> swarm.job(job_id).result()
        25
        """
        return Job(self._twin.job(job_id), self._loop)

    map = _called(AsyncSwarm.map)
    submit = _giving_job(AsyncSwarm.submit)
    run = _called(AsyncSwarm.run)
    wait = _called(AsyncSwarm.wait)
    results = _each(AsyncSwarm.results)
    imap = _each(AsyncSwarm.imap)
    imap_unordered = _each(AsyncSwarm.imap_unordered)
    as_completed = _each_job(AsyncSwarm.as_completed)
    gather = _called(AsyncSwarm.gather)
    resubmit = _giving_job(AsyncSwarm.resubmit)

    status = _called(AsyncSwarm.status)
    result = _called(AsyncSwarm.result)
    data = _called(AsyncSwarm.data)
    jobs = _called(AsyncSwarm.jobs)
    shards = _called(AsyncSwarm.shards)
    shard_result = _called(AsyncSwarm.shard_result)
    failures = _each(AsyncSwarm.failures)
    receipts = _each(AsyncSwarm.receipts)
    story = _called(AsyncSwarm.story)
    cancel = _called(AsyncSwarm.cancel)
    cancel_many = _called(AsyncSwarm.cancel_many)
    change = _called(AsyncSwarm.change)
    events = _each(AsyncSwarm.events)

    nodes = _called(AsyncSwarm.nodes)
    node_action = _called(AsyncSwarm.node_action)
    approve = _called(AsyncSwarm.approve)
    runtimes = _called(AsyncSwarm.runtimes)
    automations = _called(AsyncSwarm.automations)
    automation_traces = _called(AsyncSwarm.automation_traces)
    trigger_automation = _called(AsyncSwarm.trigger_automation)
    enable_automation = _called(AsyncSwarm.enable_automation)
    system = _called(AsyncSwarm.system)
    page_code = _called(AsyncSwarm.page_code)
    worker = _called(AsyncSwarm.worker)
    pause = _called(AsyncSwarm.pause)
    resume = _called(AsyncSwarm.resume)
    gateways = _called(AsyncSwarm.gateways)
    banned_networks = _called(AsyncSwarm.banned_networks)
    ban_network = _called(AsyncSwarm.ban_network)
    unban_network = _called(AsyncSwarm.unban_network)
    invite = _called(AsyncSwarm.invite)
    invites = _called(AsyncSwarm.invites)
    revoke_invite = _called(AsyncSwarm.revoke_invite)
    health = _called(AsyncSwarm.health)
