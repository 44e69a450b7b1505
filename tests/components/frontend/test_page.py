"""The page in a real browser, on real hubs: its way in, nodes, events, invitations, keyboard."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient, UnreachableError
from tests.conftest import until
from tests.helpers.browser import Watched, axe, enter, opened

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A machine may be slow.
expect.set_options(timeout=30_000)

Tab = tuple[Page, Watched]
EXAMPLES = Path(__file__).parents[3] / "examples"
MARKUP = "<img src=x onerror=\"document.title='owned'\">"


@pytest_asyncio.fixture(loop_scope="module")
async def client(hub: LocalHub) -> AsyncIterator[SwarmClient]:
    async with SwarmClient(hub.url, hub.token) as found:
        yield found


async def rest(hub: LocalHub, method: str, path: str, token: str = "", **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {token or hub.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, f"{hub.url}/api/v1{path}", json=body or None) as answer,
    ):
        assert answer.ok, await answer.text()
        return await answer.json()


async def code(hub: LocalHub, scope: str) -> str:
    return str((await rest(hub, "POST", "/sessions/codes", scope=scope))["code"])


async def heading(page: Page, text: str) -> None:
    await expect(page.get_by_role("heading", level=1)).to_have_text(text)


async def place(page: Page, name: str) -> None:
    await page.get_by_role("link", name=name, exact=True).first.click()
    await heading(page, name)


async def test_a_code_opens_the_page_once_and_is_not_left_in_the_address(
    tab: Tab, hub: LocalHub
) -> None:
    page, watched = tab
    link = f"/#code={await code(hub, 'read')}"
    await page.goto(link)
    await heading(page, "Overview")
    assert "code" not in page.url
    await expect(page.get_by_text("2 up")).to_be_visible()
    await page.reload()
    await heading(page, "Overview")
    await page.get_by_role("button", name="Log out").click()
    await heading(page, "Open this hub")
    await page.goto(link)
    await expect(page.get_by_role("alert")).not_to_be_empty()
    watched.forgive_refusals()


async def test_a_token_opens_the_page_and_a_wrong_one_is_told(tab: Tab, hub: LocalHub) -> None:
    page, watched = tab
    await page.goto("/#/nodes")
    await expect(page.get_by_text("swarm-hub open")).to_be_visible()
    await axe(page)
    field = page.get_by_label("Token")
    await field.fill("wrong")
    await field.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("token")
    await field.fill(hub.token)
    await field.press("Enter")
    await heading(page, "Nodes")
    watched.forgive_refusals()


async def test_who_may_only_read_sees_everything_and_no_buttons(tab: Tab, hub: LocalHub) -> None:
    page, _ = tab
    await page.goto(f"/#code={await code(hub, 'read')}")
    await place(page, "Nodes")
    await page.get_by_role("link", name="attic").click()
    await heading(page, "attic")
    await expect(page.get_by_role("heading", name="Standing")).to_be_visible()
    for name in ("Drain", "Ban"):
        await expect(page.get_by_role("button", name=name)).to_have_count(0)
    await place(page, "Invite")
    await expect(page.get_by_text("Somebody with an admin token")).to_be_visible()
    await expect(page.get_by_role("link", name="Submit", exact=True)).to_have_count(0)


async def test_a_node_is_drained_here_and_its_return_is_seen_at_once(
    page: Page, hub: LocalHub, client: SwarmClient
) -> None:
    await page.goto("/#/nodes?sort=name")
    row = page.get_by_role("row").filter(has_text="kitchen")
    await row.get_by_role("link").click()
    await page.get_by_role("button", name="Labels").click()
    await page.get_by_label("Such as").fill("gpu=yes, place=attic")
    await page.get_by_role("dialog").get_by_role("button", name="Set").click()
    await expect(page.locator(".tag")).to_have_text(["gpu=yes", "place=attic"])
    await page.get_by_role("button", name="Labels").click()
    await page.get_by_label("Such as").fill("gpu=no")
    await page.get_by_role("dialog").get_by_role("button", name="Set").click()
    await expect(page.locator(".tag")).to_have_text(["gpu=no"])
    await page.get_by_role("button", name="Drain").click()
    await page.get_by_label("Reason").fill("it is too warm")
    await page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    await expect(page.locator(".head").get_by_text("drained")).to_be_visible()
    await expect(page.get_by_text("it is too warm")).to_be_visible()
    await page.go_back()
    await expect(row).to_contain_text("drained")
    found = {node["name"]: node for node in await client.nodes()}
    assert found["kitchen"]["drain_reason"] == "it is too warm"
    await rest(hub, "POST", f"/nodes/{found['kitchen']['node_id']}/undrain")
    await expect(row.get_by_text("up", exact=True)).to_be_visible()


async def test_an_invitation_is_made_drawn_and_revoked(page: Page, hub: LocalHub) -> None:
    async def with_address(route: Route) -> None:
        if route.request.method != "POST":
            await route.continue_()
            return
        asked = json.loads(route.request.post_data or "{}")
        asked["addresses"] = ["/ip4/192.0.2.1/tcp/4001"]
        await route.continue_(post_data=json.dumps(asked))

    # This hub listens on loopback alone.
    await page.route("**/api/v1/invites", with_address)
    await page.goto("/#/invite")
    await page.get_by_label("Whose device").fill("anna")
    await page.get_by_role("button", name="Make an invitation").click()
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await expect(page.get_by_text("swarm-hub join swarmhub://join/1/")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="anna")
    await expect(row.get_by_text("open", exact=True)).to_be_visible()
    await axe(page)
    await row.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(row).to_have_count(0)
    assert (await rest(hub, "GET", "/invites"))["invites"] == []


async def test_a_keyboard_is_enough(page: Page) -> None:
    focused = "document.activeElement"
    await page.goto("/")
    await heading(page, "Overview")
    await page.keyboard.press("Tab")
    assert await page.evaluate(f"{focused}.textContent") == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate(f"{focused}.tagName") == "H1"
    await page.get_by_role("link", name="Nodes", exact=True).focus()
    await page.keyboard.press("Enter")
    await heading(page, "Nodes")
    assert await page.evaluate(f"{focused}.textContent") == "Nodes"
    rows = page.locator("tbody tr[data-key]")
    await expect(rows).to_have_count(2)
    await rows.first.focus()
    await page.keyboard.press("ArrowDown")
    await expect(rows.nth(1)).to_be_focused()
    await page.keyboard.press("Home")
    await expect(rows.first).to_be_focused()
    await page.keyboard.press("Enter")
    ban = page.get_by_role("button", name="Ban")
    await ban.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(ban).to_be_focused()


async def test_a_job_says_why_it_waits_and_keeps_the_focus_while_others_go_on(
    page: Page, client: SwarmClient
) -> None:
    primes, none = EXAMPLES / "primes" / "primes.wat", {"node_labels": {"gpu": "yes"}}
    waiting = await client.submit(primes, range(10), name="needs a gpu", constraints=none)
    await page.goto("/")
    await expect(page.get_by_text("without the label gpu: yes")).to_be_visible()
    link = page.get_by_role("link", name="needs a gpu")
    await link.focus()
    await client.run(primes, range(1000), name="goes on", shard_size=100)
    await client.cancel(waiting)
    await expect(page.get_by_role("link", name="goes on")).to_be_visible()
    await expect(page.locator("main").get_by_text("cancelled")).to_be_visible()
    await expect(link).to_be_focused()


def spoiled(value: Any) -> Any:
    """Put markup into every text of an answer that is no state, id or time."""
    kept = ("id", "state", "status", "_at", "seen", "until", "cursor", "links", "sha", "kid")
    if isinstance(value, list):
        return [spoiled(each) if not isinstance(each, str) else MARKUP for each in value]
    if not isinstance(value, dict):
        return value
    told = {}
    for key, each in value.items():
        if key == "labels":
            told[key] = {MARKUP: MARKUP}
        elif key in ("owner", "ban_reason", "drain_reason", "refuses", "disk_full", "waits"):
            told[key] = MARKUP
        elif isinstance(each, str) and not key.endswith(kept):
            told[key] = f"{MARKUP}{each}"
        else:
            told[key] = spoiled(each)
    return told


async def test_markup_in_what_others_named_is_shown_as_text(page: Page, hub: LocalHub) -> None:
    async def answer(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=spoiled(await response.json()))

    [node, *_] = (await rest(hub, "GET", "/nodes"))["nodes"]
    await page.route("**/api/v1/*", answer)
    for path in ("/", "/nodes", f"/nodes/{node['node_id']}", "/events", "/invite", "/health"):
        await page.goto(f"/#{path}")
        await expect(page.locator("main h1")).to_be_visible()
        if path not in ("/events", "/invite"):
            await expect(page.get_by_text(MARKUP).first).to_be_visible()
        assert await page.locator("img").count() == 0
        assert await page.title() != "owned"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_keeps_anybody_from_using_a_view(
    browser: Browser, hub: LocalHub, scheme: str
) -> None:
    [node, *_] = (await rest(hub, "GET", "/nodes"))["nodes"]
    size = {"width": 1280, "height": 900} if scheme == "light" else {"width": 360, "height": 740}
    async with opened(browser, hub.url, color_scheme=scheme, viewport=size) as (page, _):
        await enter(page.context, hub.token)
        for path, sign in (
            ("/", "2 up"),
            ("/nodes", "kitchen"),
            (f"/nodes/{node['node_id']}", "Standing"),
            ("/events?type=node_up", "node up"),
            ("/health", "Components"),
        ):
            await page.goto(f"/#{path}")
            await expect(page.locator("main").get_by_text(sign).first).to_be_visible()
            await axe(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


async def answers(client: SwarmClient) -> bool:
    with suppress(UnreachableError):
        await client.nodes()
        return True
    return False


FOLLOW = """async () => {
  const main = document.querySelector("script[type=module]").src;
  const { live } = await import(main.replace("main.js", "core/connection.js"));
  window.seqs = [];
  live.subscribe({ since: 0 }, ({ seq }) => seq && window.seqs.push(seq));
}"""


async def test_no_event_is_missing_or_double_after_the_hub_was_killed(
    tab: Tab, hub: LocalHub, client: SwarmClient
) -> None:
    page, watched = tab
    await enter(page.context, hub.token)
    await page.goto("/#/events")
    await expect(page.get_by_text("node up").first).to_be_visible()
    await page.evaluate(FOLLOW)
    await page.evaluate("window.same = 'page'")
    job = await client.submit(EXAMPLES / "primes" / "primes.wat", range(2000), shard_size=20)
    await expect(page.get_by_text("shard done").first).to_be_visible()
    hub.kill()
    banner = page.get_by_role("alert").filter(has_text="The connection to the hub is lost")
    await expect(banner).to_contain_text("Next attempt in")
    async with page.expect_websocket():
        await banner.get_by_role("button", name="Retry now").click()
    hub.start()
    await until(partial(answers, client), bool, 60)
    await expect(banner).to_have_count(0)
    await client.wait(job)
    last = (await rest(hub, "GET", "/health"))["last_seq"]
    await page.wait_for_function("(last) => window.seqs.at(-1) >= last", arg=last)
    seqs = await page.evaluate("window.seqs")
    assert seqs[:last] == list(range(1, last + 1))
    await expect(page.locator(f".event[data-seq='{last}']")).to_be_visible()
    assert await page.evaluate("window.same") == "page"
    watched.forgive_lost_connections()
