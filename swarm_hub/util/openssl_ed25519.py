"""Ed25519 by cryptography, whose OpenSSL accepts more than libsodium does; not here."""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_OF_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# The y of the eight points of small order, and those below 2^255 that are the same modulo p.
_SMALL_ORDER: Final = frozenset(
    (
        0,
        1,
        _OF_ORDER_8,
        _P - _OF_ORDER_8,
        _P - 1,
        _P,
        _P + 1,
    )
)


def key_pair(seed: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return what signs with the key of a 32-byte seed, and its public key."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    return private.sign, private.public_key().public_bytes_raw()


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium would say that this 32-byte key made this 64-byte signature."""
    key, commitment = _y(public_key), _y(signature[:32])
    if key >= _P or key in _SMALL_ORDER or commitment in _SMALL_ORDER:
        return False
    if int.from_bytes(signature[32:], "little") >= _ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _y(point: bytes) -> int:
    return int.from_bytes(point, "little") & (2**255 - 1)
