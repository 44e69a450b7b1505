"""A peer of the loopback transport that is no hub, and sends whatever it likes."""

from collections.abc import Mapping
from typing import Any

from swarm_hub.components.mesh import MESH
from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.transports.loopback import LoopbackTransport
from swarm_hub.components.mesh.wire.framing import encode_message
from tests.conftest import RunningHub, until


class Stranger:
    """A peer that sends whatever it likes."""

    def __init__(self, gateway: RunningHub) -> None:
        self.heard: list[tuple[str, Mapping[str, Any]]] = []
        self.ended: list[str] = []
        self.transport = LoopbackTransport(peer_id_from_seed(bytes(32)))
        self._session: Session
        self._gateway = gateway.hub.services[MESH].peer_id

    def peer_up(self, session: Session) -> None:
        self._session = session

    def peer_down(self, session: Session, reason: str) -> None:
        self.ended.append(reason)

    def received(self, session: Session, messages: Any, proof: Any = None) -> None:
        self.heard += messages

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None: ...

    def discovered(self, peer_id: str, addresses: Any) -> None: ...

    def failed(self, reason: str) -> None: ...

    async def dial(self) -> None:
        await self.transport.start(self)
        await self.transport.dial(f"/memory/0/p2p/{self._gateway}")

    def say(self, kind: str, **fields: Any) -> None:
        self._session.send(encode_message(kind, fields))

    async def ends(self) -> str:
        async def reasons() -> list[str]:
            return self.ended

        return str((await until(reasons, bool))[0])
