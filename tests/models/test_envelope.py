"""Envelopes: what is accepted, and every way to be refused."""

import hashlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import (
    Envelope,
    Header,
    attest,
    canonical,
    key_id,
    seal,
    sign,
    unseal,
)
from swarm_hub.util.ed25519 import SigningKey

KEY = SigningKey(b"k" * 32)
PUBLIC = KEY.public_key
NOW = 1_800_000_000


def sealed(body: bytes = b"body", **changed: object) -> Envelope:
    fields = {"kid": key_id(PUBLIC), "iss": "A", "aud": "B", "now": NOW, "ttl_s": 60}
    return seal(KEY, jti=b"j" * 16, body=body, **{**fields, **changed})  # type: ignore[arg-type]


def opened(envelope: Envelope, **changed: object) -> Header:
    def key_of(iss: str, kid: str) -> bytes | None:
        return PUBLIC if (iss, kid) == ("A", key_id(PUBLIC)) else None

    given_: dict[str, object] = {"sender": "A", "me": "B", "key_of": key_of, "sender_time": NOW}
    return unseal(envelope, **{**given_, **changed})  # type: ignore[arg-type]


def refusal(envelope: Envelope, **changed: object) -> str:
    with pytest.raises(SignatureRefusedError) as caught:
        opened(envelope, **changed)
    return caught.value.code


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens(body: bytes) -> None:
    header = opened(sealed(body))
    assert (header.iss, header.jti) == ("A", b"j" * 16)


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    good = sealed()
    for position in range(len(good.header) * 8):
        header = bytearray(good.header)
        header[position // 8] ^= 1 << position % 8
        assert refusal(Envelope(bytes(header), good.signature, good.body))


def test_a_changed_body_is_refused() -> None:
    good = sealed()
    assert refusal(Envelope(good.header, good.signature, b"bodY")) == "bad_body"
    assert refusal(Envelope(good.header, good.signature, b"body!")) == "bad_body"


def test_refusals_name_their_check() -> None:
    other = SigningKey(b"o" * 32)
    good = sealed()
    assert refusal(good, sender="C") == "relayed"
    assert refusal(good, me="C") == "wrong_audience"
    assert refusal(sealed(kid="0" * 16)) == "unknown_key"
    forged = Envelope(good.header, sign(other, "batch", good.header), good.body)
    assert refusal(forged) == "bad_signature"
    assert refusal(Envelope(good.header, b"short", good.body)) == "bad_signature"


@pytest.mark.parametrize(
    ("offset_s", "accepted"),
    [(0, True), (60 + 119, True), (60 + 121, False), (-119, True), (-121, False)],
)
def test_expiry_allows_for_skew_and_no_more(offset_s: int, accepted: bool) -> None:
    if accepted:
        opened(sealed(), sender_time=NOW + offset_s)
    else:
        assert refusal(sealed(), sender_time=NOW + offset_s) == "expired"


@pytest.mark.parametrize("ttl_s", [0, -5, 301])
def test_a_lifetime_outside_the_bounds_is_refused(ttl_s: int) -> None:
    assert refusal(sealed(ttl_s=ttl_s)) == "expired"


def test_a_header_with_another_spelling_is_refused_though_it_is_signed() -> None:
    fields = cbor2.loads(sealed().header)
    spellings = [
        cbor2.dumps(dict(reversed(fields.items()))),
        canonical(fields) + b"\0",
        canonical({**fields, "extra": 1}),
        canonical({**fields, "exp": float(fields["exp"])}),
        canonical([1, 2]),  # type: ignore[arg-type]
        b"\xff" * 40,
        b"x" * 2000,
    ]
    for spelling in spellings:
        assert refusal(Envelope(spelling, sign(KEY, "batch", spelling), b"body")) == "malformed"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused_not_raised(header: bytes) -> None:
    assert refusal(Envelope(header, b"s" * 64, b"")) == "malformed"


def test_what_version_2_signed_is_still_a_record_and_takes_effect_no_more() -> None:
    fields = {
        "v": 2, "typ": "batch", "kid": key_id(PUBLIC)[:16], "iss": "A", "aud": "B", "iat": NOW,
        "exp": NOW + 60, "jti": bytes(16), "body_hash": hashlib.sha256(b"body").digest(),
        "body_len": 4,
    }  # fmt: skip
    header = canonical(fields)
    signature = KEY.sign(b"swarm-hub/v2/batch\0" + header)
    old = Envelope(header, signature, b"body")
    assert attest(old, PUBLIC).iss == "A"
    assert refusal(old) == "malformed"
    with pytest.raises(SignatureRefusedError, match="signature"):
        attest(Envelope(header, sign(KEY, "batch", header), b"body"), PUBLIC)
