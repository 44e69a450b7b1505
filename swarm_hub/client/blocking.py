"""The blocking twin of `SwarmClient`, for scripts without asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from swarm_hub.client.asynchronous import SwarmClient
from swarm_hub.client.submission import Module
from swarm_hub.const import DEFAULT_URL

_T = TypeVar("_T")


class BlockingSwarmClient:
    """Talks to one hub: `with BlockingSwarmClient(url, token) as swarm: …`.

    The calls and errors are those of `SwarmClient`.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None) -> None:
        self._client = SwarmClient(url, token)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._client.__aexit__(kind, error, trace))
        self._runner.close()

    def map(self, module: Module, items: Any, *, reduce: str | None = None, **spec: Any) -> Any:
        """Run a module over items and return the folded result."""
        return self._run(self._client.map(module, items, reduce=reduce, **spec))

    def submit(self, module: Module, items: Any, **spec: Any) -> str:
        """Submit a job; returns its id once the hub has it on disk."""
        return self._run(self._client.submit(module, items, **spec))

    def run(self, module: Module, items: Any, **spec: Any) -> dict[str, Any]:
        """Submit a job, wait for it and return its final status."""
        return self._run(self._client.run(module, items, **spec))

    def status(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """Return a job's status."""
        return self._run(self._client.status(job_id, wait_s))

    def wait(
        self,
        job_id: str,
        *,
        progress: Callable[[dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Wait for a job and return its final status."""
        return self._run(self._client.wait(job_id, progress=progress, **options))

    def result(self, job_id: str, *, partial: bool = False) -> bytes:
        """Return the bytes of a completed job's result, or of a `partial` one."""
        return self._run(self._client.result(job_id, partial=partial))

    def data(self, sha: str) -> bytes:
        """Return the bytes with that SHA-256."""
        return self._run(self._client.data(sha))

    def jobs(self, limit: int | None = 50, **options: Any) -> list[dict[str, Any]]:
        """Return the newest jobs, all of them with a `limit` of None."""
        return self._run(self._client.jobs(limit, **options))

    def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's shards with every attempt."""
        return self._run(self._client.shards(job_id))

    def shard_result(self, job_id: str, index: int) -> bytes:
        """Return the bytes that one shard of a job gave, whether the job has ended or not."""
        return self._run(self._client.shard_result(job_id, index))

    def failures(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a job that failed, each range once and in their order."""
        return self._each(self._client.failures(job_id))

    def receipts(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the results of a job that have receipts, page by page, with those receipts."""
        return self._each(self._client.receipts(job_id))

    def story(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's transitions in order, the first 10,000 of those after a `seq`."""
        return self._run(self._client.story(job_id, after))

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status."""
        return self._run(self._client.cancel(job_id))

    def resubmit(self, job_id: str) -> str:
        """Submit a job once more; returns the id of the new one."""
        return self._run(self._client.resubmit(job_id))

    def nodes(self) -> list[dict[str, Any]]:
        """Return every node the gateway has met."""
        return self._run(self._client.nodes())

    def node_action(self, node_id: str, action: str, **content: Any) -> dict[str, Any]:
        """Do `ban`, `unban`, `drain` or `undrain` to a node; returns it."""
        return self._run(self._client.node_action(node_id, action, **content))

    def worker(self) -> dict[str, Any]:
        """Return what the hub's own worker does, and why it takes no work if it takes none."""
        return self._run(self._client.worker())

    def pause(self, for_s: float | None = None) -> dict[str, Any]:
        """Have the hub's own worker take no work, for so long or until `resume`; returns it."""
        return self._run(self._client.pause(for_s))

    def resume(self) -> dict[str, Any]:
        """End the pause of the hub's own worker; returns it."""
        return self._run(self._client.resume())

    def banned_networks(self) -> list[dict[str, Any]]:
        """Return the networks that are banned, with reason and end."""
        return self._run(self._client.banned_networks())

    def ban_network(self, network: str, **content: Any) -> dict[str, Any]:
        """Refuse every address of a range such as 10.1.0.0/16; returns the ban."""
        return self._run(self._client.ban_network(network, **content))

    def unban_network(self, network: str) -> None:
        """Let a network in again."""
        self._run(self._client.unban_network(network))

    def approve(self, node_id: str) -> dict[str, Any]:
        """Admit a node that waits for approval, or one that has yet to connect."""
        return self._run(self._client.approve(node_id))

    def invite(
        self, expires_s: float, addresses: Sequence[str] = (), owner: str | None = None
    ) -> dict[str, Any]:
        """Make an invitation; returns it with its `link`, which admits one node."""
        return self._run(self._client.invite(expires_s, addresses, owner))

    def invites(self) -> list[dict[str, Any]]:
        """Return the invitations that are kept."""
        return self._run(self._client.invites())

    def revoke_invite(self, invite_id: str) -> None:
        """Remove an invitation; who was admitted by it stays."""
        self._run(self._client.revoke_invite(invite_id))

    def events(self, since: int | None = None, **wanted: Any) -> Iterator[dict[str, Any]]:
        """Yield events as they happen; `since` first yields every durable one after that `seq`."""
        return self._each(self._client.events(since, **wanted))

    def health(self) -> dict[str, Any]:
        """Return the hub's health."""
        return self._run(self._client.health())

    def _each(self, found: AsyncGenerator[_T, None]) -> Iterator[_T]:
        # A coroutine can't raise StopAsyncIteration, so the end is an empty list.
        async def following() -> list[_T]:
            async for each in found:
                return [each]
            return []

        try:
            while one := self._run(following()):
                yield one[0]
        finally:
            self._run(found.aclose())

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(work)
