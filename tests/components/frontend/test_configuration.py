"""The page's view of the configuration in a real browser: values in force, check, reload."""

import pytest
from playwright.async_api import Page, expect

from swarm_hub.cli.swarm import LocalHub
from tests.helpers.browser import Watched, axe

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A machine may be slow.
expect.set_options(timeout=30_000)


async def test_values_are_shown_the_files_checked_and_a_valid_change_is_taken(
    page: Page, tab: tuple[Page, Watched], hub: LocalHub
) -> None:
    _, watched = tab
    path = hub.folder / "configuration.yaml"
    valid = path.read_text()
    await page.goto("/#/configuration")
    await page.get_by_label("Search keys and values").fill("sla →")
    row = page.get_by_role("row").filter(has_text="sla → factor")
    await expect(row).to_contain_text("default")
    await expect(row).to_contain_text("reload")
    await axe(page)
    path.write_text(valid + "sla: {factr: 3}\n")
    await page.get_by_role("button", name="Check the files").click()
    await expect(page.locator(".notice-bad")).to_contain_text("did you mean factor?")
    await expect(page.locator(".notice-bad")).to_contain_text("configuration.yaml:")
    await page.get_by_role("button", name="Reload").click()
    await expect(page.get_by_role("heading", name="Nothing was changed")).to_be_visible()
    watched.forgive_refusals()
    path.write_text(valid + "sla: {factor: 3}\nsandbox: {memory: 64MiB}\n")
    await page.get_by_role("button", name="Check the files").click()
    await expect(page.get_by_text("The files are valid")).to_be_visible()
    await page.get_by_role("button", name="Reload").click()
    await expect(page.get_by_text("2 → 3")).to_be_visible()
    await expect(page.get_by_text("wait for a restart of the hub: sandbox")).to_be_visible()
    await expect(row).to_contain_text("configuration.yaml:")
    await axe(page)
