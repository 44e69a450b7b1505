"""Connections over which no session is opened are closed; others stay."""

import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm_hub.components.mesh.identity import parse_dial_address
from swarm_hub.components.mesh.wire.limits import TransportLimits
from tests.conftest import until
from tests.helpers.transports import QUICK, Factory, Side, run_factory

pytestmark = [pytest.mark.network, pytest.mark.slow]

WITHIN_S = 1.0
STRICT = dataclasses.replace(QUICK, session_within_s=WITHIN_S)


@pytest.fixture
async def make() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


async def in_trio(side: Side, function: Any, *args: Any) -> Any:
    transport: Any = side.transport
    return await transport._bridge.call(function, *args)


async def connections(side: Side, peer_id: str) -> int:
    transport: Any = side.transport

    async def count() -> int:
        return len(transport._host._connections(peer_id))

    found: int = await in_trio(side, count)
    return found


async def connect(side: Side, other: Side) -> None:
    """Open a connection and no session, as a libp2p node does that is no hub."""
    transport: Any = side.transport
    address = parse_dial_address(other.address)
    await in_trio(side, transport._host._connect, address, ["127.0.0.1"])


async def test_a_peer_that_opens_no_session_is_closed(make: Factory) -> None:
    hub, foreign = await make(limits=STRICT), await make()
    began = time.monotonic()
    await connect(foreign, hub)

    async def places() -> int:
        return transport._host._connection_limits._by_ip.total()  # type: ignore[no-any-return]

    await until(lambda: connections(hub, foreign.peer_id), bool)
    await until(lambda: connections(hub, foreign.peer_id), lambda count: count == 0)
    assert time.monotonic() - began >= WITHIN_S
    transport: Any = hub.transport
    # Its place is free for others again.
    await until(lambda: in_trio(hub, places), lambda count: count == 0)
    # It is told so, and may come back as a hub.
    await until(lambda: connections(foreign, hub.peer_id), lambda count: count == 0)
    assert await foreign.transport.dial(hub.address) == hub.peer_id
    await hub.until(lambda: foreign.peer_id in hub.live())


async def test_a_connection_with_a_session_stays_also_when_the_dht_uses_it(make: Factory) -> None:
    sides = [await make(limits=STRICT, content=True) for _ in range(2)]
    hub, other = sides
    await other.transport.dial(hub.address)
    await hub.until(lambda: other.peer_id in hub.live())
    began = time.monotonic()

    async def asked_for_long() -> bool:
        await other.transport.find_providers("5" * 64)
        return time.monotonic() - began > 2 * WITHIN_S

    await until(asked_for_long, bool)
    assert [kind for kind, *_ in (*hub.events, *other.events)] == ["up", "up"]


def test_a_peer_has_ten_seconds() -> None:
    assert TransportLimits().session_within_s == 10
