"""What a host of libp2p does by itself, and what it leaves."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.transports import Factory, Side, connected, run_factory

pytestmark = pytest.mark.network


@pytest.fixture
async def make() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


async def asked(side: Side) -> set[str]:
    """Return which peers were asked, or are being asked, what they are."""
    transport: Any = side.transport

    async def read() -> set[str]:
        host = transport._host._host
        return {str(peer) for peer in (*host._identified_peers, *host._identify_inflight)}

    found: set[str] = await transport._bridge.call(read)
    return found


async def test_the_library_asks_every_peer_what_it_is_and_we_ask_nobody(make: Factory) -> None:
    a, b = await connected(make)
    from libp2p.host.basic_host import BasicHost

    assert "_schedule_identify" in inspect.getsource(BasicHost._on_notifee_connected)
    assert await asked(a) == await asked(b) == set()
