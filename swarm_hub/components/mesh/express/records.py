"""Keys and records of the express plane: who may read what, each record once and in order.

The keys come from an X25519 exchange (RFC 7748) between two keys that are made for it and kept
nowhere, each told in a signed envelope; HKDF-SHA256 (RFC 5869) binds them to both envelopes and to
the signing keys of both sides. A record is its length (4 bytes, big-endian) and that many bytes of
AES-256-GCM (NIST SP 800-38D) with their tag. The length is authenticated with them, and the nonce
counts the records of a direction. After 2^20 records a direction goes on with the next key, so that
one that is stolen opens nothing older.
"""

import hashlib
from typing import TYPE_CHECKING, Final

from swarm_hub.exceptions import MeshError
from swarm_hub.util.strict_cbor import to_canonical_cbor

if TYPE_CHECKING:
    pass

SUITE: Final = 1
EPHEMERAL_BYTES: Final = 32
LENGTH_BYTES: Final = 4
TAG_BYTES: Final = 16
_LABEL: Final = b"swarm-hub/v2/express/1"
_EPOCH_RECORDS: Final = 1 << 20
_RECORDS_MAX: Final = 1 << 48


class BadRecord(MeshError):
    """These bytes are not the next record of the peer."""


class Ephemeral:
    """One side's half of an exchange, of use once."""

    def __init__(self, private: bytes | None = None) -> None:
        # Most hubs that start never get here, and it takes 10 ms.
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private: X25519PrivateKey | None = (
            X25519PrivateKey.generate()
            if private is None
            else X25519PrivateKey.from_private_bytes(private)
        )
        self.public = self._private.public_key().public_bytes_raw()

    def secrets(self, theirs: bytes, transcript: bytes) -> tuple[bytes, bytes]:
        """Return what both directions start from: asker to offerer, and back; forgets the key.

        Raises MeshError for a key of theirs that would make the secret known.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        private, self._private = self._private, None
        if private is None:
            raise MeshError("an ephemeral key is of use once")
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError as error:
            raise MeshError("the peer's ephemeral key is of a small order") from error
        made = HKDF(SHA256(), 64, salt=transcript, info=_LABEL + b" traffic").derive(shared)
        return made[:32], made[32:]


def transcript(ask: bytes, asker_key: bytes, offer: bytes, offerer_key: bytes) -> bytes:
    """Return what both sides have agreed on, as a hash.

    `ask` and `offer` are the headers of the two envelopes as they travelled, which name their
    bodies; with each goes the whole signing key that its signature was checked with.
    """
    agreed = to_canonical_cbor([ask, asker_key, offer, offerer_key])
    return hashlib.sha256(_LABEL + b"\0" + agreed).digest()


class Direction:
    """Seals or opens the records of one direction; its key and its count can't be set."""

    __slots__ = ("_bad_tag", "_cipher", "_count", "_iv", "_secret")

    def __init__(self, secret: bytes) -> None:
        from cryptography.exceptions import InvalidTag

        self._bad_tag = InvalidTag
        self._secret = secret
        self._count = 0
        self._next_epoch()

    def seal(self, body: bytes) -> bytes:
        """Return the next record."""
        head = (len(body) + TAG_BYTES).to_bytes(LENGTH_BYTES, "big")
        return head + self._cipher.encrypt(self._nonce(), body, head)

    def open(self, head: bytes, sealed: bytes | memoryview) -> bytes:
        """Return the body of the next record, of which `head` is the length; raises BadRecord."""
        try:
            return self._cipher.decrypt(self._nonce(), sealed, head)
        except self._bad_tag:
            raise BadRecord("a record that is not the next one of the peer") from None

    def _nonce(self) -> bytes:
        count = self._count
        if count and not count % _EPOCH_RECORDS:
            if count >= _RECORDS_MAX:
                raise BadRecord("more records than a connection may have")
            self._next_epoch()
        self._count = count + 1
        return (self._iv ^ count).to_bytes(12, "big")

    def _next_epoch(self) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        made = HKDFExpand(SHA256(), 76, _LABEL + b" epoch").derive(self._secret)
        self._cipher = AESGCM(made[:32])
        self._iv = int.from_bytes(made[32:44], "big")
        self._secret = made[44:]
