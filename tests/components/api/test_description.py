"""The page that shows the API: it asks nobody else, and tells nothing of the hub by itself."""

import re
from pathlib import Path

import aiohttp
import pytest

import swarm_hub.components.api
from tests.conftest import Swarm

FOLDER = Path(swarm_hub.components.api.__file__).parent / "docs_page"
FILES = ("index.html", "page.css", "page.js")


@pytest.mark.parametrize(
    ("path", "name", "media_type"),
    [
        ("/docs", "index.html", "text/html"),
        ("/docs/page.css", "page.css", "text/css"),
        ("/docs/page.js", "page.js", "text/javascript"),
    ],
)
async def test_the_page_is_served_to_everybody_and_may_do_little(
    swarm: Swarm, path: str, name: str, media_type: str
) -> None:
    gateway = await swarm.gateway()
    async with aiohttp.ClientSession() as session, session.get(gateway.url + path) as response:
        assert (response.status, response.content_type) == (200, media_type)
        # The same on every hub.
        assert await response.read() == (FOLDER / name).read_bytes()
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        foreign = {"Origin": "https://evil.example"}
        async with session.get(gateway.url + path, headers=foreign) as refused:
            assert refused.status == 403


@pytest.mark.parametrize("name", FILES)
def test_it_leads_to_no_other_host_and_makes_no_markup_of_what_it_shows(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    if name.endswith(".html"):
        # The policy lets only files run and style.
        assert "style=" not in text
        assert not re.search(r"<script(?! src=)|<style|\son[a-z]+=", text)
