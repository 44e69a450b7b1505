"""Ed25519 by libsodium and by OpenSSL: the same signatures, and libsodium's verdict by both."""

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.util import libsodium_ed25519, openssl_ed25519
from swarm_hub.util.ed25519 import SigningKey, verify
from tests.helpers.without import python_without

# RFC 8032, section 7.1: seed, public key, message, signature.
RFC_8032 = {
    "test 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
        "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "test 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e"
        "458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "test 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290"
        "ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
}
# Chalkias, Garillot, Nikolaenko: "Taming the many EdDSAs" (2020), table 5, as in cases.txt of
# github.com/novifinancial/ed25519-speccheck: message, public key, signature. Its results.md has
# what libraries say: OpenSSL accepts 0 to 3 and 11, libsodium 3 alone, zip215 (Zebra) 0 to 5 and
# 9 to 11.
TAMING = {
    "0: S = 0, small A and R": (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        "0000000000000000000000000000000000000000000000000000000000000000",
    ),
    "1: small A": (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    "2: small R": (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    "3: A and R with a small part": (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    "4: right only with the cofactor": (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    "5: right only with the cofactor, before reduction": (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    "6: S above the order": (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    "7: S far above the order": (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    "8: R in another spelling, reduced for the hash": (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    "9: R in another spelling": (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    "10: A in another spelling, reduced for the hash": (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    "11: A in another spelling": (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
}
ACCEPTED = {"3: A and R with a small part"}
LIBRARIES = pytest.mark.parametrize("library", [libsodium_ed25519, openssl_ed25519])
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
Verify = Callable[[bytes, bytes, bytes], bool]


def added(one: Point, other: Point) -> Point:
    """Add points of the curve, in the plainest way."""
    (x, y), (u, v) = one, other
    both = D * x * u * y * v % P
    return (
        (x * v + y * u) * pow(1 + both, -1, P) % P,
        (y * v + x * u) * pow(1 - both, -1, P) % P,
    )


def times(number: int, point: Point) -> Point:
    total: Point = (0, 1)
    for bit in bin(number)[2:]:
        total = added(total, total)
        if bit == "1":
            total = added(total, point)
    return total


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decoded(raw: bytes) -> Point:
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (P - x if x & 1 != raw[31] >> 7 else x), y


BASE = decoded(bytes.fromhex("58" + "66" * 31))
EIGHTH = decoded(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))
SMALL = [times(number, EIGHTH) for number in range(8)]
# Every spelling of the points of small order, with either sign.
SPELLINGS = sorted(
    {
        ((y + more) | sign << 255).to_bytes(32, "little")
        for y in {point[1] for point in SMALL}
        for more in (0, P)
        for sign in (0, 1)
        if y + more < 2**255
    }
)


def signed(key: Point, of_key: int, commitment: Point, of_commitment: int) -> tuple[bytes, bytes]:
    """Return a signature of "message" with points to which anything may have been added."""
    raw, r = encoded(key), encoded(commitment)
    digest = int.from_bytes(hashlib.sha512(r + raw + b"message").digest(), "little")
    s = (of_commitment + digest * of_key) % ORDER
    return raw, r + s.to_bytes(32, "little")


@LIBRARIES
@pytest.mark.parametrize("name", RFC_8032)
def test_the_vectors_of_rfc_8032(library: Any, name: str) -> None:
    seed, public, message, signature = map(bytes.fromhex, RFC_8032[name])
    sign, public_key = library.key_pair(seed)
    assert (public_key, sign(message)) == (public, signature)
    assert library.verify(public, message, signature)
    assert not library.verify(public, message + b"!", signature)


@pytest.mark.parametrize("verified", [libsodium_ed25519.verify, openssl_ed25519.verify])
@pytest.mark.parametrize("name", TAMING)
def test_signatures_that_libraries_disagree_on_have_one_verdict(
    verified: Verify, name: str
) -> None:
    message, public_key, signature = map(bytes.fromhex, TAMING[name])
    assert verified(public_key, message, signature) is (name in ACCEPTED)


def test_a_signature_with_the_order_added_to_s_is_refused_by_both() -> None:
    key = SigningKey(b"k" * 32)
    signature = key.sign(b"message")
    s = int.from_bytes(signature[32:], "little")
    again = signature[:32] + (s + ORDER).to_bytes(32, "little")
    for verified in (libsodium_ed25519.verify, openssl_ed25519.verify):
        assert verified(key.public_key, b"message", signature)
        assert not verified(key.public_key, b"message", again)


def test_both_judge_alike_whatever_of_small_order_is_in_a_key_and_in_a_commitment() -> None:
    accepted = 0
    for in_key, in_commitment in itertools.product(SMALL, SMALL):
        for of_key, of_commitment in ((7, 11), (0, 11), (7, 0), (0, 0)):
            key = added(times(of_key, BASE), in_key)
            commitment = added(times(of_commitment, BASE), in_commitment)
            raw, signature = signed(key, of_key, commitment, of_commitment)
            verdict = libsodium_ed25519.verify(raw, b"message", signature)
            assert openssl_ed25519.verify(raw, b"message", signature) is verdict
            accepted += verdict
    # Where the small parts cancel each other out, which the hash decides, and where there are none.
    assert 1 <= accepted < 64


def test_both_refuse_every_spelling_of_a_point_of_small_order() -> None:
    assert len(SPELLINGS) == 14
    honest = SigningKey(b"k" * 32)
    for spelling, s in itertools.product(SPELLINGS, (0, 5)):
        for raw, r in (
            (spelling, encoded(times(5, BASE))),
            (spelling, spelling),
            (honest.public_key, spelling),
        ):
            signature = r + s.to_bytes(32, "little")
            for verified in (libsodium_ed25519.verify, openssl_ed25519.verify):
                assert not verified(raw, b"message", signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 64 * 8 - 1))
def test_both_sign_alike_and_refuse_any_flipped_bit(seed: bytes, message: bytes, bit: int) -> None:
    sign, public_key = libsodium_ed25519.key_pair(seed)
    other_sign, other_public_key = openssl_ed25519.key_pair(seed)
    assert (public_key, sign(message)) == (other_public_key, other_sign(message))
    changed = bytearray(sign(message))
    changed[bit // 8] ^= 1 << bit % 8
    for verified in (libsodium_ed25519.verify, openssl_ed25519.verify):
        assert verified(public_key, message, sign(message))
        assert not verified(public_key, message, bytes(changed))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_both_refuse_what_only_has_the_length_of_a_signature(key: bytes, signature: bytes) -> None:
    for verified in (libsodium_ed25519.verify, openssl_ed25519.verify):
        assert not verified(key, b"message", signature)


@pytest.mark.parametrize(
    ("public_key", "signature"),
    [(b"k" * 31, b"s" * 64), (b"k" * 32, b"s" * 63), ("k" * 32, b"s" * 64), (b"k" * 32, None)],
)
def test_what_is_no_key_or_no_signature_verifies_nothing(
    public_key: object, signature: object
) -> None:
    assert not verify(public_key, b"message", signature)  # type: ignore[arg-type]


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="has 32 bytes"):
        SigningKey(b"short")


WITHOUT = """
from swarm_hub.util import ed25519, openssl_ed25519
assert ed25519._library is openssl_ed25519
"""
ROUND_TRIPS = """
import hashlib
from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models import envelope, peer_id, rotation
from swarm_hub.util.ed25519 import SigningKey

old, new, identity = (SigningKey(letter * 32) for letter in (b"o", b"n", b"i"))
mine = peer_id.peer_id_from_public_key(identity.public_key)

sealed = envelope.seal(
    old, kid=envelope.key_id(old.public_key), iss=mine, aud="B", now=1_800_000_000, ttl_s=60,
    jti=b"j" * 16, body=b"body",
)
def opened(what):
    return envelope.unseal(
        what, sender=mine, me="B", key_of=lambda *_: old.public_key, sender_time=1_800_000_000
    )
assert opened(sealed).iss == mine
try:
    opened(envelope.Envelope(sealed.header, new.sign(b"other"), sealed.body))
    raise SystemExit("a forged envelope was opened")
except SignatureRefusedError as error:
    print(error.code)

# A hello: the identity certifies the signing key, which signs what the hub says of itself.
certificate = peer_id.certify(identity, old.public_key)
assert peer_id.is_certified(mine, old.public_key, certificate)
assert not peer_id.is_certified(mine, new.public_key, certificate)
said = envelope.canonical({"iss": mine, "key": old.public_key})
hello = envelope.sign(old, envelope.TYPE_HELLO, said)
assert envelope.verify(old.public_key, envelope.TYPE_HELLO, said, hello)

made = rotation.make_rotation(old, new, peer_id=mine, at=1, overlap_s=2)
assert rotation.read_rotation(made.statement, made.signature, made.accepted) == made
digest = hashlib.sha256(sealed.header + sealed.signature + certificate + hello + made.accepted)
print(digest.hexdigest())
"""


def test_envelopes_hellos_and_rotations_are_the_same_without_pynacl() -> None:
    without = python_without(("nacl", "cbor2"), WITHOUT + ROUND_TRIPS)
    assert without == python_without((), ROUND_TRIPS)
    assert without.startswith("bad_signature")
