"""A peer made by hand, which greets a gateway as a worker would and then says what it likes."""

import os
import time
from collections.abc import Collection, Mapping
from typing import Any

from swarm_hub.components.mesh import MESH
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.transports.loopback import LoopbackTransport
from swarm_hub.components.mesh.wire.framing import encode_message, join_messages
from swarm_hub.models.envelope import TYPE_HELLO, canonical, key_id, seal, sign
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, until


class Newcomer:
    """Has an identity and a signing key made from a number."""

    def __init__(self, hub: RunningHub, number: int, key: SigningKey | None = None) -> None:
        seed = number.to_bytes(32, "big")
        self.key = key or SigningKey(seed)
        self.peer_id = peer_id_from_seed(seed)
        self.transport = LoopbackTransport(self.peer_id)
        self.capabilities: dict[str, Any] = {"worker": {"slots": 1}}
        self.name = f"newcomer {self.peer_id[-4:]}"
        self.boot_id = "boot"
        self.ended: list[str] = []
        self._session: Session
        self._gateway = hub.hub.services[MESH].peer_id

    def peer_up(self, session: Session) -> None:
        self._session = session

    def peer_down(self, session: Session, reason: str) -> None:
        self.ended.append(reason)

    def received(self, session: Session, messages: Any, proof: Any = None) -> None: ...

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None: ...

    def discovered(self, peer_id: str, addresses: Any) -> None: ...

    def failed(self, reason: str) -> None: ...

    def hello(self, **changes: Any) -> dict[str, Any]:
        """Return the fields of a hello in order; those that are not signed may be added."""
        fields = {
            "iss": self.peer_id,
            "aud": self._gateway,
            "key": self.key.public_key,
            "time": time.time(),
            "name": self.name,
            "capabilities": self.capabilities,
            "boot_id": self.boot_id,
            "db_id": "db",
        }
        signature = sign(self.key, TYPE_HELLO, canonical(fields))
        return {"versions": [3], **fields, "sig": signature, **changes}

    async def dial(self) -> None:
        """Connect, and say nothing yet."""
        await self.transport.start(self)
        await self.transport.dial(f"/memory/0/p2p/{self._gateway}")

    def say(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Send a bare message."""
        self._session.send(encode_message(kind, fields))

    async def admitted(self, hub: RunningHub, **changes: Any) -> None:
        """Connect, greet and wait until the hub has admitted this peer."""
        await self.dial()
        self.say("hello", self.hello(**changes))

        async def peers() -> Collection[str]:
            return hub.hub.services[MESH].peers()

        await until(peers, lambda found: self.peer_id in found)

    async def leave(self, hub: RunningHub) -> None:
        """Disconnect, and wait until the hub has noticed."""
        await self.transport.stop()

        async def peers() -> Collection[str]:
            return hub.hub.services[MESH].peers()

        await until(peers, lambda found: self.peer_id not in found)

    def sign(self, kind: str, fields: Mapping[str, Any], key: SigningKey | None = None) -> None:
        """Send a message in an envelope, signed by this or another key."""
        key = key or self.key
        sealed = seal(
            key, kid=key_id(key.public_key), iss=self.peer_id, aud=self._gateway,
            now=int(time.time()), ttl_s=60, jti=os.urandom(16),
            body=join_messages([encode_message(kind, fields)]),
        )  # fmt: skip
        self.say("envelope", {"h": sealed.header, "s": sealed.signature, "b": sealed.body})

    async def refused(self, **changes: Any) -> str:
        """Greet, and return why the gateway parts."""
        await self.dial()
        self.say("hello", self.hello(**changes))

        async def reasons() -> list[str]:
            return self.ended

        reason = str((await until(reasons, bool))[0])
        await self.transport.stop()
        return reason
