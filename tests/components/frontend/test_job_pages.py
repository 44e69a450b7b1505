"""Jobs in a real browser, on real hubs: submitted, watched, replayed, found, and told as text."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.browser import Watched, axe, enter, opened
from tests.helpers.modules import CAT, CAT_BUT_X, SPIN, says
from tests.helpers.swarms import local_swarm

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRIMES = Path(__file__).parents[3] / "examples" / "primes" / "primes.wat"
MARKUP = "<img src=x onerror='document.title=`owned`'>"
# Drops files, as {name: [text, how often]}, on the page.
DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, [text, times]] of Object.entries(files)) {
    data.items.add(new File([text.repeat(times)], name));
  }
  document.querySelector("hub-submit").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
JAVASCRIPT = "runtimes: {python: false}\n"
SIZES = """std.in.readAsString().trim().split("\\n").forEach((each) => console.log(each.length));"""
SLIDE = """(slider, value) => {
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def client(hub: LocalHub) -> AsyncIterator[SwarmClient]:
    async with SwarmClient(hub.url, hub.token) as found:
        yield found


async def show_job(page: Page, job_id: str, state: str | None = None) -> None:
    await page.goto(f"/#/jobs/{job_id}")
    if state is not None:
        await expect(page.locator(".head .badge")).to_have_text(state)


async def test_a_module_that_is_dropped_runs_and_is_watched(
    page: Page, tab: tuple[Page, Watched]
) -> None:
    await page.goto("/#/submit")
    await expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    await page.evaluate(DROP, {"primes.wat": [PRIMES.read_text(), 1]})
    await expect(page.get_by_label("Call (abi)")).to_have_value("range")
    await expect(page.get_by_label("How results are folded")).to_have_value("sum")
    await page.get_by_label("Up to, without it").fill("100")
    await expect(page.get_by_text("swarm-hub submit primes.wat --abi range")).to_be_visible()
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Priority").fill("1000")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await expect(page.get_by_label("Priority")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#field-priority-error")).not_to_be_empty()
    await page.get_by_label("Priority").fill("10")
    await page.get_by_label("Name", exact=True).fill("below a hundred")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("below a hundred")
    await expect(page.locator(".head .badge")).to_have_text("completed")
    await expect(page.locator(".result-value")).to_have_text("25")
    await expect(page.get_by_text("100 of 100 items done")).to_be_visible()
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Download").click()
    assert (await (await saving.value).path()).read_bytes() == b"25"
    tab[1].forgive_refusals()


async def test_files_that_are_dropped_are_data_and_a_large_one_is_uploaded_before(
    page: Page, tab: tuple[Page, Watched]
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    await page.goto("/#/submit")
    await expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    large = ["0123456789abcde\n", 9 * 65_536]
    await page.evaluate(DROP, {"cat.wat": [CAT, 1], "large.txt": large, "small.txt": ["x", 1]})
    await expect(page.get_by_label("Call (abi)")).to_have_value("wasi")
    await page.get_by_role("button", name="Remove small.txt").click()
    await page.get_by_role("button", name="Submit", exact=True).click()
    await expect(page.locator(".head .badge")).to_have_text("completed")
    await expect(page.locator(".result-text").first).to_contain_text("0123456789abcde")
    puts = [each for each in asked if each.startswith("PUT ") and "/blobs/" in each]
    assert len(puts) == 2
    # Nothing of it was there before.
    tab[1].forgive_refusals()


@pytest_asyncio.fixture(loop_scope="module")
async def interpreter(tmp_path: Path) -> AsyncIterator[LocalHub]:
    """Return a gateway that runs JavaScript, and has a worker."""
    swarm = local_swarm(tmp_path)
    try:
        gateway = swarm.start_gateway(extra=JAVASCRIPT)
        swarm.start_worker("reader", gateway, extra=JAVASCRIPT)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, 1)
        yield gateway
    finally:
        swarm.stop()


async def test_a_script_that_is_dropped_needs_no_module(
    browser: Browser, interpreter: LocalHub
) -> None:
    async with opened(browser, interpreter.url) as (page, _):
        await enter(page.context, interpreter.token)
        await page.goto("/#/submit")
        await expect(page.get_by_text("python (.py): not yet")).to_be_visible()
        send = page.get_by_role("button", name="Submit", exact=True)
        await page.evaluate(DROP, {"size.py": ["print(1)", 1], "size.rb": ["p 1", 1]})
        await expect(page.get_by_text("This hub has no python yet")).to_be_visible()
        await expect(send).to_be_disabled()
        await page.get_by_role("button", name="Remove size.rb").click()
        await page.evaluate(DROP, {"sizes.js": [SIZES, 1], "words.txt": ["one\nthree\n", 1]})
        await expect(page.get_by_text("run by javascript")).to_be_visible()
        await expect(page.get_by_text("swarm-hub submit sizes.js words.txt")).to_be_visible()
        await send.click()
        await expect(page.locator(".head .badge")).to_have_text("completed", timeout=60_000)
        await expect(page.locator("hub-result")).to_contain_text("3\n5")


async def test_a_node_shows_what_it_signed(page: Page, client: SwarmClient) -> None:
    job_id = await client.submit(
        SPIN.encode(), range(40), shard_size=20, redundancy=2, name="done twice"
    )
    await client.wait(job_id)
    await page.goto("/#/nodes?sort=name")
    await page.get_by_role("link", name="attic").click()
    signed = (
        page.locator("section")
        .filter(has_text="Its receipts")
        .locator("details")
        .filter(has_text="done twice")
    )
    await signed.locator("summary").click(position={"x": 3, "y": 8})
    # Of each shard it did one half of the copies.
    await expect(signed.get_by_text("shard 0, items 0")).to_have_count(1)
    await expect(signed.get_by_text("counted").first).to_be_visible()


async def test_the_shards_of_a_worker_that_is_killed_move(
    browser: Browser, hub: LocalHub, started: LocalSwarm, client: SwarmClient
) -> None:
    lost = started.start_worker("lost", hub)
    await started.wait_for_workers(client, 3)
    async with opened(browser, hub.url) as (page, _):
        await enter(page.context, hub.token)
        job_id = await client.submit(SPIN.encode(), range(100_000), shard_size=1000)
        await show_job(page, job_id)
        await page.get_by_text("Attempts as a table").click()
        rows = page.get_by_role("table", name="Attempts").get_by_role("row")
        await expect(rows.filter(has_text="lost").filter(has_text="running").first).to_be_visible()
        lost.kill()
        started.hubs.remove(lost)
        await expect(rows.filter(has_text="returned").filter(has_text="lost").first).to_be_visible()
        moved = rows.filter(has_text="retry").filter(has_not_text="lost")
        await expect(moved.first).to_be_visible(timeout=30_000)
        await client.cancel(job_id)
        await expect(page.locator(".head .badge")).to_have_text("cancelled")


async def test_a_job_of_the_past_is_replayed(page: Page, client: SwarmClient) -> None:
    job_id = await client.submit(SPIN.encode(), range(40), shard_size=10)
    await client.wait(job_id)
    await show_job(page, job_id, "completed")
    told = page.locator(".items-text")
    await expect(told).to_contain_text("40 of 40 items done")
    slider = page.get_by_label("Time of the replay")
    await slider.evaluate(SLIDE, 0)
    await expect(told).to_contain_text("0 of 40 items done")
    await page.get_by_label("How fast to replay").select_option("as it was")
    await page.get_by_role("button", name="Replay").click()
    await expect(told).to_contain_text("40 of 40 items done")
    await expect(page.get_by_role("button", name="Replay")).to_be_visible()
    canvas = page.get_by_label("Attempts over time")
    await canvas.focus()
    await canvas.press("+")
    await canvas.press(".")
    await expect(page.locator(".task-tip")).to_contain_text(", attempt 1")
    await canvas.press("0")
    await page.get_by_text("Story").click()
    await expect(page.locator(".job-line").first).to_contain_text("job queued")
    await expect(page.locator(".job-line").last).to_contain_text("job completed")


async def test_whatever_a_job_says_is_shown_as_text(
    page: Page, client: SwarmClient, tmp_path: Path
) -> None:
    rows = tmp_path / f"{MARKUP}.csv"
    rows.write_text("a\nb\n")
    job_id = await client.submit(
        says(2, MARKUP, 3).encode(), rows, split="lines", name=MARKUP, labels={MARKUP: MARKUP}
    )
    await client.wait(job_id)
    await show_job(page, job_id, "failed")
    await expect(page.get_by_role("heading", level=1)).to_have_text(MARKUP)
    failure = page.locator(".job-failure").first
    await expect(failure.locator("summary")).to_contain_text(MARKUP)
    await failure.locator("summary").click()
    await expect(failure.locator("pre").first).to_contain_text(MARKUP)
    for title in ("Story", "Specification", "Attempts as a table"):
        await page.get_by_text(title, exact=True).click()
    await expect(page.locator(".job-line").last).to_contain_text(MARKUP)
    assert await page.locator("hub-job img").count() == 0
    await page.goto("/#/jobs?state=failed")
    await expect(page.locator("hub-jobs").get_by_role("link", name=MARKUP)).to_be_visible()
    assert await page.locator("hub-jobs img").count() == 0
    assert "owned" not in await page.title()


async def test_jobs_are_found_by_what_the_address_says_and_cancelled_together(
    page: Page, client: SwarmClient
) -> None:
    nobody = {"node_labels": {"colour": "nobody"}}
    for number in range(2):
        await client.submit(
            CAT.encode(), b"x\n", split="lines", name=f"waits {number}",
            labels={"suite": "together"}, constraints=nobody,
        )  # fmt: skip
    await page.goto("/#/jobs?label=suite%3Dtogether&state=queued%2Crunning")
    rows = page.get_by_role("table", name="Jobs").locator("tbody tr")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Text").fill("waits 1")
    await expect(rows).to_have_count(1)
    assert "text=waits+1" in page.url
    await rows.get_by_role("link").click()
    await expect(page.get_by_text("It waits: ")).to_contain_text("colour")
    await page.go_back()
    await expect(page.get_by_label("Text")).to_have_value("waits 1")
    await page.get_by_label("Text").fill("")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Select all").check()
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await page.get_by_role("button", name="Cancel them").click()
    await expect(page.get_by_text("No job fits")).to_be_visible()


async def test_a_job_that_waits_is_changed_and_submitted_again(
    page: Page, client: SwarmClient
) -> None:
    nobody = {"node_labels": {"colour": "nobody"}}
    job_id = await client.submit(CAT.encode(), b"x\n", split="lines", constraints=nobody)
    await show_job(page, job_id, "queued")
    await page.get_by_role("button", name="Change…").click()
    await page.get_by_label("Priority").fill("7")
    await page.get_by_label("Labels").fill("run=2")
    await page.get_by_role("button", name="Change", exact=True).click()
    await expect(page.get_by_text("run: 2")).to_be_visible()
    assert (await client.status(job_id))["spec"]["priority"] == 7
    await page.get_by_role("button", name="Submit again").click()
    await page.wait_for_url(lambda url: job_id not in url)
    await expect(page.get_by_text("run: 2")).to_be_visible()
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Cancel the job").click()
    await expect(page.locator(".head .badge")).to_have_text("cancelled")
    await client.cancel(job_id)


async def test_who_may_only_read_sees_jobs_and_no_buttons(
    tab: tuple[Page, Watched], client: SwarmClient
) -> None:
    job_id = await client.submit(CAT.encode(), b"x\n", split="lines", name="to be read")
    await client.wait(job_id)
    page, _ = tab
    await page.goto(f"/#code={(await client.page_code('read'))['code']}")
    await page.get_by_role("link", name="Jobs", exact=True).click()
    await page.get_by_role("link", name="to be read").click()
    await expect(page.locator(".head .badge")).to_have_text("completed")
    await expect(page.get_by_role("button", name="Submit again")).to_have_count(0)
    await page.go_back()
    await expect(page.get_by_role("link", name="to be read")).to_be_visible()
    await expect(page.get_by_role("checkbox")).to_have_count(0)


async def test_nothing_keeps_people_from_using_the_views(
    browser: Browser, hub: LocalHub, client: SwarmClient
) -> None:
    job_id = await client.submit(CAT_BUT_X.encode(), b"a\nX\nb\n", split="lines", on_error="skip")
    await client.wait(job_id)
    size: Any = {"width": 360, "height": 740}
    async with opened(browser, hub.url, viewport=size) as (page, _):
        await enter(page.context, hub.token)
        for path, sign in (
            ("jobs", "tbody tr"), ("submit", "#field-abi"), (f"jobs/{job_id}", ".job-failure"),
        ):  # fmt: skip
            await page.goto(f"/#/{path}")
            await page.locator(sign).first.wait_for(state="attached")
            for each in await page.locator("details").all():
                await each.locator("summary").first.click()
            for theme in ("light", "dark"):
                await page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                await axe(page)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, path
