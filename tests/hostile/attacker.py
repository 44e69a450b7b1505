"""A hostile peer in a process of its own: `python -m tests.hostile.attacker MODE ADDRESS SECONDS`.

It prints `attacking` when it begins, and one line of JSON with what it did. Its identity is new
each time.
"""

import asyncio
import contextlib
import json
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import cbor2

from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.wire.framing import encode_frame, encode_message
from swarm_hub.components.telemetry.board import TOPIC
from swarm_hub.models.envelope import TYPE_HELLO, canonical, sign
from swarm_hub.util.ed25519 import SigningKey

_SYN_WINDOW_UPDATE = struct.Struct("!BBHII")


class Attacker:
    """A transport that is used as no hub would."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.victim = address.rpartition("/p2p/")[2]
        self.transport = Libp2pTransport(os.urandom(32), listen=["/ip4/127.0.0.1/tcp/0"])
        self.said: dict[str, Any] = {"peer_id": self.transport.peer_id, "reasons": []}
        self.admitted, self.let_go = asyncio.Event(), asyncio.Event()
        self.key = SigningKey(os.urandom(32))

    def peer_up(self, session: Session) -> None:
        """Say hello as a worker would, so that the gateway admits this peer."""
        key = self.key
        fields = {
            "iss": self.transport.peer_id,
            "aud": session.peer_id,
            "key": key.public_key,
            "time": time.time(),
            "name": "attacker",
            "capabilities": {"worker": {"slots": 1, "memory_bytes": 1}},
            "boot_id": "boot",
            "db_id": "store",
        }
        hello = {"versions": [3], **fields, "sig": sign(key, TYPE_HELLO, canonical(fields))}
        session.send(encode_message("hello", hello))
        # What comes behind the hello is answered once the peer is admitted.
        session.send(encode_message("heartbeat", {"t": time.monotonic()}))

    def peer_down(self, session: Session, reason: str) -> None:
        self.said["reasons"].append(reason)
        self.let_go.set()

    def received(self, session: Session, messages: Any, proof: Any = None) -> None:
        if any(kind == "heartbeat" and "echo" in fields for kind, fields in messages):
            self.admitted.set()

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None: ...

    def discovered(self, peer_id: str, addresses: Any) -> None: ...

    def flooded(self, peer_id: str, reason: str) -> None: ...

    def failed(self, reason: str) -> None:
        self.said["failed"] = reason

    async def in_trio(self, work: Callable[[], Awaitable[Any]]) -> Any:
        bridge, _ = self.transport._running()
        return await bridge.call(work)

    def connection(self) -> Any:
        _, node = self.transport._running()
        return node._connections(self.victim)[0]

    async def connected(self) -> None:
        """Return once the victim has admitted this peer and has told what it subscribes to."""
        await self.admitted.wait()
        gossip = self.transport._running()[1]._gossip
        pubsub = gossip._pubsub
        await self.in_trio(gossip._meet_all)

        async def subscribed() -> bool:
            return self.victim in {str(peer) for peer in pubsub.peer_topics.get(TOPIC, ())}

        while True:
            if await self.in_trio(subscribed):
                return
            await asyncio.sleep(0.01)

    async def streams(self, until: float) -> None:
        """Open 10,000 streams on one connection, and never close one."""
        muxed = self.connection().muxed_conn

        async def open_all() -> int:
            opened = 0
            try:
                for number in range(10_000):
                    frame = _SYN_WINDOW_UPDATE.pack(0, 1, 1, 100_001 + 2 * number, 0)
                    await muxed._write_frame(frame)
                    opened += 1
            except Exception as error:
                self.said["error"] = repr(error)
            return opened

        self.said["opened"] = await self.in_trio(open_all)

    async def frame(self, until: float) -> None:
        """Announce a frame of 100 MB and send it all."""
        stream = self.transport._sessions[self.victim].carrier.stream

        async def send_all() -> int:
            sent = 0
            try:
                await stream.write((100_000_000).to_bytes(4, "big"))
                for _ in range(100):
                    await stream.write(bytes(1_000_000))
                    sent += 1_000_000
            except Exception as error:
                self.said["error"] = repr(error)
            return sent

        self.said["sent_bytes"] = await self.in_trio(send_all)

    async def messages(self, until: float) -> None:
        """Send as many of the smallest messages as the connection takes."""
        stream = self.transport._sessions[self.victim].carrier.stream
        frame = encode_frame([encode_message("heartbeat", {"t": 1.0})] * 2000)

        async def send_all() -> int:
            sent = 0
            try:
                while time.monotonic() < until:
                    await stream.write(frame)
                    sent += 2000
            except Exception as error:
                self.said["error"] = repr(error)
            return sent

        self.said["sent"] = await self.in_trio(send_all)

    async def gossip(self, until: float) -> None:
        """Publish 1,000 messages a second, past our own router, which would not."""
        from libp2p.pubsub.pb import rpc_pb2
        from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
        from libp2p.utils import encode_varint_prefixed

        pubsub = self.transport._running()[1]._gossip._pubsub
        author, key = pubsub.my_id.to_bytes(), pubsub.host.get_public_key().serialize()

        def message(number: int) -> Any:
            made = rpc_pb2.Message(
                data=cbor2.dumps({"load_1m": float(number)}),
                topicIDs=[TOPIC],
                from_id=author,
                seqno=number.to_bytes(8, "big"),
            )
            signed = PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString()
            made.signature = pubsub.sign_key.sign(signed)
            made.key = key
            return made

        async def publish_all() -> int:
            import trio

            (stream,) = pubsub.peers.values()
            began, sent = time.monotonic(), 0
            while (now := time.monotonic()) < until:
                due = int((now - began) * 1000) - sent
                if due > 0:
                    batch = rpc_pb2.RPC(publish=[message(sent + each) for each in range(due)])
                    await stream.write(encode_varint_prefixed(batch.SerializeToString()))
                    sent += due
                await trio.sleep(0.005)
            return sent

        began = time.monotonic()
        sent = await self.in_trio(publish_all)
        self.said |= {"sent": sent, "per_s": round(sent / (time.monotonic() - began))}


async def main(mode: str, address: str, seconds: float) -> None:
    attacker = Attacker(address)
    await attacker.transport.start(attacker)
    await attacker.transport.dial(address)
    async with asyncio.timeout(60):
        await attacker.connected()
    print("attacking", flush=True)
    work = getattr(attacker, mode)
    try:
        await asyncio.wait_for(work(time.monotonic() + seconds), seconds + 5)
    except TimeoutError:
        attacker.said["blocked"] = True
    if mode != "gossip":
        # All others are let go, with a reason that may come after the error.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attacker.let_go.wait(), 5)
    print(json.dumps(attacker.said), flush=True)
    await attacker.transport.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
