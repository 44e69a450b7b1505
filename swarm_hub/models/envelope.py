"""The signed wrapper around a batch of messages that take effect.

Header: deterministic CBOR `{v, typ, kid, iss, aud, iat, exp, jti, body_hash, body_len}`; the
Ed25519 signature covers `b"swarm-hub/v3/" + typ + NUL + header`. The body travels raw beside the
header.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.util import ed25519
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.strict_cbor import parse_canonical_cbor, to_canonical_cbor

VERSION: Final = 3
# Records that version 2 signed, receipts and rotations, can still be checked.
VERSION_2: Final = 2
TYPE_BATCH: Final = "batch"
TYPE_HELLO: Final = "hello"
TTL_MAX_S: Final = 300
SKEW_S: Final = 120
# Encodes the fields of what is signed.
canonical: Final = to_canonical_cbor
_HEADER_MAX_BYTES: Final = 1024
# Digits of a key's id, of the 64 of its hash; version 2 compared half as many.
_KID_DIGITS: Final = {VERSION_2: 16, VERSION: 32}
_FIELDS: Final = {
    "v": int, "typ": str, "kid": str, "iss": str, "aud": str,
    "iat": int, "exp": int, "jti": bytes, "body_hash": bytes, "body_len": int,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed envelope as it travels."""

    header: bytes
    signature: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an envelope whose signature, addressee and body were checked."""

    kid: str
    iss: str
    jti: bytes
    exp: int
    body_hash: bytes
    public_key: bytes
    aud: str


def key_id(public_key: bytes) -> str:
    """Return the `kid`: the first 32 hex digits of the SHA-256 of the public key.

    It names a key to people and on the wire; what decides about trust compares whole keys.
    """
    return hashlib.sha256(public_key).hexdigest()[: _KID_DIGITS[VERSION]]


def short_id(kid: str) -> str:
    """Return the id that version 2 had for the key with this one."""
    return kid[: _KID_DIGITS[VERSION_2]]


def is_kid(text: str) -> bool:
    """Whether this is a key's id: 32 hex digits, or the 16 of version 2."""
    return len(text) in _KID_DIGITS.values() and set(text) <= set("0123456789abcdef")


def sign(key: SigningKey, typ: str, canonical: bytes) -> bytes:
    """Return the 64-byte Ed25519 signature of canonical CBOR under its type."""
    return key.sign(_domain(typ) + canonical)


def verify(
    public_key: bytes, typ: str, canonical: bytes, signature: bytes, version: int = VERSION
) -> bool:
    """Return whether that key made the signature for these bytes under that type."""
    return ed25519.verify(public_key, _domain(typ, version) + canonical, signature)


def seal(
    key: SigningKey, *, kid: str, iss: str, aud: str, now: int, ttl_s: int, jti: bytes, body: bytes
) -> Envelope:
    """Return a signed envelope for `aud`, valid for `ttl_s` seconds from `now`."""
    header = canonical(
        {
            "v": VERSION,
            "typ": TYPE_BATCH,
            "kid": kid,
            "iss": iss,
            "aud": aud,
            "iat": now,
            "exp": now + ttl_s,
            "jti": jti,
            "body_hash": hashlib.sha256(body).digest(),
            "body_len": len(body),
        }
    )
    return Envelope(header, sign(key, TYPE_BATCH, header), body)


def unseal(
    envelope: Envelope,
    *,
    sender: str,
    me: str,
    key_of: Callable[[str, str], bytes | None],
    sender_time: float,
) -> Header:
    """Check an envelope that `sender` delivered; returns its header.

    `key_of(iss, kid)` gives the public key of an issuer, None for an unknown one;
    `sender_time` is the sender's clock as far as we know it. Raises SignatureRefusedError with
    the code of the check that failed; no part of the body may be used before this has returned.
    """
    fields = _decode_header(envelope.header, (VERSION,))
    if fields["iss"] != sender:
        raise SignatureRefusedError(
            "relayed", f"an envelope issued by {fields['iss']} was delivered by {sender}"
        )
    public_key = key_of(fields["iss"], fields["kid"])
    if public_key is None:
        raise SignatureRefusedError("unknown_key", f"the key {fields['kid']} is not trusted here")
    _check_signature(envelope, fields, public_key)
    if fields["aud"] != me:
        raise SignatureRefusedError("wrong_audience", f"the envelope is for {fields['aud']}")
    _check_body(envelope, fields)
    _check_time(fields["iat"], fields["exp"], sender_time)
    return _header(fields, public_key)


def attest(envelope: Envelope, public_key: bytes) -> Header:
    """Return the header of an envelope signed by this key, whoever it is for and however old.

    Only for records of what was said; what is to take effect goes through `unseal`. Raises
    SignatureRefusedError.
    """
    fields = _decode_header(envelope.header, (VERSION, VERSION_2))
    if fields["kid"] != key_id(public_key)[: _KID_DIGITS[fields["v"]]]:
        raise SignatureRefusedError("unknown_key", f"the key is not {fields['kid']}, which signed")
    _check_signature(envelope, fields, public_key)
    _check_body(envelope, fields)
    return _header(fields, public_key)


def _domain(typ: str, version: int = VERSION) -> bytes:
    return f"swarm-hub/v{version}/{typ}".encode() + b"\0"


def _decode_header(raw: bytes, versions: Collection[int]) -> dict[str, Any]:
    if len(raw) > _HEADER_MAX_BYTES:
        raise SignatureRefusedError("malformed", "the envelope's header is too long")
    try:
        fields = parse_canonical_cbor(raw)
    except ValueError as error:
        raise SignatureRefusedError("malformed", f"the header can't be read: {error}") from error
    if (
        not isinstance(fields, dict)
        or fields.keys() != _FIELDS.keys()
        or any(type(fields[name]) is not kind for name, kind in _FIELDS.items())
    ):
        raise SignatureRefusedError("malformed", "the header has other fields than it should")
    if fields["v"] not in versions or fields["typ"] != TYPE_BATCH or len(fields["jti"]) != 16:
        raise SignatureRefusedError("malformed", "the header has an unknown version or type")
    checked: dict[str, Any] = fields
    return checked


def _check_signature(envelope: Envelope, fields: dict[str, Any], public_key: bytes) -> None:
    if not verify(
        public_key, fields["typ"], envelope.header, envelope.signature, version=fields["v"]
    ):
        raise SignatureRefusedError("bad_signature", "the signature is not of this envelope")


def _check_body(envelope: Envelope, fields: dict[str, Any]) -> None:
    if (
        fields["body_len"] != len(envelope.body)
        or fields["body_hash"] != hashlib.sha256(envelope.body).digest()
    ):
        raise SignatureRefusedError("bad_body", "the body is not the one that was signed")


def _header(fields: dict[str, Any], public_key: bytes) -> Header:
    return Header(
        fields["kid"],
        fields["iss"],
        fields["jti"],
        fields["exp"],
        fields["body_hash"],
        public_key,
        fields["aud"],
    )


def _check_time(iat: int, exp: int, sender_time: float) -> None:
    if not 0 < exp - iat <= TTL_MAX_S:
        raise SignatureRefusedError("expired", f"a lifetime of {exp - iat} s is not allowed")
    if sender_time > exp + SKEW_S:
        raise SignatureRefusedError("expired", f"it expired {sender_time - exp:.0f} s ago")
    if iat > sender_time + SKEW_S:
        raise SignatureRefusedError("expired", f"it is from {iat - sender_time:.0f} s ahead")
