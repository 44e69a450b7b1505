"""A component that has a hub speak as one of a later version; the tests put it beside later.py."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import cbor2

from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.const import SIGNER_KEY_FILE
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.ed25519 import SigningKey

from .later import ADDED, later_message

CONFIG_SCHEMA: Final = cv.section({}, dict)


async def async_setup(hub: Hub, _config: dict[str, Any]) -> bool:
    """Stand between the mesh and its sessions."""
    key = SigningKey(hub.storage_path(SIGNER_KEY_FILE).read_bytes())
    spoken: Counter[str] = Counter()
    send, send_bulk = FramedSession.send, FramedSession.send_bulk
    send_proven, send_alone = FramedSession.send_proven, EnvelopeChannel.send_alone

    def later(message: bytes) -> bytes:
        return cbor2.dumps(later_message(cbor2.loads(message), key, spoken))

    def send_later(self: FramedSession, message: bytes) -> None:
        send(self, later(message))

    async def send_bulk_later(self: FramedSession, message: bytes) -> None:
        await send_bulk(self, later(message))

    def send_proven_later(self: FramedSession, messages: Sequence[bytes]) -> None:
        send_proven(self, [later(each) for each in messages])

    def send_alone_later(
        self: EnvelopeChannel, peer_id: str, kind: str, fields: Mapping[str, Any]
    ) -> bytes | None:
        return send_alone(self, peer_id, kind, {**fields, **ADDED})

    FramedSession.send, FramedSession.send_bulk = send_later, send_bulk_later
    FramedSession.send_proven = send_proven_later
    EnvelopeChannel.send_alone = send_alone_later
    return True
