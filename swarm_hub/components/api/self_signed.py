"""A certificate of the hub's own, whose key stays: who knows its hash need not look again."""

import datetime
import ipaddress
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarm_hub.exceptions import SetupError
from swarm_hub.util.files import write_atomic

_VALID_S: Final = 365 * 86400
_RENEWED_BEFORE_S: Final = 30 * 86400
# A client's clock may be behind.
_BEGINS_BEFORE_S: Final = 86400


def renew_self_signed(certificate: Path, key: Path, names: Collection[str], now: float) -> None:
    """Make the key at first use, and a certificate whenever there is none that fits.

    One fits that is of this key, has these names and does not end within 30 days.
    """
    private = _load_or_make(key)
    if not _fits(certificate, private, names, now):
        made = _make(private, sorted(names), now)
        write_atomic(certificate, made.public_bytes(Encoding.PEM), mode=0o600)


def _load_or_make(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        encoded = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_atomic(path, encoded, mode=0o600)
        return made
    return load_key(path)


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key in a file; raises SetupError if it can't be used."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SetupError(f"{path}: the API's key can be read by other users; run: chmod 600 {path}")
    try:
        found = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise SetupError(
            f"{path}: the API's key can't be read ({error}); restore it, or delete it to get "
            "a new one, which its clients then have to be told"
        ) from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise SetupError(f"{path}: expected a key on a curve; delete it to get a new one")
    return found


def _fits(
    path: Path, private: ec.EllipticCurvePrivateKey, names: Collection[str], now: float
) -> bool:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        told = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    return (
        _public(found.public_key()) == _public(private.public_key())
        and {str(each.value) for each in told} == {str(each.value) for each in _general(names)}
        and found.not_valid_after_utc.timestamp() - now > _RENEWED_BEFORE_S
    )


def _make(
    private: ec.EllipticCurvePrivateKey, names: Collection[str], now: float
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm_hub")])
    begins = datetime.datetime.fromtimestamp(now - _BEGINS_BEFORE_S, datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(datetime.datetime.fromtimestamp(now + _VALID_S, datetime.UTC))
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .sign(private, SHA256())
    )


def _general(names: Collection[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
