"""A job's events as a stream: what curl shows, and a browser's EventSource reads."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from swarm_hub.components.api import event_stream
from swarm_hub.components.gateway import job_feeds
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models.event import EventType, NewEvent
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


@contextlib.asynccontextmanager
async def stream(
    hub: RunningHub, job_id: str, query: str = "", *, secret: str = "", **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    told = {"Authorization": f"Bearer {secret or hub.token}", **headers}
    url = f"{hub.url}/api/v1/jobs/{job_id}/events{query}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=told) as response:
        yield response


async def one(response: aiohttp.ClientResponse) -> dict[str, Any] | None:
    """Return the next event, None for a comment; raises EOFError at the end."""
    fields = {}
    async with asyncio.timeout(20):
        while (line := await response.content.readline()) not in (b"\n", b""):
            name, _, value = line.decode().rstrip("\n").partition(":")
            fields[name] = value.strip()
    if not fields:
        raise EOFError
    if "data" not in fields:
        return None
    content: dict[str, Any] = json.loads(fields["data"])
    assert fields["event"] == content["event_type"]
    assert fields.get("id") == (str(content["seq"]) if "seq" in content else None)
    return content


async def everything(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(EOFError):
        while True:
            if (event := await one(response)) is not None:
                found.append(event)
    return found


def durable(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if "seq" in event]


async def story(hub: RunningHub, job_id: str) -> list[dict[str, Any]]:
    _, answer = await call(hub, "GET", f"/jobs/{job_id}/story")
    return list(answer["events"])


async def test_a_jobs_events_come_as_they_happen_up_to_its_last(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["spin"], b"0:600", {"shard_size": 100})
    job_id = body["job_id"]
    async with stream(gateway, job_id) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        first = await one(response)
        assert first is not None
        assert first["event_type"] == "job_queued"
        await swarm.worker("worker")
        heard = [first, *await everything(response)]
    whole = await story(gateway, job_id)
    assert durable(heard) == whole
    assert whole[-1]["event_type"] == "job_completed"
    assert {event["event_type"] for event in heard if "seq" not in event} == {"job_progress"}
    # From where one left off: the header of a browser that comes back counts before its address.
    middle = whole[3]["seq"]
    for query, headers in (
        (f"?since={middle}", {}),
        ("?since=1", {"Last-Event-ID": str(middle)}),
    ):
        async with stream(gateway, job_id, query, **headers) as response:
            assert await everything(response) == whole[4:]
    # EventSource comes back for ever, unless it is told that there is no more.
    async with stream(gateway, job_id, f"?since={whole[-1]['seq']}") as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_a_follower_who_is_slow_reads_the_store_again(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_feeds, "_WAITING_MAX", 3)
    monkeypatch.setattr(job_feeds, "_PAGE", 7)
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100", {"shard_size": 1})
    job_id = body["job_id"]
    async with stream(gateway, job_id) as response:
        assert await one(response)
        await swarm.worker("worker")
        heard = await everything(response)
    whole = await story(gateway, job_id)
    assert (durable(heard), len(whole) > 200) == (whole[1:], True)


async def test_who_does_not_read_or_leaves_is_let_go(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(event_stream, "_TAKEN_WITHIN_S", 0.2)
    monkeypatch.setattr(job_feeds, "_SIGN_EVERY_S", 0.05)
    monkeypatch.setattr(job_feeds, "_FOLLOWERS_MAX", 2)
    caplog.set_level(logging.DEBUG)
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100")
    job_id = body["job_id"]
    async with stream(gateway, job_id) as leaving, stream(gateway, job_id):
        assert await one(leaving)
        assert await one(leaving) is None, "there is a sign of life while nothing happens"
        async with stream(gateway, job_id) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (429, "5")
        leaving.close()

        async def follows() -> int:
            async with stream(gateway, job_id) as another:
                return another.status

        await until(follows, lambda status: status == 200)

        async def told() -> str:
            return str(caplog.text)

        # What it does not take fills the buffers of both ends; then its time runs.
        text = "x" * 1_000_000
        for _ in range(20):
            data = {"job_id": job_id, "index": 0, "node_id": "somebody", "message": text}
            event = NewEvent(EventType.SHARD_FAILED, data, job_id)
            await gateway.hub.store.commit([], [event])
        await until(told, lambda text: "it did not read" in text)
    assert "Traceback" not in caplog.text


async def test_only_those_who_may_see_a_job_follow_it(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_ADMITTED_FOR_S", 0.0)
    gateway = await swarm.gateway()
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    made, ada = tokens.create("ada", "submit", time.time())
    _, bob = tokens.create("bob", "submit", time.time())
    _, body = await submit(gateway, modules["primes"], b"0:100", token=ada)
    job_id = body["job_id"]
    async with stream(gateway, job_id, secret=bob) as response:
        assert response.status == 404
    async with stream(gateway, "none") as response:
        assert response.status == 404
    for wrong in ("x", "-1", "9" * 30):
        async with stream(gateway, job_id, **{"Last-Event-ID": wrong}) as response:
            assert response.status == 400
    async with stream(gateway, job_id, secret=ada) as response:
        assert await one(response)
        tokens.revoke(made.id)
        await call(gateway, "PATCH", f"/jobs/{job_id}", json={"priority": 1})
        with pytest.raises(aiohttp.ClientError):
            await everything(response)


async def test_a_hub_that_stops_cuts_streams_and_another_goes_on(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100")
    job_id = body["job_id"]
    async with stream(gateway, job_id) as response:
        first = await one(response)
        assert first is not None
        await swarm.stop(gateway)
        with pytest.raises(aiohttp.ClientError):
            await everything(response)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    async with stream(gateway, job_id, **{"Last-Event-ID": str(first["seq"])}) as response:
        heard = await everything(response)
    await finished(gateway, job_id)
    assert durable(heard) == (await story(gateway, job_id))[1:]
