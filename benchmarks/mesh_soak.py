"""A long life of two transports over libp2p: requests, reconnects, and what they leave behind."""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Sequence

import psutil
from figures import start

from swarm_hub.components.mesh.transports.base import Session, Transport
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message

_INFLIGHT = 64
_BODY_BYTES = 1024


class Side:
    """A transport that answers every question with its body."""

    def __init__(self) -> None:
        self.transport = Libp2pTransport(os.urandom(32), listen=["/ip4/127.0.0.1/tcp/0"])
        self.session: Session | None = None

    def peer_up(self, session: Session) -> None:
        """Note a session."""
        self.session = session

    def peer_down(self, _session: Session, _reason: str) -> None:
        """Note its end."""
        self.session = None

    def received(self, session: Session, messages: Sequence[Message]) -> None:
        """Answer."""
        for _, fields in messages:
            reply = {"ask": fields["ask"], "body": fields["body"]}
            session.send(encode_message("reply", reply))

    def gossiped(self, *_: object) -> None:
        """Nothing is gossiped here."""

    def discovered(self, *_: object) -> None:
        """Nobody is discovered here."""

    def flooded(self, peer_id: str, reason: str) -> None:
        """An honest peer never is."""
        raise SystemExit(f"{peer_id} counts as a flood: {reason}")

    def failed(self, reason: str) -> None:
        """End the run."""
        raise SystemExit(reason)

    async def until(self, live: bool) -> None:
        """Wait until there is a session, or none."""
        deadline = time.monotonic() + 30
        while (self.session is not None) is not live:
            if time.monotonic() > deadline:
                raise SystemExit("a session did not come or go within 30 s")
            await asyncio.sleep(0.002)

    async def tasks(self) -> int:
        """Count the tasks of the trio side."""
        import trio

        async def count() -> int:
            return int(trio.lowlevel.current_statistics().tasks_living)

        assert self.transport._bridge is not None
        return await self.transport._bridge.call(count)

    def streams(self) -> int:
        """Count the streams that are open."""
        assert self.transport._host is not None
        connections = self.transport._host._swarm.get_connections_map().values()
        return sum(len(one.get_streams()) for each in connections for one in each)


async def main() -> None:
    """Ask and reconnect, and compare with the beginning."""
    figures, arguments = start(__doc__ or "", _options)
    a, b = Side(), Side()
    for side in (a, b):
        transport: Transport = side.transport
        await transport.start(side)
    address = a.transport.addresses()[0]
    await b.transport.dial(address)
    await a.until(True)
    await _ask(a, b, 2000)
    await _reconnect(a, b, address, 20)
    before = await _left(a, b)
    started = time.monotonic()
    failed = await _ask(a, b, arguments.requests)
    asked_s = time.monotonic() - started
    await _reconnect(a, b, address, arguments.reconnects)
    after = await _left(a, b)
    figures.add(
        "requests", arguments.requests, "", failed=failed, per_s=round(arguments.requests / asked_s)
    )
    figures.add("reconnects", arguments.reconnects, "", took_s=round(time.monotonic() - started))
    for name, unit in (("rss_mb", "MiB"), ("tasks", ""), ("streams", "")):
        grown = after[name] - before[name]
        figures.add(f"{name}_growth", grown, unit, before=round(before[name], 1))
    for side in (b, a):
        await side.transport.stop()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--reconnects", type=int, default=500)


async def _ask(a: Side, b: Side, count: int) -> int:
    body, session = os.urandom(_BODY_BYTES), b.session
    assert session is not None
    left, failed = iter(range(count)), 0

    async def one_after_another() -> None:
        nonlocal failed
        for _ in left:
            answer = await session.request("echo", {"body": body})
            failed += answer["body"] != body

    await asyncio.gather(*(one_after_another() for _ in range(_INFLIGHT)))
    return failed


async def _reconnect(a: Side, b: Side, address: str, count: int) -> None:
    for _ in range(count):
        assert b.session is not None
        await b.session.close("round")
        await a.until(False)
        await b.transport.dial(address)
        await a.until(True)


async def _left(a: Side, b: Side) -> dict[str, float]:
    """Return what is there once everything has settled; the lowest of a while."""
    gc.collect()
    found: list[dict[str, float]] = []
    for _ in range(60):
        await asyncio.sleep(0.1)
        found.append(
            {
                "rss_mb": psutil.Process().memory_info().rss / 2**20,
                "tasks": await a.tasks() + await b.tasks(),
                "streams": a.streams() + b.streams(),
            }
        )
    return {name: min(one[name] for one in found) for name in found[0]}


if __name__ == "__main__":
    asyncio.run(main())
