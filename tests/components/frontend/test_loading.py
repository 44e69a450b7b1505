"""The page in a real browser: it loads, asks nobody else, and breaks no rule of its own."""

import pytest
from playwright.async_api import Page, expect

from tests.helpers.browser import Watched

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]


async def test_the_page_loads_without_an_error(page: Page) -> None:
    answer = await page.goto("/")
    assert answer is not None
    assert answer.status == 200
    await expect(page).to_have_title("Overview · gateway", timeout=30_000)
    assert await page.locator("#app").inner_text()


async def test_a_tab_is_failed_by_whatever_goes_wrong_in_it(tab: tuple[Page, Watched]) -> None:
    page, watched = tab
    await page.goto("/")
    await page.evaluate(
        """() => {
          console.error("broken");
          const script = document.createElement("script");
          script.textContent = "1";
          document.head.append(script);
          return fetch("http://127.0.0.1:1/").catch(() => 0);
        }"""
    )
    watched.forgive("broken")
    watched.forgive("Executing inline script violates")
    watched.forgive("http://127.0.0.1:1/")
