"""uvloop is used where it is there, and never needed."""

import asyncio
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from swarm_hub.util.event_loop import event_loop_name, new_event_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_uvloop_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop
) -> None:
    fast = SimpleNamespace(new_event_loop=lambda: loop, __version__="1.2.3")
    monkeypatch.setitem(sys.modules, "uvloop", fast)
    assert new_event_loop() is loop
    assert event_loop_name() == "uvloop 1.2.3"


def test_a_hub_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Importing it fails as it does where it is not installed.
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    loop.close()
    assert type(loop) is asyncio.SelectorEventLoop
    assert event_loop_name() == "asyncio"
