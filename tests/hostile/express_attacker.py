"""Admitted workers that misuse the express plane, each in its way, in a process of their own.

`python -m tests.hostile.express_attacker all ADDRESS SECONDS` prints what `tests.hostile.attacker`
prints; what each one did stands under its name.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import cbor2

from swarm_hub.components.mesh.express.offers import ASK, OFFER, Ask, Offer, Place
from swarm_hub.components.mesh.express.records import SUITE, Direction, Ephemeral, transcript
from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.wire.framing import decode_messages, encode_message, join_messages
from swarm_hub.components.telemetry.board import TOPIC
from swarm_hub.exceptions import MeshError
from swarm_hub.models.envelope import key_id, seal
from tests.hostile.attacker import Attacker

_PROOF_BYTES: Final = 67
_TO_EXPRESS: Final = encode_message("plane", {"to": "express"})
_TO_STREAM: Final = encode_message("plane", {"to": "stream"})
_BEAT: Final = encode_message("heartbeat", {"t": 1.0})
# What only a gateway says, or what is always signed.
_OF_A_GATEWAY: Final = [
    encode_message("assign", {"call": {}, "module_bytes": 1, "shards": []}),
    encode_message("cancel", {"ids": ["a.0.1"]}),
    encode_message("result_ack", {"ids": ["a.0.1"]}),
    encode_message("preempt", {"ids": ["a.0.1"]}),
    encode_message("drain", {"node": "x", "reason": "stop"}),
    encode_message("revoked", {"keys": [["00" * 16, 0, "stolen"]]}),
    encode_message("rotated", {"rotations": []}),
    encode_message("ticket", {"sha": "00" * 32}),
    encode_message(OFFER, {"suite": 1}),
]


class Connection:
    """An express connection whose records are whatever one likes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, outgoing: Direction
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.outgoing = outgoing

    async def send(self, *messages: bytes) -> None:
        """Send one record."""
        self.writer.write(self.outgoing.seal(join_messages(messages)))
        await self.writer.drain()


class ExpressAttacker(Attacker):
    """A worker that agrees on an express connection and then does as no worker would."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.gateway: dict[str, Any] = {}
        self.offers: asyncio.Queue[tuple[Offer, bytes]] = asyncio.Queue()

    def peer_up(self, session: Session) -> None:
        self.session: Any = session
        # The gateway's markers are not followed, so that all of the stream is heard.
        self.session.planes.moved = lambda _to: []
        super().peer_up(session)

    def received(self, session: Session, messages: Any, proof: Any = None) -> None:
        super().received(session, messages, proof)
        for kind, fields in messages:
            if kind == "hello":
                self.gateway = fields
            elif kind == "envelope":
                inside, offered = decode_messages(fields["b"])[0]
                if inside == OFFER:
                    self.offers.put_nowait((Offer.from_wire(offered), fields["h"]))

    def ask(self) -> tuple[Ephemeral, bytes]:
        """Ask for a connection; returns the key and the header of the envelope."""
        ephemeral = Ephemeral()
        place = Place("boot", self.gateway["boot_id"], self.session.generation)
        body = join_messages(
            [encode_message(ASK, Ask((SUITE,), ephemeral.public, place).to_wire())]
        )
        made = seal(
            self.key, kid=key_id(self.key.public_key), iss=self.transport.peer_id, aud=self.victim,
            now=int(time.time()), ttl_s=60, jti=os.urandom(16), body=body,
        )  # fmt: skip
        fields = {"h": made.header, "s": made.signature, "b": made.body}
        self.session.send(encode_message("envelope", fields))
        return ephemeral, made.header

    @contextlib.asynccontextmanager
    async def connected_by_express(self) -> AsyncIterator[Connection]:
        """Prove a connection, and read nothing of it."""
        while True:
            ephemeral, header = self.ask()
            with contextlib.suppress(TimeoutError):
                offer, offered = await asyncio.wait_for(self.offers.get(), 0.7)
                if offer.ask == hashlib.sha256(header).digest():
                    break
        agreed = transcript(header, self.key.public_key, offered, self.gateway["key"])
        outgoing = Direction(ephemeral.secrets(offer.ephemeral, agreed)[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", offer.port)
        proof = join_messages([encode_message("express", {"t": agreed})])
        writer.write(b"SHX1" + offer.id + outgoing.seal(proof))
        await reader.readexactly(_PROOF_BYTES)
        self.said["proven"] = self.said.get("proven", 0) + 1
        try:
            yield Connection(reader, writer, outgoing)
        finally:
            writer.transport.abort()

    async def nowhere(self, until: float) -> None:
        """Leave the stream for a connection that there is not, and go on with the stream."""
        self.session.send(_TO_EXPRESS)
        while time.monotonic() < until:
            for _ in range(50):
                self.session.send(encode_message("need", {"sha": "0" * 64, "pad": bytes(2000)}))
            await asyncio.sleep(0.01)

    async def silent(self, until: float) -> None:
        """Prove a connection and never send a record."""
        async with self.connected_by_express():
            await asyncio.sleep(until - time.monotonic())

    async def to_and_fro(self, until: float) -> None:
        """Go over and back, each time with a new connection."""
        while time.monotonic() < until:
            async with self.connected_by_express() as connection:
                self.session.send(_TO_EXPRESS)
                await connection.send(_BEAT, _TO_STREAM)
                await connection.reader.read()

    async def flapping(self, until: float) -> None:
        """Go over and back endlessly with one connection."""
        async with self.connected_by_express() as connection:
            while time.monotonic() < until:
                for _ in range(100):
                    self.session.send(_TO_EXPRESS)
                    await connection.send(_BEAT)
                    await connection.send(_TO_STREAM)
                await asyncio.sleep(0.005)

    async def asking(self, until: float) -> None:
        """Ask 1,000 times a second."""
        began, asked = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            for _ in range(int((now - began) * 1000) - asked):
                self.ask()
                asked += 1
            await asyncio.sleep(0.005)
        self.said["asked"] = asked

    async def commanding(self, until: float) -> None:
        """Send a gateway what only gateways say."""
        async with self.connected_by_express() as connection:
            self.session.send(_TO_EXPRESS)
            while time.monotonic() < until:
                await connection.send(*_OF_A_GATEWAY)
                await asyncio.sleep(0.01)

    async def telemetry(self, until: float) -> None:
        """Send telemetry 1,000 times a second."""
        async with self.connected_by_express() as connection:
            self.session.send(_TO_EXPRESS)
            began, sent = time.monotonic(), 0
            while (now := time.monotonic()) < until:
                while sent < (now - began) * 1000:
                    payload = cbor2.dumps({"load_1m": float(sent)})
                    await connection.send(
                        encode_message("gossip", {"topic": TOPIC, "payload": payload})
                    )
                    sent += 1
                await asyncio.sleep(0.005)
            self.said["sent"] = sent


MODES: Final = (
    "nowhere", "silent", "to_and_fro", "flapping", "asking", "commanding", "telemetry",
)  # fmt: skip


async def misuse(mode: str, attacker: ExpressAttacker, seconds: float) -> None:
    """Do it for so long, or until the gateway has had enough."""
    work = getattr(attacker, mode)
    try:
        async with asyncio.timeout(seconds + 5):
            await work(time.monotonic() + seconds)
    except (OSError, EOFError, MeshError, TimeoutError) as error:
        attacker.said["error"] = repr(error)


async def main(address: str, seconds: float) -> None:
    attackers = {mode: ExpressAttacker(address) for mode in MODES}
    for attacker in attackers.values():
        await attacker.transport.start(attacker)
        await attacker.transport.dial(address)
    async with asyncio.timeout(60):
        await asyncio.gather(*(each.admitted.wait() for each in attackers.values()))
    print("attacking", flush=True)
    await asyncio.gather(*(misuse(mode, each, seconds) for mode, each in attackers.items()))
    print(json.dumps({mode: each.said for mode, each in attackers.items()}), flush=True)
    for attacker in attackers.values():
        await attacker.transport.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2], float(sys.argv[3])))
