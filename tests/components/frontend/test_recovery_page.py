"""Recovery and repairs in a real browser: a broken configuration is mended on the page."""

import asyncio
import sqlite3
import struct

import aiohttp
import pytest
from playwright.async_api import Browser, Page, Route, expect

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.control.client import ask
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.storage.engine.sqlite import has_wal_reset_fix
from tests.conftest import EXAMPLES, until
from tests.helpers.browser import axe, enter, opened

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]

expect.set_options(timeout=30_000)

MISTAKE = "gatway:\n  admission: open\n"


async def heading(page: Page, text: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_have_text(text)


async def restarted(hub: LocalHub) -> None:
    assert hub.process is not None

    async def log() -> str:
        return hub.log()

    # Before that a signal would interrupt its start.
    await until(log, lambda said: "is ready after" in said, timeout_s=30)
    hub.process.terminate()
    await asyncio.to_thread(hub.process.wait, 20)
    hub.start()


async def answers(hub: LocalHub) -> None:
    """Wait until its API is there, whatever it says."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{hub.url}/api/v1/health/live") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def test_a_broken_configuration_is_mended_on_the_page_and_the_jobs_go_on(
    browser: Browser, started: LocalSwarm
) -> None:
    hub = started.start_gateway("mended")
    await answers(hub)
    async with SwarmClient(hub.url, hub.token) as client:
        module = (EXAMPLES / "sum_i32" / "sum.wat").read_bytes()
        job = await client.submit(module, struct.pack("<3i", 1, 2, 3), reduce="sum")
    path = hub.folder / "configuration.yaml"
    good = path.read_text()
    path.write_text(good + MISTAKE)
    await restarted(hub)
    await answers(hub)
    async with opened(browser, hub.url) as (page, watched):
        await enter(page.context, hub.token)
        await page.goto("/")
        await heading(page, "Recovery")
        line = good.count("\n") + 1
        await expect(page.get_by_text(f"configuration.yaml:{line}", exact=True)).to_be_visible()
        await expect(page.get_by_text("did you mean gateway?")).to_be_visible()
        await axe(page)
        content = page.get_by_label("Its content")
        await expect(content).to_have_value(good + MISTAKE)
        await page.get_by_role("button", name=f"Go to line {line}").click()
        chosen = await content.evaluate(
            "(area) => area.value.slice(area.selectionStart, area.selectionEnd)"
        )
        assert chosen == "gatway:"
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.get_by_text("there is no such component").last).to_be_visible()
        await content.fill(good + "gc: 5\n")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved; something is still wrong")).to_be_visible()
        await expect(page.get_by_text("gc:", exact=False).first).to_be_visible()
        await content.fill(good)
        await page.get_by_role("button", name="Start", exact=True).click()
        await heading(page, "Overview")
        await page.goto(f"/#/jobs/{job.id}")
        await expect(page.get_by_text("queued").first).to_be_visible()
        watched.forgive_refusals()
        watched.forgive_lost_connections()
    assert path.read_text() == good
    hub.kill()


async def test_who_may_only_read_sees_what_is_wrong_and_no_file(
    browser: Browser, started: LocalSwarm
) -> None:
    hub = started.start_gateway("read")
    await answers(hub)
    tokens = TokenFile(hub.folder / ".storage" / "tokens.json")
    _, token = tokens.create("reader", "read", 0.0)
    with (hub.folder / "configuration.yaml").open("a") as file:
        file.write(MISTAKE)
    await restarted(hub)
    await answers(hub)
    async with opened(browser, hub.url) as (page, watched):
        await enter(page.context, token)
        await page.goto("/")
        await heading(page, "Recovery")
        await expect(page.get_by_text("there is no such component")).to_be_visible()
        await expect(page.get_by_text("with an admin's token")).to_be_visible()
        await expect(page.get_by_role("button", name="Start", exact=True)).to_have_count(0)
        watched.forgive_refusals()
    hub.kill()


async def test_repairs_are_listed_fixed_and_ignored(browser: Browser, started: LocalSwarm) -> None:
    hub = started.start_gateway("repaired", api={"host": "0.0.0.0"}, extra=_FAILING_BACKUP)
    (hub.folder / "safe").write_text("no directory")
    await answers(hub)

    async def said() -> str:
        return await asyncio.to_thread(lambda: str(ask(hub.folder, "repairs")))

    await until(said, lambda found: "The last backup of this hub failed" in found)
    async with opened(browser, hub.url) as (page, watched):
        await enter(page.context, hub.token)
        await page.goto("/#/repairs")
        await heading(page, "Repairs")
        without_tls = page.get_by_role("heading", name="The API is open to the network without TLS")
        await expect(without_tls).to_be_visible()
        backup = page.get_by_role("heading", name="The last backup of this hub failed")
        await expect(backup).to_be_visible()
        await axe(page)
        await page.get_by_role("button", name="Back up now").click()
        await expect(page.get_by_text("It was tried; the cause is still there")).to_be_visible()

        async def make_way(route: Route) -> None:
            # Not before: the hub tries by itself each second, and the button would be gone.
            (hub.folder / "safe").unlink()
            await route.continue_()

        await page.route("**/repairs/*/fix", make_way)
        await page.get_by_role("button", name="Back up now").click()
        await expect(page.get_by_text("It is repaired")).to_be_visible()
        await expect(backup).to_have_count(0)
        await page.get_by_role("button", name="Ignore: The API is open").click()
        await expect(without_tls).to_be_hidden()
        await page.get_by_text("Ignored: 1").click()
        await page.get_by_role("button", name="Show again: The API is open").click()
        await expect(page.get_by_role("button", name="Ignore: The API is open")).to_be_visible()
        notice = page.get_by_role("heading", name="This SQLite has the WAL-reset bug")
        is_safe = has_wal_reset_fix(sqlite3.sqlite_version_info)
        await expect(notice).to_have_count(0 if is_safe else 1)
        watched.forgive_refusals()
    hub.kill()


_FAILING_BACKUP = "storage: {backup: {every: 1s, directory: safe}}\n"
