"""The automations on the page: what they did, and running one by a button."""

import json

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.browser import Watched, axe, enter, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

expect.set_options(timeout=30_000)

MARKUP = "<img src=x onerror=\"document.title='owned'\">"
ENTRIES = [
    {"alias": "Greet", "trigger": {"cron": "0 0 1 1 *"}, "action": {"notify": f"hello {MARKUP}"}},
    {"alias": "Fail", "trigger": {"event": "node_up"}, "action": [{"notify": "{{ job.id }}"}]},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(started: LocalSwarm) -> LocalHub:
    """Return a gateway with two automations, which has no workers."""
    gateway = started.start_gateway(extra=f"automation: {json.dumps(ENTRIES)}\n")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await started.wait_for_workers(client, 0)
    return gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def other(started: LocalSwarm) -> LocalHub:
    """Return a gateway without automations."""
    gateway = started.start_gateway("other")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await started.wait_for_workers(client, 0)
    return gateway


async def test_an_automation_is_run_by_a_button_and_its_trace_is_shown(page: Page) -> None:
    await page.goto("/")
    await page.get_by_role("link", name="Automate", exact=True).first.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Automations")
    await expect(page.get_by_role("row", name="Greet")).to_contain_text("never")
    await page.get_by_role("link", name="Greet").click()
    traces = page.get_by_role("region", name="Traces")
    await expect(traces).to_be_focused()
    await expect(traces).to_contain_text("It was not triggered yet")
    await traces.get_by_role("button", name="Trigger").click()
    await expect(page.get_by_text("It was triggered")).to_be_visible()
    await expect(page.get_by_role("row", name="Greet")).to_contain_text("done")
    await expect(traces).to_contain_text(f"notify hello {MARKUP}")
    # What it told is there for who comes later, as text.
    await expect(page.locator(".notice").filter(has_text=f"hello {MARKUP}")).to_be_visible()
    assert await page.locator("img").count() == 0
    await page.get_by_role("link", name="Fail").click()
    await expect(traces.get_by_role("heading")).to_have_text("Fail")
    await traces.get_by_role("button", name="Trigger").click()
    await expect(traces).to_contain_text("'job' is undefined")
    await axe(page)
    assert await page.title() == "Automations · gateway"


async def test_one_is_disabled_and_enabled(page: Page) -> None:
    await page.goto("/#/automations?id=fail")
    await page.get_by_role("button", name="Disable").click()
    await expect(page.get_by_role("row", name="Fail")).to_contain_text("no")
    await page.get_by_role("button", name="Enable", exact=True).click()
    await expect(page.get_by_role("button", name="Disable")).to_be_visible()
    await expect(page.get_by_role("row", name="Fail")).to_contain_text("yes")


async def test_who_may_only_read_sees_them_without_buttons(
    tab: tuple[Page, Watched], hub: LocalHub
) -> None:
    page, _ = tab
    async with SwarmClient(hub.url, hub.token) as client:
        code = str((await client.page_code("read"))["code"])
    await page.goto(f"/#code={code}")
    await page.get_by_role("link", name="Automate", exact=True).first.click()
    await expect(page.get_by_role("row", name="Greet")).to_be_visible()
    await expect(page.get_by_role("link", name="Greet")).to_have_count(0)


async def test_a_hub_without_them_says_what_to_do(browser: Browser, other: LocalHub) -> None:
    async with opened(browser, other.url) as (page, watched):
        await enter(page.context, other.token)
        await page.goto("/#/automations")
        await expect(page.get_by_text("automation: ", exact=False)).to_be_visible()
        watched.forgive_refusals()
