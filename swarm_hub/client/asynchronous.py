"""The asyncio client.

It is long because it has a method for each call of the API.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import aiohttp

from swarm_hub.client import submission, uploads
from swarm_hub.client.errors import ApiError, ClientError, JobFailedError, UnreachableError
from swarm_hub.client.reach import Reach
from swarm_hub.client.submission import Module
from swarm_hub.client.uploads import Source
from swarm_hub.const import API_ROOT, DEFAULT_URL, WEBSOCKET_PATH

_WAIT_S: Final = 30
_FINISHED: Final = ("completed", "failed", "cancelled")
# A gateway that restarts is back within seconds; a poll that fails meanwhile doesn't fail the job.
_PATIENCE_S: Final = 30.0
_RETRY_S: Final = 0.25
_PAGE_MAX: Final = 500
_EVERYTHING: Final[Mapping[str, int | str]] = MappingProxyType({})


class SwarmClient:
    """Talks to one hub: `async with SwarmClient(url, token) as swarm: …`.

    Every call raises UnreachableError when no hub answers and ApiError when it refuses.

    >>> async with SwarmClient(url, token) as swarm:
    ...     await swarm.map("primes.wat", range(100), reduce="sum")
    25

    The examples of the calls have a connected `swarm`, and the `job_id` of a job like this one.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None) -> None:
        self._reach = Reach.parse(url)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._open = ExitStack()
        self._takes_cbor = True
        self._takes_blobs = True
        # The hashes of those that the hub has.
        self._modules_there: set[str] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=self._open.enter_context(self._reach.connector()),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self._open.close()

    async def map(
        self,
        module: Module,
        items: Any,
        *,
        reduce: str | None = None,
        **spec: Any,
    ) -> Any:
        """Run a module over items and return the folded result.

        `items` is a `range`, bytes, a path or a list of paths (files), or a list of JSON values.
        Numbers and JSON come as Python values, the others as bytes.
        Raises JobFailedError.

        >>> await swarm.map("primes.wat", range(100), reduce="sum")
        25
        >>> counts = await swarm.map("wordcount.wat", b"to be or not", split="lines", reduce="json")
        >>> sorted(counts)
        ['be', 'not', 'or', 'to']
        """
        status = await self.run(module, items, reduce=reduce, **spec)
        job_id = status["job_id"]
        if status["state"] != "completed":
            raise JobFailedError(status)
        if "result" in status:
            return status["result"]
        async with self._request("GET", f"/jobs/{job_id}/result") as response:
            body = await response.read()
            return json.loads(body) if response.content_type == "application/json" else body

    async def submit(
        self,
        module: Module,
        items: Any,
        *,
        script: Path | str | tuple[str, bytes] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> str:
        """Submit a job; returns its id once the hub has it on disk.

        `script` is what the module interprets: a path, or a name and its bytes.

        >>> job_id = await swarm.submit("primes.wat", range(100), priority=10, shard_size=50)
        >>> (await swarm.wait(job_id))["state"]
        'completed'
        """
        async with self._submitting(module, items, script, idempotency_key, spec, 0) as response:
            return str((await response.json())["job_id"])

    async def run(
        self,
        module: Module,
        items: Any,
        *,
        script: Path | str | tuple[str, bytes] | None = None,
        idempotency_key: str | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """Submit a job, wait for it and return its final status.

        A short job takes one request. Once the hub has it on disk this also waits for a hub that
        restarts.

        >>> status = await swarm.run("primes.wat", range(100), shard_size=50)
        >>> status["state"], status["result"], status["progress"]["shards"]
        ('completed', 25, 2)
        """
        job_id = None
        try:
            async with self._submitting(
                module, items, script, idempotency_key, spec, _WAIT_S
            ) as response:
                first = json.loads(await response.content.readline())
                job_id = str(first["job_id"])
                last = await response.content.readline()
                status: dict[str, Any] = json.loads(last) if last else first
        except UnreachableError:
            if job_id is None:
                raise
        else:
            if status.get("state") in _FINISHED:
                return status
        return await self.wait(job_id)

    @asynccontextmanager
    async def _submitting(
        self,
        module: Module,
        items: Any,
        script: Path | str | tuple[str, bytes] | None,
        idempotency_key: str | None,
        spec: Mapping[str, Any],
        wait_s: int,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        job = submission.Job.of(module, items, script, spec)
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        query = {"wait": wait_s} if wait_s else {}
        named = await self._uploaded(job)
        for body in self._bodies(job, named):
            kind = {} if isinstance(body, aiohttp.FormData) else {"Content-Type": submission.CBOR}
            try:
                async with self._request(
                    "POST", "/jobs", params=query, data=body, headers={**headers, **kind}
                ) as response:
                    if isinstance(body, bytes) and job.module_sha:
                        self._modules_there.add(job.module_sha)
                    yield response
                    return
            except ApiError as error:
                if error.code == "unsupported_media_type" and isinstance(body, bytes):
                    # A hub of an earlier version takes forms only.
                    self._takes_cbor = False
                elif error.code == "unknown_module" and isinstance(body, bytes):
                    self._modules_there.discard(job.module_sha)
                elif error.code in ("unknown_module", "unknown_blob") and named:
                    # It went already, for lack of room.
                    named.clear()
                else:
                    raise

    async def _uploaded(self, job: submission.Job) -> dict[Source, str]:
        """Send what is large of a job, if the hub lacks it; returns the hashes to name it by."""
        named: dict[Source, str] = {}
        for source in job.large() if self._takes_blobs else ():
            sha = await uploads.hash_of(source)
            try:
                await uploads.ensure(self._json, source, sha)
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

    def _bodies(
        self, job: submission.Job, named: Mapping[Source, str]
    ) -> Iterator[bytes | aiohttp.FormData]:
        """Yield the ways to say a job, each for a hub that does not take the one before."""
        if named:
            yield job.as_form(named)
        if self._takes_cbor and job.module_sha in self._modules_there and job.is_small(0):
            yield job.as_cbor(by_hash=True)
        if self._takes_cbor and job.is_small(len(job.module)):
            yield job.as_cbor(by_hash=False)
        yield job.as_form({})

    async def status(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """Return a job's status; `wait_s` (at most 60) holds the answer until its state changes.

        >>> status = await swarm.status(job_id)
        >>> status["state"], status["progress"]["items_done"]
        ('completed', 100)
        """
        found: dict[str, Any] = await self._json("GET", f"/jobs/{job_id}", query={"wait": wait_s})
        return found

    async def wait(
        self,
        job_id: str,
        *,
        progress: Callable[[dict[str, Any]], None] | None = None,
        every_s: float = _WAIT_S,
    ) -> dict[str, Any]:
        """Wait for a job and return its final status; also waits for a gateway that restarts.

        >>> status = await swarm.wait(job_id, progress=lambda status: print(status["state"]))
        completed
        >>> status["result"]
        25
        """
        lost_at: float | None = None
        while True:
            try:
                status = await self.status(job_id, wait_s=max(1, round(every_s)))
            except UnreachableError:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > _PATIENCE_S:
                    raise
                await asyncio.sleep(_RETRY_S)
                continue
            except ApiError as error:
                # Asked too often, or the hub is busy: the job goes on meanwhile.
                if error.status not in (429, 503) or error.retry_after_s is None:
                    raise
                await asyncio.sleep(max(_RETRY_S, error.retry_after_s))
                continue
            lost_at = None
            if progress is not None:
                progress(status)
            if status["state"] in _FINISHED:
                return status

    async def result(self, job_id: str, *, partial: bool = False) -> bytes:
        """Return the bytes of a completed job's result.

        With `partial` those of what was done of a job that failed or was cancelled; the status has
        how much that is.

        >>> await swarm.result(job_id)
        b'25'
        """
        query = {"partial": "true"} if partial else {}
        async with self._request("GET", f"/jobs/{job_id}/result", params=query) as response:
            return await response.read()

    async def data(self, sha: str) -> bytes:
        """Return the bytes with that SHA-256, from the hub or wherever it finds them.

        >>> await swarm.data("0" * 64)
        Traceback (most recent call last):
        swarm_hub.client.errors.ApiError: /api/v1/data/... needs content:, ...
        """
        async with self._request("GET", f"/data/{sha}") as response:
            return await response.read()

    async def jobs(
        self, limit: int | None = 50, wanted: Mapping[str, int | str] = _EVERYTHING
    ) -> list[dict[str, Any]]:
        """Return the newest jobs, all of them with a `limit` of None.

        `wanted` narrows them: `state` (several with commas between them), `owner`, `since` (seconds
        since 1970), `text`, and `label.NAME`.

        >>> newest = await swarm.jobs(limit=1, wanted={"state": "completed"})
        >>> newest[0]["state"]
        'completed'
        """
        found: list[dict[str, Any]] = []
        query = dict(wanted)
        while True:
            left = _PAGE_MAX if limit is None else min(_PAGE_MAX, limit - len(found))
            page = await self._json("GET", "/jobs", query={**query, "limit": left})
            found += page["jobs"]
            # A page may be short, or empty, without being the last.
            if page["cursor"] is None or (limit is not None and len(found) >= limit):
                return found
            query["cursor"] = page["cursor"]

    async def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return a job's shards with every attempt.

        >>> [shard["state"] for shard in await swarm.shards(job_id)]
        ['done', 'done']
        """
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = {"cursor": cursor} if cursor else {}
            page = await self._json("GET", f"/jobs/{job_id}/shards", query=query)
            found += page["shards"]
            # A hub of an earlier version sends all at once.
            cursor = page.get("cursor")
        return found

    async def shard_result(self, job_id: str, index: int) -> bytes:
        """Return the bytes that one shard of a job gave, whether the job has ended or not.

        >>> await swarm.shard_result(job_id, 0)
        b'15'
        """
        path = f"/jobs/{job_id}/shards/{index}/result"
        async with self._request("GET", path) as response:
            return await response.read()

    async def failures(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the items of a job that failed, each range once and in their order.

        >>> [failure["message"] async for failure in swarm.failures(job_id)]
        []
        """
        cursor: str | None = ""
        while cursor is not None:
            query = {"cursor": cursor} if cursor else {}
            page = await self._json("GET", f"/jobs/{job_id}/failures", query=query)
            for each in page["failures"]:
                yield each
            cursor = page["cursor"]

    async def receipts(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the results of a job that have receipts, page by page, with those receipts.

        `swarm_hub.models.receipt` checks them. `why_none` says why a job has none.

        >>> [page["why_none"] async for page in swarm.receipts(job_id)]
        ["this job's gateway keeps receipts of redundant jobs only; ..."]
        """
        cursor: str | None = ""
        while cursor is not None:
            query = {"cursor": cursor} if cursor else {}
            page = await self._json("GET", f"/jobs/{job_id}/receipts", query=query)
            yield page
            cursor = page["cursor"]

    async def story(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's transitions in order, the first 10,000 of those after a `seq`.

        >>> [event["event_type"] for event in await swarm.story(job_id)][:2]
        ['job_queued', 'job_running']
        """
        query = {"limit": 10_000, "after": after}
        answer = await self._json("GET", f"/jobs/{job_id}/story", query=query)
        found: list[dict[str, Any]] = answer["events"]
        return found

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status.

        >>> job_id = await swarm.submit("primes.wat", range(10**9))
        >>> (await swarm.cancel(job_id))["state"]
        'cancelled'
        """
        answer: dict[str, Any] = await self._json("DELETE", f"/jobs/{job_id}")
        return answer

    async def change(self, job_id: str, **values: Any) -> dict[str, Any]:
        """Change `priority`, `labels` or `deadline_s` of an unfinished job; returns its status.

        >>> gpu = {"node_labels": {"gpu": "yes"}}
        >>> waiting = await swarm.submit("primes.wat", range(100), constraints=gpu)
        >>> (await swarm.change(waiting, priority=50))["spec"]["priority"]
        50
        >>> (await swarm.cancel(waiting))["state"]
        'cancelled'
        """
        answer: dict[str, Any] = await self._json("PATCH", f"/jobs/{job_id}", json=values)
        return answer

    async def cancel_many(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Cancel up to 500 jobs; returns what became of each.

        >>> (await swarm.cancel_many([job_id]))[0]["code"]
        'job_ended'
        """
        answer = await self._json("POST", "/jobs/cancel", json={"ids": list(job_ids)})
        found: list[dict[str, Any]] = answer["jobs"]
        return found

    async def resubmit(
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

        >>> again = await swarm.resubmit(job_id, labels={"run": "2"})
        >>> (await swarm.wait(again))["labels"]
        {'run': '2'}
        """
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        # Gateways of an earlier version know no `items`.
        body = {"spec": spec} if items is None else {"spec": spec, "items": items}
        answer = await self._json("POST", f"/jobs/{job_id}/resubmit", json=body, headers=headers)
        return str(answer["job_id"])

    async def nodes(self) -> list[dict[str, Any]]:
        """Return every node the gateway has met.

        >>> "up" in [node["state"] for node in await swarm.nodes()]
        True
        """
        answer = await self._json("GET", "/nodes")
        found: list[dict[str, Any]] = answer["nodes"]
        return found

    async def node_action(self, node_id: str, action: str, **content: Any) -> dict[str, Any]:
        """Do `ban`, `unban`, `drain` or `undrain` to a node; returns it.

        `ban` takes `reason` and `for_s` (seconds, None for no end), `drain` a `reason`.

        >>> (await swarm.node_action(node_id, "drain", reason="new battery"))["drain_reason"]
        'new battery'
        >>> (await swarm.node_action(node_id, "undrain"))["state"]
        'up'
        """
        answer: dict[str, Any] = await self._json(
            "POST", f"/nodes/{node_id}/{action}", json=content
        )
        return answer

    async def system(self) -> dict[str, Any]:
        """Return what the hub is made of: its versions, roles, limits and components.

        >>> "gateway" in (await swarm.system())["components"]
        True
        """
        answer: dict[str, Any] = await self._json("GET", "/system")
        return answer

    async def page_code(self, scope: str, name: str = "") -> dict[str, Any]:
        """Make a code that lets the hub's page in once, with a token of this client's owner.

        `urls` are where browsers find the hub; the code follows behind `/#code=`.

        >>> (await swarm.page_code("read"))["expires_s"]
        600.0
        """
        content = {"scope": scope, "name": name}
        answer: dict[str, Any] = await self._json("POST", "/sessions/codes", json=content)
        return answer

    async def worker(self) -> dict[str, Any]:
        """Return what the hub's own worker does, and why it takes no work if it takes none.

        >>> (await swarm.worker())["paused"] is None
        True
        """
        answer: dict[str, Any] = await self._json("GET", "/worker")
        return answer

    async def pause(self, for_s: float | None = None) -> dict[str, Any]:
        """Have the hub's own worker take no work, for so long or until `resume`; returns it.

        >>> (await swarm.pause(for_s=3600))["paused"]
        {'until': '...'}
        >>> (await swarm.resume())["paused"] is None
        True
        """
        content = {"for_s": for_s}
        answer: dict[str, Any] = await self._json("POST", "/worker/pause", json=content)
        return answer

    async def resume(self) -> dict[str, Any]:
        """End the pause of the hub's own worker; returns it.

        >>> (await swarm.resume())["paused"] is None
        True
        """
        answer: dict[str, Any] = await self._json("POST", "/worker/resume")
        return answer

    async def banned_networks(self) -> list[dict[str, Any]]:
        """Return the networks that are banned, with reason and end.

        >>> await swarm.banned_networks()
        []
        """
        answer = await self._json("GET", "/networks")
        found: list[dict[str, Any]] = answer["networks"]
        return found

    async def ban_network(
        self, network: str, *, reason: str = "", for_s: float | None = None, force: bool = False
    ) -> dict[str, Any]:
        """Refuse every address of a range such as 10.1.0.0/16; returns the ban.

        One that the gateway itself is in is banned only with `force`.

        >>> (await swarm.ban_network("10.9.0.0/16", reason="a flood", for_s=3600))["network"]
        '10.9.0.0/16'
        >>> await swarm.unban_network("10.9.0.0/16")
        """
        content = {"network": network, "reason": reason, "for_s": for_s, "force": force}
        answer: dict[str, Any] = await self._json("POST", "/networks/ban", json=content)
        return answer

    async def unban_network(self, network: str) -> None:
        """Let a network in again.

        >>> _ = await swarm.ban_network("10.9.0.0/16")
        >>> await swarm.unban_network("10.9.0.0/16")
        >>> await swarm.banned_networks()
        []
        """
        await self._json("POST", "/networks/unban", json={"network": network})

    async def approve(self, node_id: str) -> dict[str, Any]:
        """Admit a node that waits for approval, or one that has yet to connect.

        >>> (await swarm.approve("12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"))["state"]
        'approved'
        """
        return await self.node_action(node_id, "approve")

    async def invite(
        self, expires_s: float, addresses: Sequence[str] = (), owner: str | None = None
    ) -> dict[str, Any]:
        """Make an invitation; returns it with its `link`, which admits one node.

        All nodes of one `owner` have one vote where results are compared.

        >>> (await swarm.invite(expires_s=600, owner="ada"))["link"]
        'swarmhub://join/1/...'
        """
        content = {"expires_s": expires_s, "addresses": list(addresses), "owner": owner}
        answer: dict[str, Any] = await self._json("POST", "/invites", json=content)
        return answer

    async def invites(self) -> list[dict[str, Any]]:
        """Return the invitations that are kept.

        >>> made = await swarm.invite(expires_s=600)
        >>> made["id"] in [invite["id"] for invite in await swarm.invites()]
        True
        """
        answer = await self._json("GET", "/invites")
        found: list[dict[str, Any]] = answer["invites"]
        return found

    async def revoke_invite(self, invite_id: str) -> None:
        """Remove an invitation; who was admitted by it stays.

        >>> made = await swarm.invite(expires_s=600)
        >>> await swarm.revoke_invite(made["id"])
        """
        await self._json("DELETE", f"/invites/{invite_id}")

    async def health(self) -> dict[str, Any]:
        """Return the hub's health; of a hub that is not well it says so in `problems`.

        >>> (await swarm.health())["state"]
        'running'
        """
        async with self._request("GET", "/health", also=(503,)) as response:
            answer: dict[str, Any] = await response.json()
        return answer

    async def events(
        self, since: int | None = None, **wanted: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield events as they happen; `since` first yields every durable one after that `seq`.

        `wanted` are the filters of `subscribe_events`: `event_type`, `job_id`, `node_id`, `label`.
        Ends when the hub closes the connection. Raises ClientError when events were lost.

        >>> from contextlib import aclosing
        >>> async with aclosing(swarm.events(since=0)) as events:
        ...     (await anext(events))["event_type"]
        'node_up'
        """
        try:
            async with self._live.ws_connect(f"{self._reach.base}{WEBSOCKET_PATH}") as socket:
                await socket.receive_json(timeout=10)
                await socket.send_json({"type": "auth", "access_token": self._token or ""})
                if (await socket.receive_json(timeout=10))["type"] != "auth_ok":
                    raise ApiError(401, "unauthorized", "the hub does not know this token")
                command = {"id": 1, "type": "subscribe_events", **wanted}
                await socket.send_json(command if since is None else {**command, "since": since})
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return
                    content = json.loads(message.data)
                    if content["type"] == "event":
                        yield content["event"]
                    elif (refused := content.get("error")) is not None:
                        raise ApiError(400, refused["code"], refused["message"])
                    elif (content.get("result") or {}).get("events_lost"):
                        raise ClientError("events were lost: they are no longer kept")
        except aiohttp.ClientConnectionError as error:
            raise _unreachable(self._reach.url, error) from error

    @property
    def _live(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise ClientError("use it as: async with SwarmClient(…) as swarm")
        return self._session

    async def _json(
        self, method: str, path: str, query: Mapping[str, int | str] | None = None, **options: Any
    ) -> Any:
        async with self._request(method, path, params=query, **options) as response:
            return await response.json()

    def _request(
        self, method: str, path: str, *, also: Sequence[int] = (), **options: Any
    ) -> "_Checked":
        url = f"{self._reach.base}{API_ROOT}{path}"
        return _Checked(self._reach.url, self._live.request(method, url, **options), also)


class _Checked:
    """A request whose failure is one of the client's errors; `also` are statuses that are none."""

    def __init__(self, url: str, request: Any, also: Sequence[int]) -> None:
        self._also = also
        self._url = url
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._request.__aenter__()
        except aiohttp.InvalidURL as error:
            raise ClientError(f"{self._url} is not the address of a hub: {error}") from error
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise _unreachable(self._url, error) from error
        if response.status < 400 or response.status in self._also:
            return response
        try:
            content = await response.json()
            code, message = str(content["code"]), str(content["message"])
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            code, message = "http", f"{response.status} {response.reason}"
        await self._request.__aexit__(None, None, None)
        told = response.headers.get("Retry-After", "")
        wait_s = float(told) if told.isascii() and told.isdigit() and len(told) < 9 else None
        raise ApiError(response.status, code, message, wait_s)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        # The hub may be killed between an answer's head and its end.
        if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
            raise _unreachable(self._url, error) from error


def _unreachable(url: str, error: BaseException) -> ClientError:
    match error:
        case aiohttp.ServerFingerprintMismatch():
            return ClientError(
                f"{url}: another key answers there than that of the fingerprint: its certificate's "
                f"is sha256={error.got.hex()}; nothing was sent. Compare it with what `swarm-hub "
                "status` shows on the hub's device"
            )
        case aiohttp.ClientConnectorCertificateError():
            return ClientError(
                f"{url}: its certificate is not trusted here ({error.certificate_error}); if it is "
                "self-signed, append the fingerprint that `swarm-hub status` shows on the hub's "
                f"device: {url}#sha256=…"
            )
    return UnreachableError(
        f"no hub answers at {url}; is it running (swarm-hub run), and is that its address?"
    )
