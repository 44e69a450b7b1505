"""`script/screenshots`: a swarm with jobs in every state, and each view of its page, drawn."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any, Final

import click
from playwright.async_api import Browser, Page, async_playwright

from swarm_hub.cli import run_command
from swarm_hub.cli.options import note
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.const import CONFIG_FILE
from swarm_hub.exceptions import HubError

_ROOT: Final = Path(__file__).parents[2]
_EXAMPLES: Final = _ROOT / "examples"
_CHROMIUM: Final = "/usr/bin/chromium"
_IMAGE: Final = _ROOT / "docs" / "images" / "page.png"
_IMAGE_MAX_BYTES: Final = 200_000
_WIDTHS: Final = {360: 740, 1280: 900}
_SCHEMES: Final[tuple[Any, ...]] = ("light", "dark")
_SETTLED_MS: Final = 1500
_TRAP: Final = (
    b'(module (func (export "map") (param i64 i64) (result i64)'
    b" (if (i64.gt_s (local.get 1) (i64.const 300)) (then unreachable)) (i64.const 1)))"
)
_AUTOMATIONS: Final = """automation:
- alias: Tell of failures
  trigger: {event: job_failed}
  action: {notify: "{{ job.name }} failed"}
- alias: Too few nodes
  trigger: {threshold: nodes_up, below: 2, for: 5m}
  action: {notify: few nodes}
"""
_START_WITHIN_S: Final = 60
_WORKERS: Final = {
    "kitchen tablet": "{room: kitchen}",
    "old phone": "{room: hall}",
    "attic laptop": "{room: attic}",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=_ROOT / "build" / "screenshots",
)
@click.option("--readme", is_flag=True, help="Write docs/images/page.png, too.")
def screenshots(folder: Path, readme: bool) -> None:
    """Draw each view of the page of a real swarm into FOLDER."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asyncio.run(_draw(folder, readme))
    note(f"{len(list(folder.glob('*.png')))} pictures are in {folder}")


async def _draw(folder: Path, readme: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        swarm = LocalSwarm(Path(scratch))
        try:
            gateway = await _started(swarm)
            async with SwarmClient(gateway.url, gateway.token) as client, _browser() as browser:
                views = await _views(client)
                await _draw_views(folder, browser, gateway, views)
                if readme:
                    await _draw_image(browser, gateway, views["job_running"])
                await _break(gateway, client)
                await _draw_views(folder, browser, gateway, {"recovery": "/recovery"})
        finally:
            swarm.stop()


async def _draw_views(
    folder: Path, browser: Browser, gateway: LocalHub, views: Mapping[str, str]
) -> None:
    for width, scheme in product(_WIDTHS, _SCHEMES):
        async with _page(browser, gateway, width, scheme) as page:
            for name, path in views.items():
                await _show(page, path)
                picture = folder / f"{name}-{width}-{scheme}.png"
                await page.screenshot(path=picture, full_page=True)
        note(f"{width} px wide, {scheme}: {len(views)} views")


async def _break(gateway: LocalHub, client: SwarmClient) -> None:
    """Have the gateway start with mistakes in its configuration."""
    gateway.kill()
    path = gateway.folder / CONFIG_FILE
    path.write_text(f"{path.read_text()}scheduler: {{platform: adaptiv}}\nwrker:\n")
    gateway.start()
    async with asyncio.timeout(_START_WITHIN_S):
        while True:
            with suppress(HubError):
                await client.health()
                return
            await asyncio.sleep(0.1)


async def _started(swarm: LocalSwarm) -> LocalHub:
    gateway = swarm.start_gateway("home", extra=_AUTOMATIONS)
    for name, labels in _WORKERS.items():
        worker = f"worker: {{charging_only: false, min_battery: 0, node_labels: {labels}}}\n"
        swarm.start_worker(name.replace(" ", "-"), gateway, extra=worker)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await swarm.wait_for_workers(client, len(_WORKERS))
    return gateway


async def _views(client: SwarmClient) -> Mapping[str, str]:
    """Make jobs that are done, fail, wait and run; returns the path of each view by its name."""
    primes = _EXAMPLES / "primes" / "primes.wat"
    words = _EXAMPLES / "wordcount" / "wordcount.wat"
    text = b"the quick brown fox jumps over the lazy dog\n" * 500
    done = await client.run(
        words, text, split="lines", reduce="json", shard_size=25, name="count the words"
    )
    failed = await client.run(
        _TRAP, range(1000), shard_size=100, name="it fails at 300", labels={"kind": "trial"}
    )
    waiting = await client.submit(
        primes, range(1000), name="a job for the garden",
        constraints={"node_labels": {"room": "garden"}},
    )  # fmt: skip
    running = await client.submit(
        primes, range(2_000_000_000), shard_size=1_000_000, name="primes below 2 billion",
        labels={"kind": "nightly"}, reduce="sum",
    )  # fmt: skip
    [node, *_] = await client.nodes()
    await asyncio.sleep(5)
    return {
        "overview": "/",
        "nodes": "/nodes",
        "node": f"/nodes/{node['node_id']}",
        "jobs": "/jobs",
        "job_done": f"/jobs/{done['job_id']}",
        "job_failed": f"/jobs/{failed['job_id']}",
        "job_waiting": f"/jobs/{waiting}",
        "job_running": f"/jobs/{running}",
        "submit": "/submit",
        "events": "/events",
        "automations": "/automations",
        "invite": "/invite",
        "repairs": "/repairs",
        "configuration": "/configuration",
        "health": "/health",
        "nowhere": "/nowhere",
    }


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def _page(
    browser: Browser, gateway: LocalHub, width: int, scheme: Any
) -> AsyncIterator[Page]:
    """Open a tab that a code has let in."""
    context = await browser.new_context(
        base_url=gateway.url,
        viewport={"width": width, "height": _WIDTHS[width]},
        color_scheme=scheme,
    )
    try:
        page = await context.new_page()
        async with SwarmClient(gateway.url, gateway.token) as client:
            made = await client.page_code("admin", "screenshots")
        await page.goto(f"/#code={made['code']}")
        await page.locator("main h1").wait_for()
        yield page
    finally:
        await context.close()


async def _show(page: Page, path: str) -> None:
    await page.goto(f"/#{path}")
    await page.locator("main h1").wait_for()
    # What the view asks for, and a few events.
    await page.wait_for_timeout(_SETTLED_MS)
    # A new view begins at its heading, which would be drawn with a frame.
    await page.evaluate("document.activeElement?.blur()")


async def _draw_image(browser: Browser, gateway: LocalHub, path: str) -> None:
    async with _page(browser, gateway, 1280, "light") as page:
        await _show(page, path)
        _IMAGE.parent.mkdir(exist_ok=True)
        picture = await page.screenshot()
    if len(picture) >= _IMAGE_MAX_BYTES:
        raise HubError(f"the picture has {len(picture)} bytes, more than {_IMAGE_MAX_BYTES}")
    _IMAGE.write_bytes(picture)
    note(f"{_IMAGE.relative_to(_ROOT)} has {len(picture)} bytes")


if __name__ == "__main__":
    run_command(screenshots)
