"""Calls about jobs that were submitted; a job is its id, a handle or a status of it."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import aiohttp

from swarm_hub.client.calls import Calls, id_of
from swarm_hub.client.errors import UNAUTHORIZED, ApiError, ClientError
from swarm_hub.client.gateways import Gateway, as_bytes, told, unauthorized
from swarm_hub.client.records import Event, Failure, JobStatus, Record, Shard
from swarm_hub.const import WEBSOCKET_PATH

AnyJob = str | Mapping[str, Any]

_PAGE_MAX: Final = 500
# Of the websocket; a pong has half of that time.
_PING_EVERY_S: Final = 5.0
_ANSWERED_WITHIN_S: Final = 5.0
_CLOSED_WITHIN: Final = aiohttp.ClientWSTimeout(ws_close=1.0)
_EVERYTHING: Final[Mapping[str, int | str]] = MappingProxyType({})


class JobCalls(Calls):
    """Those that ask once."""

    async def status(self, job: AnyJob, wait_s: int = 0) -> JobStatus:
        """Return a job's status; `wait_s` (at most 60) holds the answer until its state changes.

        >>> status = await swarm.status(job_id)
        >>> status.state, status.progress.items_done
        ('completed', 100)
        """
        return JobStatus(
            await self._json("GET", f"/jobs/{id_of(job)}", {"wait": wait_s}, hold_s=wait_s)
        )

    async def result(self, job: AnyJob, *, partial: bool = False) -> bytes:
        """Return the bytes of a completed job's result.

        With `partial` those of what was done of a job that failed or was cancelled; the status has
        how much that is.

        >>> await swarm.result(job_id)
        b'25'
        """
        query = {"partial": "true"} if partial else {}
        found: bytes = await self._json("GET", f"/jobs/{id_of(job)}/result", query, read=as_bytes)
        return found

    async def data(self, sha: str) -> bytes:
        """Return the bytes with that SHA-256, from the hub or wherever it finds them.

        >>> await swarm.data("0" * 64)
        Traceback (most recent call last):
        swarm_hub.client.errors.ApiError: /api/v1/data/... needs content:, ...
        """
        found: bytes = await self._json("GET", f"/data/{sha}", read=as_bytes)
        return found

    async def jobs(
        self, limit: int | None = 50, wanted: Mapping[str, int | str] = _EVERYTHING
    ) -> list[JobStatus]:
        """Return the newest jobs, all of them with a `limit` of None.

        `wanted` narrows them: `state` (several with commas between them), `owner`, `since` (seconds
        since 1970), `text`, and `label.NAME`.

        >>> newest = await swarm.jobs(limit=1, wanted={"state": "completed"})
        >>> newest[0].state
        'completed'
        """
        found: list[JobStatus] = []
        query = dict(wanted)
        while True:
            left = _PAGE_MAX if limit is None else min(_PAGE_MAX, limit - len(found))
            page = await self._json("GET", "/jobs", {**query, "limit": left})
            found += JobStatus.each_of(page["jobs"])
            # A page may be short, or empty, without being the last.
            if page["cursor"] is None or (limit is not None and len(found) >= limit):
                return found
            query["cursor"] = page["cursor"]

    async def shards(self, job: AnyJob) -> list[Shard]:
        """Return a job's shards with every attempt.

        >>> [shard.state for shard in await swarm.shards(job_id)]
        ['done', 'done']
        """
        pages = self._pages(f"/jobs/{id_of(job)}/shards", {})
        return [each async for page in pages for each in Shard.each_of(page["shards"])]

    async def shard_result(self, job: AnyJob, index: int) -> bytes:
        """Return the bytes that one shard of a job gave, whether the job has ended or not.

        >>> await swarm.shard_result(job_id, 0)
        b'15'
        """
        path = f"/jobs/{id_of(job)}/shards/{index}/result"
        found: bytes = await self._json("GET", path, read=as_bytes)
        return found

    async def failures(self, job: AnyJob) -> AsyncGenerator[Failure, None]:
        """Yield the items of a job that failed, each range once and in their order.

        >>> [failure.message async for failure in swarm.failures(job_id)]
        []
        """
        async for page in self._pages(f"/jobs/{id_of(job)}/failures", {}):
            for each in Failure.each_of(page["failures"]):
                yield each

    async def receipts(self, job: AnyJob) -> AsyncGenerator[Record, None]:
        """Yield the results of a job that have receipts, page by page, with those receipts.

        `swarm_hub.models.receipt` checks them. `why_none` says why a job has none.

        >>> [page["why_none"] async for page in swarm.receipts(job_id)]
        ["this job's gateway keeps receipts of redundant jobs only; ..."]
        """
        async for page in self._pages(f"/jobs/{id_of(job)}/receipts", {}):
            yield Record(page)

    async def story(self, job: AnyJob, after: int = 0) -> list[Event]:
        """Return a job's transitions in order, the first 10,000 of those after a `seq`.

        >>> [event.event_type for event in await swarm.story(job_id)][:2]
        ['job_queued', 'job_running']
        """
        query = {"limit": 10_000, "after": after}
        answer = await self._json("GET", f"/jobs/{id_of(job)}/story", query)
        return list(Event.each_of(answer["events"]))

    async def cancel(self, job: AnyJob) -> JobStatus:
        """Cancel a job and return its status.

        >>> job = await swarm.submit("primes.wat", range(10**9))
        >>> (await swarm.cancel(job)).state
        'cancelled'
        """
        return JobStatus(await self._json("DELETE", f"/jobs/{id_of(job)}"))

    async def change(self, /, job: AnyJob, **values: Any) -> JobStatus:
        """Change `priority`, `labels` or `deadline_s` of an unfinished job; returns its status.

        >>> gpu = {"node_labels": {"gpu": "yes"}}
        >>> waiting = await swarm.submit("primes.wat", range(100), constraints=gpu)
        >>> (await swarm.change(waiting, priority=50)).spec["priority"]
        50
        >>> (await swarm.cancel(waiting)).state
        'cancelled'
        """
        return JobStatus(await self._json("PATCH", f"/jobs/{id_of(job)}", json=values))

    async def cancel_many(self, jobs: Sequence[AnyJob]) -> list[Record]:
        """Cancel up to 500 jobs; returns what became of each.

        >>> (await swarm.cancel_many([job_id]))[0]["code"]
        'job_ended'
        """
        content = {"ids": [id_of(each) for each in jobs]}
        answer = await self._json("POST", "/jobs/cancel", json=content)
        return list(Record.each_of(answer["jobs"]))

    async def events(
        self, /, since: int | None = None, **wanted: Any
    ) -> AsyncGenerator[Event, None]:
        """Yield events as they happen; `since` first yields every durable one after that `seq`.

        `wanted` are the filters of `subscribe_events`: `event_type`, `job_id`, `node_id`, `label`.
        When the connection is lost it goes on with the next gateway, or with this one when it is
        back, after the last event that came. Raises ClientError when events were lost.

        >>> from contextlib import aclosing
        >>> async with aclosing(swarm.events(since=0)) as events:
        ...     (await anext(events)).event_type
        'node_up'
        """
        trying = self._hub.trying()
        while True:
            await self._hub.learn()
            number, gateway, session = await self._hub.connected()
            try:
                # A gateway that is frozen is found out by a ping that it does not answer.
                socket = await session.ws_connect(
                    f"{gateway.reach.base}{WEBSOCKET_PATH}", heartbeat=_PING_EVERY_S,
                    timeout=_CLOSED_WITHIN,
                )  # fmt: skip
                async with socket:
                    await _authenticate(socket, gateway)
                    command = {"id": 1, "type": "subscribe_events", **wanted}
                    await socket.send_json(
                        command if since is None else {**command, "since": since}
                    )
                    async for message in socket:
                        if message.type is not aiohttp.WSMsgType.TEXT:
                            break
                        trying = self._hub.trying()
                        content = json.loads(message.data)
                        if content["type"] == "event":
                            event = Event(content["event"])
                            since = event.get("seq") or since
                            yield event
                        elif (refused := content.get("error")) is not None:
                            raise ApiError(400, refused["code"], refused["message"])
                        elif (result := content.get("result")) is not None:
                            if result["events_lost"]:
                                raise ClientError("events were lost: they are no longer kept")
                            since = result["last_seq"] if since is None else since
                error: Exception = aiohttp.ServerDisconnectedError()
            except (aiohttp.ClientError, aiohttp.WSMessageTypeError, TimeoutError) as failed:
                error = failed
            self._hub.leave(number)
            await trying.after(told(gateway.reach.url, error))


async def _authenticate(socket: aiohttp.ClientWebSocketResponse, gateway: Gateway) -> None:
    await socket.receive_json(timeout=_ANSWERED_WITHIN_S)
    await socket.send_json({"type": "auth", "access_token": gateway.token or ""})
    if (await socket.receive_json(timeout=_ANSWERED_WITHIN_S))["type"] != "auth_ok":
        raise ApiError(UNAUTHORIZED, "unauthorized", unauthorized(gateway))
