"""A job that was submitted, as a handle for asyncio."""

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Literal

from swarm_hub.client.errors import JobFailedError
from swarm_hub.client.progress import Progress
from swarm_hub.client.records import Failure, JobStatus, Shard, ShardResult

if TYPE_CHECKING:
    from swarm_hub.client.async_swarm import AsyncSwarm

OnTimeout = Literal["cancel", "leave"]


class JobHandle(str):
    """What both kinds of handles are: the job's id as text, wherever an id is taken."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """The job's id, by which `swarm.job(id)` is this handle again.

        >>> swarm.job(job_id).id == job_id
        True
        """
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Elsewhere it is not connected.
        return str, (str(self),)


class AsyncJob(JobHandle):
    """A job: its id, which is a text, with the calls about it; awaiting it gives its result.

    >>> job = await swarm.submit("primes.wat", range(100), reduce="sum")
    >>> await job
    25
    >>> job == job.id, job.state
    (True, 'completed')
    """

    __slots__ = ("_status", "_swarm")

    _swarm: "AsyncSwarm"
    _status: JobStatus | None

    def __new__(
        cls, job_id: str, swarm: "AsyncSwarm", status: JobStatus | None = None
    ) -> "AsyncJob":
        """Return the handle; whoever has a swarm calls `swarm.job(id)`."""
        made = super().__new__(cls, job_id)
        made._swarm = swarm
        made._status = status
        return made

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self!s} {self.state or 'not asked yet'}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    @property
    def status(self) -> JobStatus | None:
        """Its status when the hub last told it, None before that.

        >>> job = swarm.job(job_id)
        >>> job.status is None
        True
        """
        return self._status

    @property
    def state(self) -> str | None:
        """Its state when the hub last told it, None before that.

        >>> job = swarm.job(job_id)
        >>> (await job.refresh()).state
        'completed'
        >>> job.state
        'completed'
        """
        return None if self._status is None else self._status.state

    @property
    def ended(self) -> bool:
        """Whether the hub told that it has ended.

        >>> swarm.job(job_id).ended
        False
        """
        return self._status is not None and self._status.ended

    async def refresh(self) -> JobStatus:
        """Ask how it is.

        >>> (await swarm.job(job_id).refresh()).progress.items_done
        100
        """
        self._status = await self._swarm.status(self)
        return self._status

    async def done(self) -> bool:
        """Whether it has ended; the hub is asked unless it has told so.

        >>> await swarm.job(job_id).done()
        True
        """
        return self.ended or (await self.refresh()).ended

    async def wait(
        self,
        *,
        progress: Progress = None,
        timeout: float | None = None,
        on_timeout: OnTimeout = "leave",
    ) -> JobStatus:
        """Wait until it has ended, however it does; returns its last status.

        >>> (await swarm.job(job_id).wait(timeout=30)).state
        'completed'
        """
        if self._status is None or not self._status.ended:
            self._status = await self._swarm.wait(
                self, progress=progress, timeout=timeout, on_timeout=on_timeout
            )
        return self._status

    async def result(self, *, timeout: float | None = None, on_timeout: OnTimeout = "leave") -> Any:
        """Wait for its result: a Python value of numbers and JSON, else bytes.

        Raises JobFailedError, JobCancelledError and JobTimeoutError.

        >>> await swarm.job(job_id).result()
        25
        """
        return await self._swarm._value(await self.wait(timeout=timeout, on_timeout=on_timeout))

    async def exception(
        self, *, timeout: float | None = None, on_timeout: OnTimeout = "leave"
    ) -> JobFailedError | None:
        """Wait until it has ended; returns why it has no result, None if it has one.

        >>> await swarm.job(job_id).exception() is None
        True
        """
        status = await self.wait(timeout=timeout, on_timeout=on_timeout)
        return None if status.state == "completed" else await self._swarm._failure(status)

    def results(
        self, *, ordered: bool = False, timeout: float | None = None
    ) -> AsyncGenerator[ShardResult, None]:
        """Yield what its shards give as they finish, as `swarm.results` does.

        >>> [each.value async for each in swarm.job(job_id).results(ordered=True)]
        [15, 10]
        """
        return self._swarm.results(self, ordered=ordered, timeout=timeout)

    async def shards(self) -> list[Shard]:
        """Return its shards with every attempt.

        >>> [shard.n_items for shard in await swarm.job(job_id).shards()]
        [50, 50]
        """
        return await self._swarm.shards(self)

    async def failures(self) -> list[Failure]:
        """Return the items of it that failed.

        >>> await swarm.job(job_id).failures()
        []
        """
        return [each async for each in self._swarm.failures(self)]

    async def cancel(self) -> JobStatus:
        """Cancel it; returns its status.

        >>> job = await swarm.submit("primes.wat", range(10**9))
        >>> (await job.cancel()).state
        'cancelled'
        """
        self._status = await self._swarm.cancel(self)
        return self._status
