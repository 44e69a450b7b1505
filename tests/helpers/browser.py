"""A real browser on a hub's page: Debian's Chromium, which tells whatever goes wrong in it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

_CHROMIUM: Final = "/usr/bin/chromium"
_AXE: Final = Path(__file__).parents[1] / "interop" / "node_modules" / "axe-core" / "axe.min.js"
_GRAVE: Final = ("serious", "critical")
# The console has those, too, which the page deals with.
_REFUSED: Final = "Failed to load resource: the server responded with a status of"


class Watched:
    """What went wrong in the pages of a context; a test says what it expects."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def watch(self, page: Page, url: str) -> None:
        """Note a page's errors (breaches of its policy are some), and requests not to `url`."""
        own = urlsplit(url).netloc

        def requested(address: str) -> None:
            parts = urlsplit(address)
            if parts.scheme not in ("data", "blob", "about") and parts.netloc != own:
                self.problems.append(f"request to another host: {address}")

        page.on("request", lambda request: requested(request.url))
        page.on("websocket", lambda socket: requested(socket.url))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: (
                self.problems.append(f"{said.type}: {said.text}")
                if said.type in ("error", "warning")
                else None
            ),
        )

    def forgive(self, part: str) -> None:
        """Drop the problems that have this in their text; fail if there is none."""
        kept = [problem for problem in self.problems if part not in problem]
        assert len(kept) < len(self.problems), f"no problem has {part!r}: {self.problems}"
        self.problems = kept

    def forgive_refusals(self) -> None:
        """Drop what the console says of answers with a status from 400 on, if there are any."""
        self.problems = [problem for problem in self.problems if _REFUSED not in problem]

    def forgive_lost_connections(self) -> None:
        """Drop what the console says while a hub is not there, if anything."""
        lost = ("net::ERR_", "WebSocket connection to")
        self.problems = [
            problem for problem in self.problems if not any(part in problem for part in lost)
        ]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: Any) -> AsyncIterator[tuple[Page, Watched]]:
    """Open a tab of its own, not yet on a page; fails at its end for whatever went wrong in it.

    `options` are those of a playwright context, such as `viewport` and `color_scheme`.
    """
    context = await browser.new_context(base_url=url, **options)
    page = await context.new_page()
    watched = Watched()
    try:
        watched.watch(page, url)
        yield page, watched
    finally:
        # An answer that a test has changed may still be on its way.
        await page.unroute_all(behavior="ignoreErrors")
        await context.close()
    assert not watched.problems, "\n".join(watched.problems)


async def enter(context: BrowserContext, token: str) -> None:
    """Have each page of a context begin with a token, as if it had been pasted there."""
    await context.add_init_script(
        f"if (!sessionStorage.getItem('swarm_hub.token')) "
        f"sessionStorage.setItem('swarm_hub.token', {json.dumps(token)});"
    )


async def axe(page: Page) -> None:
    """Fail for whatever keeps people from using a page, as axe-core finds it.

    It comes by the debugger, so that the page's policy stays as it is.
    """
    session = await page.context.new_cdp_session(page)
    source = _AXE.read_text(encoding="utf-8")
    expression = (
        f"{source}\n;axe.run(document, {{resultTypes: ['violations']}}).then(JSON.stringify)"
    )
    told = await session.send(
        "Runtime.evaluate",
        {"expression": expression, "awaitPromise": True, "returnByValue": True},
    )
    await session.detach()
    assert "exceptionDetails" not in told, told
    found = json.loads(told["result"]["value"])["violations"]
    grave = [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html']}"
        for each in found
        if each["impact"] in _GRAVE
        for node in each["nodes"][:3]
    ]
    assert not grave, "\n".join(grave)
