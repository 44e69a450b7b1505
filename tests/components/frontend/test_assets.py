"""The page's files: what a browser gets, keeps and runs."""

import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from swarm_hub.components.frontend.assets import imported, read
from tests.conftest import RunningHub, Swarm

# What a browser gets before it shows anything of the hub, and all that it may ever get.
AT_ONCE_MAX_BYTES = 100_000
PAGE_MAX_BYTES = 262_144
# What makes markup of a text.
MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTML|srcdoc|eval\(")


async def ask(hub: RunningHub, path: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{hub.url}{path}", headers=headers) as response,
    ):
        return response.status, response.headers, await response.read()


async def test_the_page_needs_no_token_and_is_asked_for_again_each_time(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, told, body = await ask(gateway, "/")
    assert (status, told["Content-Type"], told["Cache-Control"]) == (200, "text/html", "no-cache")
    assert f"/frontend/{read().version}/main.js".encode() in body
    assert b"{{" not in body
    status, _, body = await ask(gateway, "/", **{"If-None-Match": told["ETag"]})
    assert (status, body) == (304, b"")
    async with aiohttp.ClientSession() as session, session.head(f"{gateway.url}/") as head:
        assert (head.status, head.headers["ETag"]) == (200, told["ETag"])


async def test_each_file_is_kept_for_ever_and_comes_as_small_as_the_browser_takes_it(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    page = read()
    for name, content in page.files.items():
        path = f"/frontend/{page.version}/{name}"
        status, told, body = await ask(gateway, path, **{"Accept-Encoding": "gzip"})
        assert status == 200, name
        assert told["Cache-Control"] == "public, max-age=31536000, immutable"
        packed = told.get("Content-Encoding") == "gzip"
        assert packed or len(content) < 4096
        assert (zlib.decompress(body, 31) if packed else body) == content
        assert "script-src 'self';" in told["Content-Security-Policy"]
        assert "unsafe" not in told["Content-Security-Policy"]
        assert told["X-Content-Type-Options"] == "nosniff"
    for path in ("old/main.js", f"{page.version}/none.js", f"{page.version}/..%2fassets.py"):
        status, _, _ = await ask(gateway, f"/frontend/{path}")
        assert status == 404, path


@pytest.mark.parametrize("word", ["on", "off"])
async def test_a_hub_may_be_without_a_page(swarm: Swarm, word: str) -> None:
    gateway = await swarm.gateway(extra="frontend: false\n" if word == "off" else "")
    assert ("frontend" in gateway.hub.components) == (word == "on")
    status, _, _ = await ask(gateway, "/")
    assert status == (200 if word == "on" else 401)


def test_the_page_is_light_and_its_folder_has_nothing_else(tmp_path: Path) -> None:
    page = read()
    at_once = [page.first, *(page.files[name] for name in imported(page.files))]
    styles = [body for name, body in page.files.items() if name.endswith(".css")]
    assert sum(map(len, (*at_once, *styles))) < AT_ONCE_MAX_BYTES
    assert sum(map(len, page.files.values())) < PAGE_MAX_BYTES
    folder = Path(read.__code__.co_filename).parent / "page"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == set(page.files)
    (tmp_path / "index.html").write_bytes(b"another")
    assert read(tmp_path).version != page.version


def test_the_browser_is_told_at_once_what_the_page_begins_with() -> None:
    page = read()
    told = re.findall(
        r'<link rel="modulepreload" href="/frontend/\w+/([^"]+)">', page.first.decode()
    )
    assert told[0] == "main.js"
    assert {"core/dom.js", "core/store.js", "views/overview.js"} <= set(told)
    # A browser fetches six at once from a host: with the style and the first questions two rounds.
    assert len(told) <= 6
    assert "views/events.js" not in told
    assert set(told) <= set(page.files)


def test_no_file_of_the_page_makes_markup_of_a_text() -> None:
    for name, body in read().files.items():
        assert MARKUP.search(body.decode()) is None, name
        assert " style=" not in body.decode() or not name.endswith(".html"), name
