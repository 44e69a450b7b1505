"""Pins: the hash of a TLS key, by which a certificate that nobody has signed is known again.

What is hashed is the public key (SubjectPublicKeyInfo), as curl's `--pinnedpubkey` does: it stays
when the certificate is renewed.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

_PIN: Final = re.compile(r"(?:sha256=)?([0-9a-fA-F]{64})\Z", re.ASCII)


def parse_pin(text: str) -> bytes | None:
    """Return the hash of a text such as `sha256=00ff…`, with or without the name; None if none."""
    # Colons as openssl writes them.
    found = _PIN.match(text.strip().replace(":", ""))
    return None if found is None else bytes.fromhex(found[1])


def pin_of_der(certificate: bytes) -> bytes:
    """Return the pin of a certificate in DER; raises ValueError if it is none."""
    from cryptography.x509 import load_der_x509_certificate

    return _pin(load_der_x509_certificate(certificate).public_key())


def pin_of_file(path: Path) -> bytes:
    """Return the pin of the first certificate in a PEM file; raises OSError and ValueError."""
    from cryptography.x509 import load_pem_x509_certificate

    return _pin(load_pem_x509_certificate(path.read_bytes()).public_key())


def _pin(public_key: object) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    encoded: bytes = public_key.public_bytes(  # type: ignore[attr-defined]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()
