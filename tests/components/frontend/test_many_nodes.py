"""What the page costs with 200 nodes that all tell of themselves, and a list that is scrolled."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Browser, CDPSession, Page, Route, WebSocketRoute, expect

from swarm_hub.cli.swarm import LocalHub
from tests.helpers.browser import enter, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.nightly]

NODES: Final = 200
SECONDS: Final = 10
# What a node tells comes every ten seconds.
TOLD_EVERY_S: Final = 10 / NODES
FRAME_MAX_MS: Final = 8.0
MEMORY_MAX_BYTES: Final = 150_000_000


def many(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**nodes[number % len(nodes)], "node_id": f"node-{number}", "name": f"phone {number:03}"}
        for number in range(NODES)
    ]


async def flood(page: Page) -> None:
    """Make 200 nodes of those that there are, each of which tells what it measures."""

    async def nodes(route: Route) -> None:
        response = await route.fetch()
        told = await response.json()
        await route.fulfill(response=response, json={"nodes": many(told["nodes"])})

    def socket(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        telling: list[asyncio.Task[None]] = []

        def sent(message: str | bytes) -> None:
            content = json.loads(message)
            if content.get("type") == "telemetry/subscribe":
                telling.append(asyncio.create_task(tell(route, content["id"])))
            server.send(message)

        route.on_message(sent)
        route.on_close(lambda *_: [task.cancel() for task in telling])

    await page.route("**/api/v1/nodes", nodes)
    await page.route_web_socket("**/api/websocket", socket)


async def tell(route: WebSocketRoute, subscription: int) -> None:
    number = 0
    while True:
        number += 1
        measured = {"cpu_percent": number % 100, "available_memory_bytes": number << 20,
                    "battery_percent": number % 90, "temperature_c": 30 + number % 9}  # fmt: skip
        data = {"node_id": f"node-{number % NODES}", "slots": 1, "network": "wifi", **measured}
        event = {"event_type": "telemetry", "time_fired": "2026-01-01T00:00:00Z", "data": data}
        route.send(json.dumps({"id": subscription, "type": "event", "event": event}))
        await asyncio.sleep(TOLD_EVERY_S)


@pytest_asyncio.fixture(loop_scope="module")
async def flooded(browser: Browser, hub: LocalHub) -> AsyncIterator[Page]:
    async with opened(browser, hub.url) as (page, _):
        await enter(page.context, hub.token)
        await flood(page)
        yield page


async def measured(debugger: CDPSession) -> dict[str, float]:
    found = await debugger.send("Performance.getMetrics")
    return {each["name"]: each["value"] for each in found["metrics"]}


def renderer_bytes() -> int:
    """Return what the largest process of a page has for itself alone."""
    renderers = [
        process
        for process in psutil.Process().children(recursive=True)
        if "--type=renderer" in process.cmdline()
    ]
    return max(int(process.memory_full_info().uss) for process in renderers)


@pytest.mark.parametrize("path", ["/nodes?sort=cpu", "/"])
async def test_a_frame_with_200_nodes_takes_little(flooded: Page, path: str) -> None:
    page = flooded
    debugger = await page.context.new_cdp_session(page)
    # By what the main thread itself used, whatever else this machine does.
    await debugger.send("Performance.enable", {"timeDomain": "threadTicks"})
    await page.goto(f"/#{path}")
    sign = f"{NODES} up" if path == "/" else f"{NODES} nodes"
    await expect(page.get_by_text(sign)).to_be_visible()
    await asyncio.sleep(1)
    await page.evaluate(
        """() => {
          window.frames_ = 0;
          const list = document.querySelector(".table-scroller") ?? document.scrollingElement;
          const draw = () => {
            window.frames_ += 1;
            list.scrollTop = (list.scrollTop + 30) % 6000;
            requestAnimationFrame(draw);
          };
          draw();
        }"""
    )
    before = await measured(debugger)
    frames_before = await page.evaluate("window.frames_")
    await asyncio.sleep(SECONDS)
    after = await measured(debugger)
    frames = await page.evaluate("window.frames_") - frames_before
    await debugger.send("HeapProfiler.collectGarbage")
    memory = renderer_bytes()
    busy_ms = (after["TaskDuration"] - before["TaskDuration"]) * 1000
    told = {"path": path, "frames_per_s": round(frames / SECONDS, 1), "memory_bytes": memory,
            "ms_per_frame": round(busy_ms / frames, 2), "nodes": after["Nodes"]}  # fmt: skip
    print(json.dumps(told))
    assert busy_ms / frames <= FRAME_MAX_MS, told
    assert memory < MEMORY_MAX_BYTES, told
