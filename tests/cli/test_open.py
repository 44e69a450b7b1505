"""`open`: a link to the page that works once, in a browser if there is one, else on stdout."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarm_hub.cli.open import _address
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.command_line import Done
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]
BLIND = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""}


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def session_of(hub: RunningHub, link: str) -> dict[str, str]:
    address, _, code = link.partition("/#code=")
    assert address == hub.url
    status, session = await call(hub, "POST", "/sessions", json={"code": code}, token=None)
    assert status == 201, session
    return dict(session)


async def test_without_a_display_the_link_is_on_stdout(
    gateway: RunningHub, run_beside: Beside
) -> None:
    for options in ((), ("--url", gateway.url)):
        done = await run_beside("open", "-c", gateway.folder, *options, **BLIND)
        assert done.code == 0, done.err
        assert "once, within 10 minutes" in done.err
        session = await session_of(gateway, done.out.strip())
        assert session["scope"] == "admin"
    arguments = ("open", "--scope", "read", "--name", "hall", "--print", "-c", gateway.folder)
    done = await run_beside(*arguments, DISPLAY=":0", BROWSER="")
    session = await session_of(gateway, done.out.strip())
    assert (session["scope"], session["name"]) == ("read", "hall")
    names = [
        token.name
        for token in TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE).all()
        if token.session
    ]
    assert names[-1] == "hall"


async def test_a_browser_is_given_the_link(
    gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    browser, given = tmp_path / "browser", tmp_path / "given"
    browser.write_text(f'#!/bin/sh\necho "$1" > {given}\n')
    browser.chmod(0o700)
    done = await run_beside("open", "-c", gateway.folder, BROWSER=f"{browser} %s")
    assert (done.code, done.out) == (0, ""), done.err
    assert "opens in your browser" in done.err
    await session_of(gateway, given.read_text().strip())


async def test_a_hub_without_a_page_says_so(swarm: Swarm, run_beside: Beside) -> None:
    hub = await swarm.gateway(extra="frontend: false\n")
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    done = await run_beside("open", "-c", hub.folder, **BLIND)
    assert (done.code, done.out) == (1, "")
    assert "frontend: false" in done.err
    await swarm.stop(hub)
    done = await run_beside("open", "-c", hub.folder, **BLIND)
    assert done.code == 3
    assert "a hub without api: or gateway: has no page" in done.err


def test_a_phone_gets_an_address_that_leads_to_this_device() -> None:
    told = ["http://localhost:8470", "http://192.168.1.5:8470"]
    assert _address("unix:///x", told, away=False) == told[0]
    assert _address("unix:///x", told, away=True) == told[1]
    assert _address("https://box.local#sha256=00", told, away=True) == "https://box.local"
    with pytest.raises(HubError, match="api: host"):
        _address("http://127.0.0.1:8470", told[:1], away=True)
