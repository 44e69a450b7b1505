"""A place on the page that an owner's component brings, as docs/components/frontend.md shows it."""

import json
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from swarm_hub.endpoints import Place, Scope
from swarm_hub.endpoints.registry import Endpoints
from swarm_hub.exceptions import SetupError
from tests.conftest import RunningHub, Swarm
from tests.helpers.browser import axe, chromium, enter, opened
from tests.helpers.snippets import code_of

PAGE = "docs/components/frontend.md"


async def heated(swarm: Swarm, folder: Path) -> RunningHub:
    home = folder / "gateway" / "custom_components" / "heater"
    home.mkdir(parents=True)
    manifest = {
        "domain": "heater", "name": "Heater", "documentation": "README.md", "version": "1.0.0",
        "serves": ["/heater"],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(code_of(PAGE, "python"))
    (home / "heater.js").write_text(code_of(PAGE, "js"))
    return await swarm.gateway(extra="heater:\n")


async def test_it_is_shown_beside_the_others(swarm: Swarm, tmp_path: Path) -> None:
    gateway = await heated(swarm, tmp_path)
    async with chromium() as browser, opened(browser, gateway.url) as (page, _):
        await enter(page.context, gateway.token)
        await page.goto("/")
        await page.get_by_role("navigation").get_by_role("link", name="Heater").click()
        await page.get_by_text("21.5 °C").wait_for()
        assert page.url.endswith("#/own/heater")
        assert (await page.title()).startswith("Heater")
        await axe(page)
        await page.goto("/#/health")
        await expect(page.locator("main").get_by_text("heater", exact=True).first).to_be_visible()
        await expect(page.get_by_text("Of your own")).to_be_visible()


async def test_its_module_is_served_under_the_policy_of_the_page(
    swarm: Swarm, tmp_path: Path
) -> None:
    gateway = await heated(swarm, tmp_path)
    async with aiohttp.ClientSession(gateway.url) as session:
        first = await (await session.get("/")).text()
        assert '<meta name="place" content="heater|read|Heater">' in first
        base = first.partition('/main.js"')[0].rpartition('"')[2]
        async with session.get(f"{base}/own/heater.js") as answer:
            assert answer.content_type == "text/javascript"
            assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
            assert "own-heater" in await answer.text()


@pytest.mark.parametrize(
    ("name", "title", "size", "said"),
    [
        ("Heater", "Heater", 1, "its name must be small letters"),
        ("heater", "", 1, "its title must have 1 to 30 characters"),
        ("heater", "H" * 31, 1, "its title must have 1 to 30 characters"),
        ("heater", "Heater", None, "No such file"),
        ("heater", "Heater", 65537, "is larger than 64 KiB"),
    ],
)
def test_one_that_can_not_be_is_refused(
    tmp_path: Path, name: str, title: str, size: int | None, said: str
) -> None:
    path = tmp_path / "heater.js"
    if size is not None:
        path.write_bytes(b"/" * size)
    with pytest.raises(SetupError, match=said):
        Endpoints().add_place(Place(name, title, path, Scope.READ))
