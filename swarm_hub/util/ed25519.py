"""Ed25519 by PyNaCl, or by cryptography where PyNaCl is not installed; with one verdict.

Libraries judge differently about keys and signatures that no honest program makes (Chalkias,
Garillot, Nikolaenko: "Taming the many EdDSAs", 2020). A hub must not accept what another refuses,
so libsodium's verdict, the strictest, holds with either: no point of small order, no second
encoding of a key, no S beyond the group's order, no multiplication by the cofactor.
"""

from typing import Final

try:
    from swarm_hub.util import libsodium_ed25519 as _library
except ImportError:
    from swarm_hub.util import openssl_ed25519 as _library  # type: ignore[no-redef]

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class SigningKey:
    """A private key made from its 32-byte seed; `sign` gives a message's 64-byte signature."""

    __slots__ = ("public_key", "seed", "sign")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, this one has {len(seed)}")
        self.seed = seed
        self.sign, self.public_key = _library.key_pair(seed)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether that key made the signature; False for what is no key or no signature at all."""
    return (
        isinstance(public_key, bytes)
        and isinstance(signature, bytes)
        and len(public_key) == PUBLIC_KEY_BYTES
        and len(signature) == SIGNATURE_BYTES
        and _library.verify(public_key, message, signature)
    )
