"""A component that has a hub speak as one of a later version; the tests put it beside later.py."""

from collections import Counter
from typing import Any, Final

import cbor2
from nacl.signing import SigningKey

from swarm_hub.components.mesh import MESH
from swarm_hub.const import SIGNER_KEY_FILE
from swarm_hub.core import Hub
from swarm_hub.helpers import config_validation as cv

from .later import later_message

CONFIG_SCHEMA: Final = cv.section({}, dict)


async def async_setup(hub: Hub, _config: dict[str, Any]) -> bool:
    """Stand between the mesh and its transports."""
    key = SigningKey(hub.storage_path(SIGNER_KEY_FILE).read_bytes())
    spoken: Counter[str] = Counter()

    def later(message: bytes) -> bytes:
        return cbor2.dumps(later_message(cbor2.loads(message), key, spoken))

    for transport in hub.services[MESH]._transports:
        _speak_through(transport, later)
    return True


def _speak_through(transport: Any, later: Any) -> None:
    send, send_bulk = transport.send, transport.send_bulk

    def send_later(peer_id: str, message: bytes) -> None:
        send(peer_id, later(message))

    async def send_bulk_later(peer_id: str, message: bytes) -> None:
        await send_bulk(peer_id, later(message))

    transport.send, transport.send_bulk = send_later, send_bulk_later
