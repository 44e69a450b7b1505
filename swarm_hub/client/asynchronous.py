"""The asyncio client.

It is long because it has a method for each call of the API.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import aiohttp

from swarm_hub.client import submission
from swarm_hub.client.errors import ApiError, ClientError, JobFailedError, UnreachableError
from swarm_hub.client.submission import Module
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
    """

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._takes_cbor = True
        # The hashes of those that the hub has.
        self._modules_there: set[str] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
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
        for body in self._bodies(job):
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
                elif error.code == "unknown_module":
                    self._modules_there.discard(job.module_sha)
                else:
                    raise

    def _bodies(self, job: submission.Job) -> Iterator[bytes | aiohttp.FormData]:
        """Yield the ways to say a job, each for a hub that does not take the one before."""
        if self._takes_cbor and job.module_sha in self._modules_there and job.is_small(0):
            yield job.as_cbor(by_hash=True)
        if self._takes_cbor and job.is_small(len(job.module)):
            yield job.as_cbor(by_hash=False)
        yield job.as_form()

    async def status(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """Return a job's status; `wait_s` (at most 60) holds the answer until its state changes."""
        found: dict[str, Any] = await self._json("GET", f"/jobs/{job_id}", query={"wait": wait_s})
        return found

    async def wait(
        self,
        job_id: str,
        *,
        progress: Callable[[dict[str, Any]], None] | None = None,
        every_s: float = _WAIT_S,
    ) -> dict[str, Any]:
        """Wait for a job and return its final status; also waits for a gateway that restarts."""
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
            lost_at = None
            if progress is not None:
                progress(status)
            if status["state"] in _FINISHED:
                return status

    async def result(self, job_id: str, *, partial: bool = False) -> bytes:
        """Return the bytes of a completed job's result.

        With `partial` those of what was done of a job that failed or was cancelled; the status has
        how much that is.
        """
        query = {"partial": "true"} if partial else {}
        async with self._request("GET", f"/jobs/{job_id}/result", params=query) as response:
            return await response.read()

    async def data(self, sha: str) -> bytes:
        """Return the bytes with that SHA-256, from the hub or wherever it finds them."""
        async with self._request("GET", f"/data/{sha}") as response:
            return await response.read()

    async def jobs(
        self, limit: int | None = 50, wanted: Mapping[str, int | str] = _EVERYTHING
    ) -> list[dict[str, Any]]:
        """Return the newest jobs, all of them with a `limit` of None.

        `wanted` narrows them: `state` (several with commas between them), `owner`, `since` (seconds
        since 1970), `text`, and `label.NAME`.
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
        """Return a job's shards with every attempt."""
        answer = await self._json("GET", f"/jobs/{job_id}/shards")
        found: list[dict[str, Any]] = answer["shards"]
        return found

    async def shard_result(self, job_id: str, index: int) -> bytes:
        """Return the bytes that one shard of a job gave, whether the job has ended or not."""
        path = f"/jobs/{job_id}/shards/{index}/result"
        async with self._request("GET", path) as response:
            return await response.read()

    async def failures(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the items of a job that failed, each range once and in their order."""
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
        """
        cursor: str | None = ""
        while cursor is not None:
            query = {"cursor": cursor} if cursor else {}
            page = await self._json("GET", f"/jobs/{job_id}/receipts", query=query)
            yield page
            cursor = page["cursor"]

    async def story(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's transitions in order, the first 10,000 of those after a `seq`."""
        query = {"limit": 10_000, "after": after}
        answer = await self._json("GET", f"/jobs/{job_id}/story", query=query)
        found: list[dict[str, Any]] = answer["events"]
        return found

    async def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status."""
        answer: dict[str, Any] = await self._json("DELETE", f"/jobs/{job_id}")
        return answer

    async def resubmit(self, job_id: str) -> str:
        """Submit a job once more; returns the id of the new one."""
        answer = await self._json("POST", f"/jobs/{job_id}/resubmit", json={"spec": {}})
        return str(answer["job_id"])

    async def nodes(self) -> list[dict[str, Any]]:
        """Return every node the gateway has met."""
        answer = await self._json("GET", "/nodes")
        found: list[dict[str, Any]] = answer["nodes"]
        return found

    async def node_action(self, node_id: str, action: str, **content: Any) -> dict[str, Any]:
        """Do `ban`, `unban`, `drain` or `undrain` to a node; returns it.

        `ban` takes `reason` and `for_s` (seconds, None for no end), `drain` a `reason`.
        """
        answer: dict[str, Any] = await self._json(
            "POST", f"/nodes/{node_id}/{action}", json=content
        )
        return answer

    async def worker(self) -> dict[str, Any]:
        """Return what the hub's own worker does, and why it takes no work if it takes none."""
        answer: dict[str, Any] = await self._json("GET", "/worker")
        return answer

    async def pause(self, for_s: float | None = None) -> dict[str, Any]:
        """Have the hub's own worker take no work, for so long or until `resume`; returns it."""
        content = {"for_s": for_s}
        answer: dict[str, Any] = await self._json("POST", "/worker/pause", json=content)
        return answer

    async def resume(self) -> dict[str, Any]:
        """End the pause of the hub's own worker; returns it."""
        answer: dict[str, Any] = await self._json("POST", "/worker/resume")
        return answer

    async def banned_networks(self) -> list[dict[str, Any]]:
        """Return the networks that are banned, with reason and end."""
        answer = await self._json("GET", "/networks")
        found: list[dict[str, Any]] = answer["networks"]
        return found

    async def ban_network(
        self, network: str, *, reason: str = "", for_s: float | None = None, force: bool = False
    ) -> dict[str, Any]:
        """Refuse every address of a range such as 10.1.0.0/16; returns the ban.

        One that the gateway itself is in is banned only with `force`.
        """
        content = {"network": network, "reason": reason, "for_s": for_s, "force": force}
        answer: dict[str, Any] = await self._json("POST", "/networks/ban", json=content)
        return answer

    async def unban_network(self, network: str) -> None:
        """Let a network in again."""
        await self._json("POST", "/networks/unban", json={"network": network})

    async def approve(self, node_id: str) -> dict[str, Any]:
        """Admit a node that waits for approval, or one that has yet to connect."""
        return await self.node_action(node_id, "approve")

    async def invite(
        self, expires_s: float, addresses: Sequence[str] = (), owner: str | None = None
    ) -> dict[str, Any]:
        """Make an invitation; returns it with its `link`, which admits one node.

        All nodes of one `owner` have one vote where results are compared.
        """
        content = {"expires_s": expires_s, "addresses": list(addresses), "owner": owner}
        answer: dict[str, Any] = await self._json("POST", "/invites", json=content)
        return answer

    async def invites(self) -> list[dict[str, Any]]:
        """Return the invitations that are kept."""
        answer = await self._json("GET", "/invites")
        found: list[dict[str, Any]] = answer["invites"]
        return found

    async def revoke_invite(self, invite_id: str) -> None:
        """Remove an invitation; who was admitted by it stays."""
        await self._json("DELETE", f"/invites/{invite_id}")

    async def health(self) -> dict[str, Any]:
        """Return the hub's health; of a hub that is not well it says so in `problems`."""
        async with self._request("GET", "/health", also=(503,)) as response:
            answer: dict[str, Any] = await response.json()
        return answer

    async def events(
        self, since: int | None = None, **wanted: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield events as they happen; `since` first yields every durable one after that `seq`.

        `wanted` are the filters of `subscribe_events`: `event_type`, `job_id`, `node_id`, `label`.
        Ends when the hub closes the connection. Raises ClientError when events were lost.
        """
        try:
            async with self._live.ws_connect(f"{self._url}{WEBSOCKET_PATH}") as socket:
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
            raise _unreachable(self._url) from error

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
        url = f"{self._url}{API_ROOT}{path}"
        return _Checked(self._url, self._live.request(method, url, **options), also)


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
            raise _unreachable(self._url) from error
        if response.status < 400 or response.status in self._also:
            return response
        try:
            content = await response.json()
            code, message = str(content["code"]), str(content["message"])
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            code, message = "http", f"{response.status} {response.reason}"
        await self._request.__aexit__(None, None, None)
        raise ApiError(response.status, code, message)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        # The hub may be killed between an answer's head and its end.
        if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
            raise _unreachable(self._url) from error


def _unreachable(url: str) -> UnreachableError:
    return UnreachableError(
        f"no hub answers at {url}; is it running (swarm-hub run), and is that its address?"
    )
