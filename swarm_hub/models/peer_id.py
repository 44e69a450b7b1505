"""Peer ids: Ed25519 identities as libp2p writes them, and what they say of signing keys."""

from typing import Final

import base58

from swarm_hub.exceptions import MeshError
from swarm_hub.models.envelope import canonical, sign, verify
from swarm_hub.util.ed25519 import SigningKey

TYPE_CERTIFICATE: Final = "key"
# The identity multihash of a libp2p public key: multihash code 0, 36 bytes, then the protobuf
# (type 1 = Ed25519, 32 bytes of key).
_ED25519_PREFIX: Final = b"\x00\x24\x08\x01\x12\x20"
_PEER_ID_BYTES: Final = len(_ED25519_PREFIX) + 32


def peer_id_from_public_key(public_key: bytes) -> str:
    """The peer id of a raw Ed25519 public key."""
    return base58.b58encode(_ED25519_PREFIX + public_key).decode("ascii")


def public_key_from_peer_id(peer_id: str) -> bytes:
    """The raw Ed25519 public key that a peer id is made of."""
    if not is_peer_id(peer_id):
        raise MeshError(f"{peer_id[:100]!r} is no peer id; it is in swarm-hub key show there")
    return base58.b58decode(peer_id).removeprefix(_ED25519_PREFIX)


def is_peer_id(text: str) -> bool:
    """Whether this is the peer id of an Ed25519 key, the only kind the mesh speaks to."""
    try:
        raw = base58.b58decode(text)
    except ValueError:
        return False
    return len(raw) == _PEER_ID_BYTES and raw.startswith(_ED25519_PREFIX)


def certify(identity: SigningKey, public_key: bytes) -> bytes:
    """Return the identity's signature that this signing key is its own."""
    peer_id = peer_id_from_public_key(identity.public_key)
    return sign(identity, TYPE_CERTIFICATE, canonical({"peer": peer_id, "key": public_key}))


def is_certified(peer_id: str, public_key: bytes, certificate: bytes) -> bool:
    """Whether the identity behind a peer id has said that this signing key is its own."""
    if len(peer_id) > 2 * _PEER_ID_BYTES or not is_peer_id(peer_id):
        return False
    said = canonical({"peer": peer_id, "key": public_key})
    return verify(public_key_from_peer_id(peer_id), TYPE_CERTIFICATE, said, certificate)
