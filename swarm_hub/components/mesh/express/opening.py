"""How an express connection begins: what both sides have agreed on, and that each has its keys."""

import hmac
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.mesh.express.records import LENGTH_BYTES, TAG_BYTES, Direction
from swarm_hub.components.mesh.transports.base import Proof
from swarm_hub.components.mesh.transports.session import FramedSession
from swarm_hub.components.mesh.wire.framing import decode_messages, encode_message, join_messages
from swarm_hub.exceptions import MeshError

MAGIC: Final = b"SHX1"
_KIND: Final = "express"
# The first record of either side.
PROOF_BYTES: Final = (
    LENGTH_BYTES + TAG_BYTES + len(join_messages((encode_message(_KIND, {"t": bytes(32)}),)))
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What both sides have agreed on: the hash of it, and what the keys start from.

    `proof` is the peer's key, `own_key` the one of this side's that the connection is bound to.
    """

    session: FramedSession
    proof: Proof
    own_key: bytes
    # Of what the asker sends, and of what the offerer sends.
    secrets: tuple[bytes, bytes]
    transcript: bytes


def first_body(terms: Terms) -> bytes:
    """Return what each side says in its first record."""
    return join_messages((encode_message(_KIND, {"t": terms.transcript}),))


def check_first(incoming: Direction, record: bytes, terms: Terms) -> None:
    """Read the first record of the other side; raises MeshError if it is not that."""
    body = incoming.open(record[:LENGTH_BYTES], record[LENGTH_BYTES:])
    kind, fields = decode_messages(body)[0]
    said = fields.get("t") if kind == _KIND else None
    if not isinstance(said, bytes) or not hmac.compare_digest(said, terms.transcript):
        raise MeshError("the first record is not the one that was agreed on")
