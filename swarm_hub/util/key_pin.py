"""Pins: the hash of a TLS key, by which a certificate that nobody has signed is known again.

What is hashed is the public key (SubjectPublicKeyInfo), as curl's `--pinnedpubkey` does: it stays
when the certificate is renewed.
"""

import functools
import hashlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

_PIN: Final = re.compile(r"(?:sha256=)?([0-9a-fA-F]{64})\Z", re.ASCII)


def parse_pin(text: str) -> bytes | None:
    """Return the hash of a text such as `sha256=00ff…`, with or without the name; None if none."""
    # Colons as openssl writes them.
    found = _PIN.match(text.strip().replace(":", ""))
    return None if found is None else bytes.fromhex(found[1])


def pin_of_der(certificate: bytes) -> bytes:
    """Return the pin of a certificate in DER; raises ValueError if it is none."""
    return _pin(_x509().load_der_x509_certificate(certificate))


def pin_of_file(path: Path) -> bytes:
    """Return the pin of the first certificate in a PEM file; raises OSError and ValueError."""
    return _pin(load_certificate(path))


def load_certificate(path: Path) -> "x509.Certificate":
    """Return the first certificate in a PEM file; raises OSError and ValueError."""
    found: x509.Certificate = _x509().load_pem_x509_certificate(path.read_bytes())
    return found


def _pin(certificate: "x509.Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


@functools.cache
def _x509() -> ModuleType:
    """Return the library, which few processes need; its first import is by the API's set-up.

    Kept, since the import of libp2p puts something else in its place for a moment.
    """
    from cryptography import x509

    return x509
