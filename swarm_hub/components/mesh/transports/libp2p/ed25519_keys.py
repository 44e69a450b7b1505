"""libp2p's Ed25519 keys over our own module, in the place of `libp2p.crypto.ed25519`.

libp2p 0.8.1 imports PyNaCl there, which not every device has.
"""

import os

from libp2p.crypto.keys import KeyPair, KeyType, PrivateKey, PublicKey

from swarm_hub.util.ed25519 import PUBLIC_KEY_BYTES, SEED_BYTES, SigningKey, verify

__all__ = ["Ed25519PrivateKey", "Ed25519PublicKey", "create_new_key_pair"]


class Ed25519PublicKey(PublicKey):
    """A public key of libp2p's."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def to_bytes(self) -> bytes:
        """Return its 32 bytes."""
        return self._raw

    @classmethod
    def from_bytes(cls, key_bytes: bytes) -> "Ed25519PublicKey":
        """Make one of its 32 bytes; raises ValueError."""
        if len(key_bytes) != PUBLIC_KEY_BYTES:
            raise ValueError(f"an Ed25519 key has {PUBLIC_KEY_BYTES} bytes, not {len(key_bytes)}")
        return cls(bytes(key_bytes))

    def get_type(self) -> KeyType:
        """Say which kind of key this is."""
        return KeyType.Ed25519

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether this key made the signature."""
        return verify(self._raw, bytes(data), bytes(signature))


class Ed25519PrivateKey(PrivateKey):
    """A private key of libp2p's."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._key = SigningKey(seed)

    @classmethod
    def new(cls, seed: bytes | None = None) -> "Ed25519PrivateKey":
        """Make one of a seed, or a new one."""
        return cls(seed or os.urandom(SEED_BYTES))

    def to_bytes(self) -> bytes:
        """Return its seed."""
        return self._seed

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ed25519PrivateKey":
        """Make one of its seed."""
        return cls(bytes(data))

    def get_type(self) -> KeyType:
        """Say which kind of key this is."""
        return KeyType.Ed25519

    def sign(self, data: bytes) -> bytes:
        """Return the signature."""
        return self._key.sign(bytes(data))

    def get_public_key(self) -> PublicKey:
        """Return its public half."""
        return Ed25519PublicKey(self._key.public_key)


def create_new_key_pair(seed: bytes | None = None) -> KeyPair:
    """Return both halves of the key made of a seed, or of a new one."""
    private_key = Ed25519PrivateKey.new(seed)
    return KeyPair(private_key, private_key.get_public_key())
