"""The blocking twin of `SwarmClient`, for scripts without asyncio."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from swarm_hub.client.asynchronous import SwarmClient
from swarm_hub.client.submission import Module
from swarm_hub.const import DEFAULT_URL

_T = TypeVar("_T")


class BlockingSwarmClient:
    """Talks to one hub: `with BlockingSwarmClient(url, token) as swarm: …`.

    The calls and errors are those of `SwarmClient`.

    >>> with BlockingSwarmClient(url, token) as swarm:
    ...     swarm.map("primes.wat", range(100), reduce="sum")
    25

    The examples of the calls have a connected `swarm`, and the `job_id` of a job like this one.
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
        """Run a module over items and return the folded result.

        >>> swarm.map("primes.wat", range(100), reduce="sum")
        25
        >>> counts = swarm.map("wordcount.wat", b"to be or not", split="lines", reduce="json")
        >>> sorted(counts)
        ['be', 'not', 'or', 'to']
        """
        return self._run(self._client.map(module, items, reduce=reduce, **spec))

    def submit(self, module: Module, items: Any, **spec: Any) -> str:
        """Submit a job; returns its id once the hub has it on disk.

        >>> job_id = swarm.submit("primes.wat", range(100), priority=10, shard_size=50)
        >>> swarm.wait(job_id)["state"]
        'completed'
        """
        return self._run(self._client.submit(module, items, **spec))

    def run(self, module: Module, items: Any, **spec: Any) -> dict[str, Any]:
        """Submit a job, wait for it and return its final status.

        >>> status = swarm.run("primes.wat", range(100), shard_size=50)
        >>> status["state"], status["result"], status["progress"]["shards"]
        ('completed', 25, 2)
        """
        return self._run(self._client.run(module, items, **spec))

    def status(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """Return a job's status.

        >>> status = swarm.status(job_id)
        >>> status["state"], status["progress"]["items_done"]
        ('completed', 100)
        """
        return self._run(self._client.status(job_id, wait_s))

    def wait(
        self,
        job_id: str,
        *,
        progress: Callable[[dict[str, Any]], None] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Wait for a job and return its final status.

        >>> status = swarm.wait(job_id, progress=lambda status: print(status["state"]))
        completed
        >>> status["result"]
        25
        """
        return self._run(self._client.wait(job_id, progress=progress, **options))

    def result(self, job_id: str, *, partial: bool = False) -> bytes:
        """Return the bytes of a completed job's result, or of a `partial` one.

        >>> swarm.result(job_id)
        b'25'
        """
        return self._run(self._client.result(job_id, partial=partial))

    def data(self, sha: str) -> bytes:
        """Return the bytes with that SHA-256.

        >>> swarm.data("0" * 64)
        Traceback (most recent call last):
        swarm_hub.client.errors.ApiError: /api/v1/data/... needs content:, ...
        """
        return self._run(self._client.data(sha))

    def jobs(self, limit: int | None = 50, **options: Any) -> list[dict[str, Any]]:
        """Return the newest jobs, all of them with a `limit` of None.

        >>> newest = swarm.jobs(limit=1, wanted={"state": "completed"})
        >>> newest[0]["state"]
        'completed'
        """
        return self._run(self._client.jobs(limit, **options))

    def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's shards with every attempt.

        >>> [shard["state"] for shard in swarm.shards(job_id)]
        ['done', 'done']
        """
        return self._run(self._client.shards(job_id))

    def shard_result(self, job_id: str, index: int) -> bytes:
        """Return the bytes that one shard of a job gave, whether the job has ended or not.

        >>> swarm.shard_result(job_id, 0)
        b'15'
        """
        return self._run(self._client.shard_result(job_id, index))

    def failures(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a job that failed, each range once and in their order.

        >>> [failure["message"] for failure in swarm.failures(job_id)]
        []
        """
        return self._each(self._client.failures(job_id))

    def receipts(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Yield the results of a job that have receipts, page by page, with those receipts.

        >>> [page["why_none"] for page in swarm.receipts(job_id)]
        ["this job's gateway keeps receipts of redundant jobs only; ..."]
        """
        return self._each(self._client.receipts(job_id))

    def story(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's transitions in order, the first 10,000 of those after a `seq`.

        >>> [event["event_type"] for event in swarm.story(job_id)][:2]
        ['job_queued', 'job_running']
        """
        return self._run(self._client.story(job_id, after))

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status.

        >>> job_id = swarm.submit("primes.wat", range(10**9))
        >>> swarm.cancel(job_id)["state"]
        'cancelled'
        """
        return self._run(self._client.cancel(job_id))

    def nodes(self) -> list[dict[str, Any]]:
        """Return every node the gateway has met.

        >>> "up" in [node["state"] for node in swarm.nodes()]
        True
        """
        return self._run(self._client.nodes())

    def change(self, job_id: str, **values: Any) -> dict[str, Any]:
        """Change `priority`, `labels` or `deadline_s` of an unfinished job; returns its status.

        >>> gpu = {"node_labels": {"gpu": "yes"}}
        >>> waiting = swarm.submit("primes.wat", range(100), constraints=gpu)
        >>> swarm.change(waiting, priority=50)["spec"]["priority"]
        50
        >>> swarm.cancel(waiting)["state"]
        'cancelled'
        """
        return self._run(self._client.change(job_id, **values))

    def cancel_many(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Cancel up to 500 jobs; returns what became of each.

        >>> swarm.cancel_many([job_id])[0]["code"]
        'job_ended'
        """
        return self._run(self._client.cancel_many(job_ids))

    def resubmit(
        self,
        job_id: str,
        *,
        items: str | Sequence[Mapping[str, int]] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> str:
        """Submit a job once more, with some keys of its spec changed; returns the new one's id.

        `items="failed"` takes those of its items that failed, `[{"first_item": 3, "n_items": 2}]`
        those that it names.

        >>> again = swarm.resubmit(job_id, labels={"run": "2"})
        >>> swarm.wait(again)["labels"]
        {'run': '2'}
        """
        return self._run(
            self._client.resubmit(job_id, items=items, idempotency_key=idempotency_key, **spec)
        )

    def node_action(self, node_id: str, action: str, **content: Any) -> dict[str, Any]:
        """Do `ban`, `unban`, `drain` or `undrain` to a node; returns it.

        >>> swarm.node_action(node_id, "drain", reason="new battery")["drain_reason"]
        'new battery'
        >>> swarm.node_action(node_id, "undrain")["state"]
        'up'
        """
        return self._run(self._client.node_action(node_id, action, **content))

    def system(self) -> dict[str, Any]:
        """Return what the hub is made of: its versions, roles, limits and components.

        >>> "gateway" in swarm.system()["components"]
        True
        """
        return self._run(self._client.system())

    def page_code(self, scope: str, name: str = "") -> dict[str, Any]:
        """Make a code that lets the hub's page in once, with a token of this client's owner.

        `urls` are where browsers find the hub; the code follows behind `/#code=`.

        >>> swarm.page_code("read")["expires_s"]
        600.0
        """
        return self._run(self._client.page_code(scope, name))

    def worker(self) -> dict[str, Any]:
        """Return what the hub's own worker does, and why it takes no work if it takes none.

        >>> swarm.worker()["paused"] is None
        True
        """
        return self._run(self._client.worker())

    def pause(self, for_s: float | None = None) -> dict[str, Any]:
        """Have the hub's own worker take no work, for so long or until `resume`; returns it.

        >>> swarm.pause(for_s=3600)["paused"]
        {'until': '...'}
        >>> swarm.resume()["paused"] is None
        True
        """
        return self._run(self._client.pause(for_s))

    def resume(self) -> dict[str, Any]:
        """End the pause of the hub's own worker; returns it.

        >>> swarm.resume()["paused"] is None
        True
        """
        return self._run(self._client.resume())

    def banned_networks(self) -> list[dict[str, Any]]:
        """Return the networks that are banned, with reason and end.

        >>> swarm.banned_networks()
        []
        """
        return self._run(self._client.banned_networks())

    def ban_network(self, network: str, **content: Any) -> dict[str, Any]:
        """Refuse every address of a range such as 10.1.0.0/16; returns the ban.

        >>> swarm.ban_network("10.9.0.0/16", reason="a flood", for_s=3600)["network"]
        '10.9.0.0/16'
        >>> swarm.unban_network("10.9.0.0/16")
        """
        return self._run(self._client.ban_network(network, **content))

    def unban_network(self, network: str) -> None:
        """Let a network in again.

        >>> _ = swarm.ban_network("10.9.0.0/16")
        >>> swarm.unban_network("10.9.0.0/16")
        >>> swarm.banned_networks()
        []
        """
        self._run(self._client.unban_network(network))

    def approve(self, node_id: str) -> dict[str, Any]:
        """Admit a node that waits for approval, or one that has yet to connect.

        >>> swarm.approve("12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5")["state"]
        'approved'
        """
        return self._run(self._client.approve(node_id))

    def invite(
        self, expires_s: float, addresses: Sequence[str] = (), owner: str | None = None
    ) -> dict[str, Any]:
        """Make an invitation; returns it with its `link`, which admits one node.

        >>> swarm.invite(expires_s=600, owner="ada")["link"]
        'swarmhub://join/1/...'
        """
        return self._run(self._client.invite(expires_s, addresses, owner))

    def invites(self) -> list[dict[str, Any]]:
        """Return the invitations that are kept.

        >>> made = swarm.invite(expires_s=600)
        >>> made["id"] in [invite["id"] for invite in swarm.invites()]
        True
        """
        return self._run(self._client.invites())

    def revoke_invite(self, invite_id: str) -> None:
        """Remove an invitation; who was admitted by it stays.

        >>> made = swarm.invite(expires_s=600)
        >>> swarm.revoke_invite(made["id"])
        """
        self._run(self._client.revoke_invite(invite_id))

    def events(self, since: int | None = None, **wanted: Any) -> Iterator[dict[str, Any]]:
        """Yield events as they happen; `since` first yields every durable one after that `seq`.

        >>> events = swarm.events(since=0)
        >>> next(events)["event_type"]
        'node_up'
        >>> events.close()
        """
        return self._each(self._client.events(since, **wanted))

    def health(self) -> dict[str, Any]:
        """Return the hub's health.

        >>> swarm.health()["state"]
        'running'
        """
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
