"""Receipts: what a signed envelope proves of a result, and every way to prove nothing."""

import dataclasses
import json
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.models.call import ModuleCall
from swarm_hub.models.envelope import Envelope, canonical, key_id, seal, sign
from swarm_hub.models.messages import Result
from swarm_hub.models.peer_id import certify, peer_id_from_public_key
from swarm_hub.models.receipt import Claim, Receipt, objection, shortcomings
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.hashing import sha256_hex

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
PUBLIC = KEY.public_key
INPUT_SHA = sha256_hex(b"0 10")
LONG_AGO = 1_500_000_000


def answer(assignment_id: str = "JOB.3.1", body: bytes | None = b"42", **changed: Any) -> Result:
    sha = sha256_hex(body or b"")
    made = Result(assignment_id, "ok", "", INPUT_SHA, sha, len(body or b""), body, 0.1, 0.1)
    return dataclasses.replace(made, **changed)


def enveloped(*answers: Result, key: SigningKey = KEY, body: bytes | None = None) -> Envelope:
    """Return what a node signed long ago, with other messages around the results."""
    messages = [["ack", {"ids": ["JOB.9.1"]}], *(["result", each.to_wire()] for each in answers)]
    return seal(
        key, kid=key_id(key.public_key), iss="node", aud="gateway", now=LONG_AGO, ttl_s=60,
        jti=b"j" * 16, body=cbor2.dumps(messages) if body is None else body,
    )  # fmt: skip


def receipt(envelope: Envelope | None = None, **changed: Any) -> Receipt:
    made = Receipt("node", key_id(PUBLIC), PUBLIC, envelope or enveloped(answer()), 1.5)
    return dataclasses.replace(made, **changed)


def claim(**changed: Any) -> Claim:
    made = Claim("JOB", 3, "JOB.3.1", "node", sha256_hex(b"42"), INPUT_SHA)
    return dataclasses.replace(made, **changed)


def test_a_receipt_proves_the_results_in_it_however_old_its_envelope_is() -> None:
    assert objection(receipt(), claim()) is None
    several = receipt(enveloped(answer("JOB.2.1", b"7"), answer(), answer("OTHER.0.1")))
    assert objection(several, claim()) is None
    assert objection(several, claim(index=2, assignment_id="JOB.2.1", sha=sha256_hex(b"7"))) is None


def test_what_a_later_version_says_beside_it_and_what_can_t_be_read_takes_no_proof_away() -> None:
    spoilt = {name: text for name, text in answer("JOB.4.1").to_wire().items() if name != "sha"}
    body = [
        ["later", {"later": 1}],
        ["result", {}],
        ["result", spoilt],
        ["result", {**answer().to_wire(), "later": [1]}, "behind it"],
    ]
    mixed = receipt(enveloped(body=cbor2.dumps(body)))
    assert objection(mixed, claim()) is None
    told = objection(mixed, claim(index=4, assignment_id="JOB.4.1"))
    assert told == "it has no result of assignment JOB.4.1"


def test_of_a_large_result_it_proves_the_hash_alone() -> None:
    sha = sha256_hex(b"a large result")
    large = answer(body=None, sha=sha, size_bytes=14)
    assert objection(receipt(enveloped(large)), claim(sha=sha)) is None


@given(st.data())
def test_any_changed_bit_of_an_envelope_is_told(data: st.DataObject) -> None:
    good = enveloped(answer())
    part = data.draw(st.sampled_from(("header", "signature", "body")))
    changed = bytearray(getattr(good, part))
    position = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[position // 8] ^= 1 << position % 8
    tampered = dataclasses.replace(good, **{part: bytes(changed)})
    assert objection(receipt(tampered), claim())
    assert receipt(tampered).sha != receipt(good).sha


@given(st.binary(max_size=300))
def test_whatever_was_signed_as_a_body_is_told_and_not_raised(body: bytes) -> None:
    assert objection(receipt(enveloped(body=body)), claim())


OTHER_PUBLIC = OTHER.public_key


@pytest.mark.parametrize(
    ("shown", "claimed", "said"),
    [
        (receipt(public_key=OTHER_PUBLIC), claim(), "which signed"),
        (receipt(public_key=b"short"), claim(), "which signed"),
        (receipt(enveloped(answer(), key=OTHER)), claim(), "which signed"),
        (
            receipt(enveloped(answer(), key=OTHER), public_key=OTHER_PUBLIC),
            claim(),
            f"signed by {key_id(OTHER_PUBLIC)}, not by {key_id(PUBLIC)}",
        ),
        (receipt(), claim(node_id="another"), "of the node node"),
        (receipt(node_id="another"), claim(), "of the node node"),
        (receipt(), claim(index=4), "not of this shard"),
        (receipt(), claim(job_id="OTHER"), "not of this shard"),
        (receipt(), claim(index=4, assignment_id="JOB.4.1"), "no result of assignment JOB.4.1"),
        (receipt(), claim(assignment_id="JOB.3.2"), "no result of assignment JOB.3.2"),
        (receipt(), claim(sha=sha256_hex(b"43")), "names another result: ok 73475cb40a56"),
        (receipt(), claim(input_sha=sha256_hex(b"0 11")), "of another input"),
        (receipt(enveloped(answer(code="trap"))), claim(), "names another result: trap"),
        (receipt(enveloped(answer(body=b"43", sha=sha256_hex(b"42")))), claim(), "another hash"),
        (receipt(enveloped(body=cbor2.dumps({}))), claim(), "it is no list of messages"),
        (receipt(enveloped(body=cbor2.dumps([["result", {}]]))), claim(), "can't be read"),
        (receipt(enveloped(body=cbor2.dumps([["result", []]]))), claim(), "can't be read"),
    ],
)
def test_what_it_does_not_prove_is_told_with_the_reason(
    shown: Receipt, claimed: Claim, said: str
) -> None:
    assert said in (objection(shown, claimed) or "")


def test_a_node_that_says_two_things_in_one_envelope_has_signed_either() -> None:
    both = receipt(enveloped(answer(), answer(body=b"43")))
    assert objection(both, claim()) is None
    assert objection(both, claim(sha=sha256_hex(b"43"))) is None
    assert objection(both, claim(sha=sha256_hex(b"44")))


def test_a_receipt_is_the_same_after_a_way_through_json() -> None:
    plain = json.loads(json.dumps(receipt().to_json()))
    assert Receipt.from_json(plain) == receipt()
    certified = receipt(certificate=b"c" * 64)
    assert Receipt.from_json(json.loads(json.dumps(certified.to_json()))) == certified


@pytest.mark.parametrize(
    "changed",
    [
        {"header": "not base64"}, {"body": None}, {"public_key": "xyz"}, {"public_key": 5},
        {"received_at": "soon"},
    ],
)  # fmt: skip
def test_a_receipt_of_a_wrong_shape_is_refused_by_one_of_three_errors(
    changed: dict[str, Any],
) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Receipt.from_json({**receipt().to_json(), **changed})


def test_a_time_that_no_clock_shows_is_no_crash() -> None:
    assert Receipt.from_json({**receipt().to_json(), "received_at": "0001-01-01"}).received_at < 0


IDENTITY = SigningKey(b"i" * 32)
NODE = peer_id_from_public_key(IDENTITY.public_key)
CALL_SHA = ModuleCall(sha256_hex(b"module"), "bytes", "run").sha


def of_a_real_node(certificate: bytes | None, call_sha: str | None = CALL_SHA) -> Receipt:
    envelope = seal(
        KEY, kid=key_id(PUBLIC), iss=NODE, aud="gateway", now=LONG_AGO, ttl_s=60, jti=b"j" * 16,
        body=cbor2.dumps([["result", answer(call_sha=call_sha).to_wire()]]),
    )  # fmt: skip
    return receipt(envelope, node_id=NODE, certificate=certificate)


def of_its_call(**changed: Any) -> Claim:
    known = {"node_id": NODE, "gateways": frozenset({"gateway"}), "call_sha": CALL_SHA, **changed}
    return claim(**known)


def test_a_certified_key_leaves_nothing_to_the_gateways_word() -> None:
    whole = of_a_real_node(certify(IDENTITY, PUBLIC))
    assert objection(whole, of_its_call()) is None
    assert shortcomings(whole, of_its_call()) == []


def test_a_key_that_a_gateway_made_up_is_not_certified() -> None:
    made_up = of_a_real_node(None)
    assert objection(made_up, of_its_call()) is None
    assert shortcomings(made_up, of_its_call()) == ["key not certified"]


@pytest.mark.parametrize(
    "certificate",
    [
        b"", bytes(64), certify(OTHER, PUBLIC), certify(IDENTITY, OTHER_PUBLIC),
        sign(IDENTITY, "batch", canonical({"peer": NODE, "key": PUBLIC})),
    ],
)  # fmt: skip
def test_a_certificate_of_another_identity_or_key_is_told(certificate: bytes) -> None:
    assert objection(of_a_real_node(certificate), of_its_call()) == (
        "its certificate is not of this node and key"
    )


def test_a_result_is_of_the_module_and_the_call_that_were_signed() -> None:
    proven = of_a_real_node(certify(IDENTITY, PUBLIC))
    other = ModuleCall(sha256_hex(b"another"), "bytes", "run").sha
    told = objection(proven, of_its_call(call_sha=other))
    assert told == "the result is of another module or another call of it"
    silent = of_a_real_node(certify(IDENTITY, PUBLIC), call_sha=None)
    assert objection(silent, of_its_call()) is None
    assert shortcomings(silent, of_its_call()) == ["module not signed"]


def test_what_was_signed_for_another_gateway_proves_nothing_here() -> None:
    proven = of_a_real_node(certify(IDENTITY, PUBLIC))
    told = objection(proven, of_its_call(gateways=frozenset({"another"})))
    assert told == "it was signed for another gateway, gateway"


def test_a_call_is_hashed_alike_on_both_sides() -> None:
    call = ModuleCall("0" * 64, "wasi", "_start", 5, 1, 30, 2, ("a",), (("N", "v"),), True)
    assert ModuleCall.from_plain(json.loads(json.dumps(call.to_plain()))).sha == call.sha
    assert ModuleCall.from_plain(cbor2.loads(cbor2.dumps(call.to_plain()))).sha == call.sha
    assert dataclasses.replace(call, args=("b",)).sha != call.sha
