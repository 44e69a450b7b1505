"""Ed25519 by PyNaCl's libsodium."""

from collections.abc import Callable

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError


def key_pair(seed: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return what signs with the key of a 32-byte seed, and its public key."""
    public_key, private = crypto_sign_seed_keypair(seed)

    def sign(message: bytes) -> bytes:
        return crypto_sign(message, private)[:crypto_sign_BYTES]

    return sign, public_key


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this 32-byte key made this 64-byte signature."""
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
