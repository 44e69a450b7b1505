"""Fixtures: a browser for each module of tests, hubs of real processes, and tabs that are watched.

A module that uses them has `pytestmark = pytest.mark.asyncio(loop_scope="module")`, since a
browser belongs to the loop that started it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.browser import Watched, chromium, enter, opened
from tests.helpers.swarms import local_swarm, start_warm


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Return a browser without a window."""
    async with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSwarm]:
    """Return a swarm of processes, in which a module starts what it needs."""
    swarm = local_swarm(tmp_path_factory.mktemp("swarm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalHub, "start", start_warm)
        yield swarm
        swarm.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(started: LocalSwarm) -> LocalHub:
    """Return a gateway that has two workers."""
    gateway = started.start_gateway()
    for name in ("kitchen", "attic"):
        started.start_worker(name, gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await started.wait_for_workers(client, 2)
    return gateway


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: Browser, hub: LocalHub) -> AsyncIterator[tuple[Page, Watched]]:
    """Return an empty tab, and what goes wrong in it; the test fails for what it has not forgiven.

    Its addresses are relative to the hub: `await page.goto("/#/nodes")`.
    """
    async with opened(browser, hub.url) as (page, watched):
        yield page, watched


@pytest_asyncio.fixture(loop_scope="module")
async def page(tab: tuple[Page, Watched], hub: LocalHub) -> Page:
    """Return an empty tab whose pages have the hub's own token."""
    found, _ = tab
    await enter(found.context, hub.token)
    return found


@pytest.fixture
def outliving(request: pytest.FixtureRequest) -> Sequence[Any]:
    """Return the processes that tests of a module share."""
    if "browser" not in request.fixturenames:
        return ()
    request.getfixturevalue("browser")
    hubs = request.getfixturevalue("started").hubs if "started" in request.fixturenames else ()
    return [*hubs, *filter(_is_driver, psutil.Process().children())]


def _is_driver(process: psutil.Process) -> bool:
    try:
        return "playwright" in process.exe()
    except psutil.Error:
        # It has ended, as children that other tests started do.
        return False
