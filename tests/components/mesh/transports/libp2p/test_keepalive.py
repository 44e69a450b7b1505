"""The kernel keeps connections alive that say nothing, where it can."""

import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from swarm_hub.components.mesh.transports.libp2p import keepalive
from tests.helpers.transports import Factory, Side, connected, run_factory

KNOWN = [(name, value) for name, value in keepalive.OPTIONS if hasattr(socket, name)]


@pytest.fixture
async def make() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


async def options(side: Side, peer_id: str) -> dict[str, int]:
    """Return what is set on the socket that leads to a peer."""
    transport: Any = side.transport

    async def read() -> dict[str, int]:
        from swarm_hub.components.mesh.transports.libp2p.patches import tcp_stream

        (connection,) = transport._host._connections(peer_id)
        sock = tcp_stream(connection.muxed_conn).stream.socket
        found = {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name, _ in KNOWN
        }
        alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return {**found, "SO_KEEPALIVE": int(bool(alive))}

    found: dict[str, int] = await transport._bridge.call(read)
    return found


@pytest.mark.network
async def test_both_ends_of_a_connection_are_kept_alive(make: Factory) -> None:
    accepted, dialled = await connected(make)
    wanted = {**dict(KNOWN), "SO_KEEPALIVE": 1}
    assert await options(accepted, dialled.peer_id) == wanted
    assert await options(dialled, accepted.peer_id) == wanted


def test_what_a_system_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in KNOWN:
        monkeypatch.delattr(socket, name)
    asked: list[tuple[int, ...]] = []
    keepalive.keep_alive(SimpleNamespace(setsockopt=lambda *option: asked.append(option)))
    assert asked == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


def test_a_socket_without_tcp_is_left_as_it_is() -> None:
    left, right = socket.socketpair()
    with left, right:
        keepalive.keep_alive(left)
    keepalive.keep_alive(left)
