"""What open pages cost a hub: one serialisation of an event, however many, and little CPU."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import psutil
import pytest
from playwright.async_api import expect

from swarm_hub.cli.swarm import LocalHub, running_swarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.api.live import event as live_event
from swarm_hub.models.event import EventType, NewEvent
from tests.conftest import RunningHub, Swarm
from tests.helpers.browser import chromium, enter, opened
from tests.helpers.rest import Live, live

PAGES = 20
PRIMES = Path(__file__).parents[3] / "examples" / "primes" / "primes.wat"
CPU_PERCENT_MAX = 3.0
MEASURED_S = 10


async def sent_by_a_page(hub: RunningHub) -> list[dict[str, Any]]:
    """Return what the page sends over its websocket once it is let in."""
    sent: list[dict[str, Any]] = []

    def keep(text: Any) -> None:
        content = json.loads(text)
        sent.extend(content if isinstance(content, list) else [content])

    async with chromium() as browser, opened(browser, hub.url) as (page, _):
        page.on("websocket", lambda socket: socket.on("framesent", keep))
        await enter(page.context, hub.token)
        await page.goto("/")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        await page.wait_for_load_state("networkidle")
    return [message for message in sent if "id" in message and message["type"] != "ping"]


async def messages(client: Live) -> AsyncIterator[Any]:
    while True:
        content = await client.receive()
        for message in content if isinstance(content, list) else [content]:
            yield message


async def begin(client: Live, sent: list[dict[str, Any]]) -> None:
    """Send what the page sent, and wait until all of it is answered."""
    for message in sent:
        await client.socket.send_json(message)
    open_ids = {message["id"] for message in sent}
    async for message in messages(client):
        if message["type"] == "result":
            assert message["success"], message
            open_ids.discard(message["id"])
        if not open_ids:
            return


async def event_of(client: Live, node_id: str) -> Any:
    async for message in messages(client):
        if message["type"] == "event" and message["event"]["data"].get("node_id") == node_id:
            return message["event"]
    raise AssertionError("the messages of a client do not end")


async def test_an_event_is_written_once_for_twenty_pages(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway(extra="telemetry: {interval: 1h}\n")
    sent = await sent_by_a_page(gateway)
    assert any(message["type"] == "subscribe_events" for message in sent)
    written: list[Any] = []

    def counted(content: Any, **options: Any) -> str:
        written.append(content)
        return json.dumps(content, **options)

    async with AsyncExitStack() as open_pages:
        pages = [await open_pages.enter_async_context(live(gateway)) for _ in range(PAGES)]
        await asyncio.gather(*(begin(page, sent) for page in pages))
        monkeypatch.setattr(live_event, "json", SimpleNamespace(dumps=counted))
        news = NewEvent(EventType.NODE_DOWN, {"node_id": "gone", "reason": "no signal"})
        await gateway.hub.store.commit([], [news])
        told = await asyncio.gather(*(event_of(page, "gone") for page in pages))
    assert len(told) == PAGES
    assert [each["data"]["node_id"] for each in written] == ["gone"]


def cpu_s(hub: LocalHub) -> float:
    spent = psutil.Process(hub.pid).cpu_times()
    return spent.user + spent.system


async def cpu_percent(hub: LocalHub) -> float:
    before = cpu_s(hub)
    await asyncio.sleep(MEASURED_S)
    return (cpu_s(hub) - before) / MEASURED_S * 100


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.parametrize("place", ["/", "/jobs/{job}"])
async def test_an_open_page_costs_the_gateway_little(tmp_path: Path, place: str) -> None:
    async with running_swarm(tmp_path, ["a", "b"]) as (swarm, client), chromium() as browser:
        gateway = swarm.hubs[0]
        job = await client.submit(PRIMES, range(1_000_000_000), shard_size=50_000)
        # Its start is over, and the job has some shards.
        await cpu_percent(gateway)
        alone = [await cpu_percent(gateway)]
        watched = []
        for _ in range(2):
            async with opened(browser, gateway.url) as (page, _problems):
                await enter(page.context, gateway.token)
                await page.goto(f"/#{place.format(job=job)}")
                await expect(page.get_by_text("Live", exact=True)).to_be_visible()
                # What it asks for once is not what it costs.
                await cpu_percent(gateway)
                watched.append(await cpu_percent(gateway))
            alone.append(await cpu_percent(gateway))
        extra = sum(watched) / len(watched) - sum(alone) / len(alone)
        done = (await client.status(job))["progress"]["shards_done"]
        shown = [f"{each:.1f}" for each in (*alone, *watched)]
        print(f"{place}: {shown} %, the last two with the page: {extra:+.2f}; {done} shards")
        assert extra <= CPU_PERCENT_MAX


async def test_logging_out_of_the_page_revokes_its_token(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        code = (await client.page_code("read"))["code"]
    async with chromium() as browser, opened(browser, gateway.url) as (page, watched):
        await page.goto(f"/#code={code}")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        token = await page.evaluate("sessionStorage.getItem('swarm_hub.token')")
        assert await status_of(gateway, token) == 200
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        assert await page.evaluate("sessionStorage.getItem('swarm_hub.token')") is None
        assert await status_of(gateway, token) == 401
        watched.forgive_refusals()


async def status_of(hub: RunningHub, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{hub.url}/api/v1/sessions/current", headers=headers) as response,
    ):
        return response.status
