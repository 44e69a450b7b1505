"""The page in Chromium: its weight, and how long a browser without a cache takes to show the swarm.

A phone is emulated as Chromium's own tools do: a CPU four times slower, and "fast 3G" (1.44 Mbit/s,
562 ms before each answer begins), the harder of the two things that are called so.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from figures import Figures, start
from playwright.async_api import Browser, Page
from rounds import spread

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.frontend import assets

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.helpers.browser import chromium, enter

_PHONE: Final = {"width": 360, "height": 740}
_FAST_3G: Final = {"latency": 562.5, "downloadThroughput": 180_000, "uploadThroughput": 84_375}
_SLOWER: Final = 4
# When the overview tells how many nodes are up, and what jobs there are.
_USEFUL: Final = """() => {
  const look = () => {
    const has = (selector, text) => document.querySelector(selector)?.textContent.includes(text);
    if (has(".figures dd", " up") && has("main", "Jobs")) window.usefulAt = performance.now();
    else requestAnimationFrame(look);
  };
  look();
}"""


async def main() -> None:
    """Weigh the page, then open it again and again, each time in a new tab without a cache."""
    figures, arguments = start(__doc__ or "")
    _weigh(figures)
    n_rounds = 5 if arguments.quick else 15
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway()
            swarm.start_worker("kitchen", gateway)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, 1)
            async with chromium() as browser:
                await _paints(figures, browser, gateway, n_rounds, is_phone=False)
                await _paints(figures, browser, gateway, n_rounds, is_phone=True)
        finally:
            swarm.stop()


def _weigh(figures: Figures) -> None:
    page = assets.read()
    at_once = assets.imported(page.files)
    first = len(page.first) + sum(len(page.files[name]) for name in (*at_once, "style/main.css"))
    figures.add("page_kb", sum(map(len, page.files.values())) / 1000, "KB", target=150)
    figures.add("page_first_view_kb", first / 1000, "KB", requests=len(at_once) + 2)


async def _paints(
    figures: Figures, browser: Browser, gateway: LocalHub, n_rounds: int, *, is_phone: bool
) -> None:
    firsts, usefuls = [], []
    for _ in range(n_rounds):
        context = await browser.new_context(base_url=gateway.url, viewport=_PHONE)  # type: ignore[arg-type]
        await enter(context, gateway.token)
        await context.add_init_script(f"({_USEFUL})()")
        page = await context.new_page()
        if is_phone:
            await _slow_down(page)
        await page.goto("/", wait_until="commit")
        await page.wait_for_function("() => window.usefulAt")
        first: dict[str, Any] = await page.evaluate(
            "({ first: performance.getEntriesByName('first-contentful-paint')[0].startTime, "
            "useful: window.usefulAt })"
        )
        firsts.append(first["first"] / 1000)
        usefuls.append(first["useful"] / 1000)
        await context.close()
    name, target = ("page_phone", 2.5) if is_phone else ("page", 0.5)
    figures.add_spread(f"{name}_first_paint_s", spread(firsts), "s", of=n_rounds)
    figures.add_spread(f"{name}_overview_s", spread(usefuls), "s", target=target, of=n_rounds)


async def _slow_down(page: Page) -> None:
    debugger = await page.context.new_cdp_session(page)
    await debugger.send("Network.enable")
    await debugger.send("Network.emulateNetworkConditions", {"offline": False, **_FAST_3G})
    await debugger.send("Emulation.setCPUThrottlingRate", {"rate": _SLOWER})


if __name__ == "__main__":
    asyncio.run(main())
