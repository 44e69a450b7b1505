"""The relay that stands for a bad link is as bad as it says, and not worse."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.networks.link import PERFECT, UP, Link, Quality


@asynccontextmanager
async def linked(quality: Quality) -> AsyncIterator[tuple[Link, socket.socket, socket.socket]]:
    """Have a link and the two ends of a connection over it."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as behind, socket.socket() as near:
        behind.setblocking(False)
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        link = Link(listener, lambda: (socket.socket(), behind.getsockname()), quality)
        near.setblocking(False)
        async with link.running():
            await loop.sock_connect(near, address)
            far, _ = await loop.sock_accept(behind)
            with far:
                far.setblocking(False)
                yield link, near, far


async def time_of(near: socket.socket, far: socket.socket, size_bytes: int) -> float:
    """Return how long that many bytes take; they arrive whole and in order."""
    loop = asyncio.get_running_loop()
    sent = bytes(number % 251 for number in range(size_bytes))
    began = time.monotonic()
    sending = asyncio.create_task(loop.sock_sendall(near, sent))
    received = bytearray()
    while len(received) < size_bytes:
        received += await loop.sock_recv(far, 65536)
    await sending
    assert received == sent
    return time.monotonic() - began


async def test_each_direction_is_delayed() -> None:
    async with linked(Quality(delay_s=0.2)) as (_, near, far):
        assert 0.2 <= await time_of(near, far, 1) < 1
        assert 0.2 <= await time_of(far, near, 1) < 1


async def test_the_rate_is_kept() -> None:
    async with linked(Quality(bytes_a_second=1_000_000)) as (link, near, far):
        assert 0.5 <= await time_of(near, far, 500_000) < 2
        assert link.passed_bytes[UP] == 500_000


async def test_a_lost_packet_holds_up_what_is_behind_it() -> None:
    async with linked(Quality(loss=1.0)) as (_, near, far):
        assert 0.2 <= await time_of(near, far, 1000) < 1


async def test_a_cut_is_silent_and_what_waited_arrives_afterwards() -> None:
    loop = asyncio.get_running_loop()
    async with linked(PERFECT) as (link, near, far):
        link.cut()
        await loop.sock_sendall(near, b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(far, 10), 0.3)
        link.mend()
        assert await loop.sock_recv(far, 10) == b"late"


async def test_a_reset_breaks_both_ends() -> None:
    loop = asyncio.get_running_loop()
    async with linked(PERFECT) as (link, near, far):
        await time_of(near, far, 10)
        link.reset()
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(loop.sock_recv(end, 10), 5)
