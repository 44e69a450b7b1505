"""The signed envelope that a result came in, kept as its receipt, and what it proves.

A receipt proves that the node signed this statement for this gateway: for this input of this
assignment, called so, this module's result has this hash. It does not prove that the result is
right, nor when it was signed. Where the identity of the node has not certified the key, there is
only the gateway's word for whose key it is: it could have made one up.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Self

from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import Envelope, attest
from swarm_hub.models.messages import RESULT, Result, read_result
from swarm_hub.models.peer_id import is_certified
from swarm_hub.util.clock import isoformat
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_cbor import parse_cbor

_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Testimony:
    """What an envelope states: the results in it by their assignments, or why it states nothing."""

    results: Mapping[str, Sequence[Result]]
    fault: str | None = None
    aud: str = ""


# Without slots, so that the parsed testimony can be cached: an envelope may have a thousand
# results.
@dataclass(frozen=True)
class Receipt:
    """An envelope as it came from a node, with the key that it was checked against."""

    node_id: str
    kid: str
    public_key: bytes
    envelope: Envelope
    received_at: float
    # The node's identity has signed that the key is its own; None if it has not.
    certificate: bytes | None = None

    @cached_property
    def sha(self) -> str:
        """The SHA-256 of the envelope's bytes: header, signature and body, one after the other."""
        digest = hashlib.sha256(self.envelope.header)
        digest.update(self.envelope.signature)
        digest.update(self.envelope.body)
        return digest.hexdigest()

    @cached_property
    def testimony(self) -> Testimony:
        """What was signed, checked anew.

        The envelope's expiry is ignored: it says until when the message could take effect, and a
        receipt is the record of one that did.
        """
        try:
            header = attest(self.envelope, self.public_key)
        except SignatureRefusedError as error:
            return Testimony({}, str(error))
        if self.kid != header.kid:
            return Testimony({}, f"it was signed by {header.kid}, not by {self.kid}")
        if self.node_id != header.iss:
            return Testimony({}, f"it is of the node {header.iss}")
        try:
            return Testimony(_results_in(self.envelope.body), aud=header.aud)
        except (KeyError, TypeError, ValueError) as error:
            return Testimony({}, f"the body can't be read: {error}")

    def to_json(self) -> dict[str, Any]:
        """Return the plain values that `from_json` takes."""
        return {
            "node_id": self.node_id,
            "kid": self.kid,
            "public_key": self.public_key.hex(),
            "received_at": isoformat(self.received_at),
            "header": base64.b64encode(self.envelope.header).decode(),
            "signature": base64.b64encode(self.envelope.signature).decode(),
            "body": base64.b64encode(self.envelope.body).decode(),
            "certificate": None if self.certificate is None else self.certificate.hex(),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what a hub gave; raises KeyError, TypeError or ValueError on a wrong shape."""
        header, signature, body = (
            base64.b64decode(plain[name], validate=True) for name in ("header", "signature", "body")
        )
        return cls(
            str(plain["node_id"]),
            str(plain["kid"]),
            bytes.fromhex(plain["public_key"]),
            Envelope(header, signature, body),
            # Hubs write UTC; a time far off without a zone would overflow.
            datetime.fromisoformat(plain["received_at"]).replace(tzinfo=UTC).timestamp(),
            None if plain.get("certificate") is None else bytes.fromhex(plain["certificate"]),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """What a gateway says a node answered: the hash of its result, and for which input.

    `gateways` are those of its store; `call_sha` says which module was called and how.
    """

    job_id: str
    index: int
    assignment_id: str
    node_id: str
    sha: str
    input_sha: str
    gateways: frozenset[str] | None = None
    call_sha: str | None = None


def objection(receipt: Receipt, claim: Claim) -> str | None:
    """Return why a receipt does not prove a claim, None if it does."""
    testimony = receipt.testimony
    if testimony.fault is not None:
        return testimony.fault
    if receipt.node_id != claim.node_id:
        return f"it is of the node {receipt.node_id}"
    if claim.gateways is not None and testimony.aud not in claim.gateways:
        return f"it was signed for another gateway, {testimony.aud}"
    certificate = receipt.certificate
    if certificate is not None and not is_certified(
        receipt.node_id, receipt.public_key, certificate
    ):
        return "its certificate is not of this node and key"
    if not claim.assignment_id.startswith(f"{claim.job_id}.{claim.index}."):
        return f"the assignment {claim.assignment_id} is not of this shard"
    named = testimony.results.get(claim.assignment_id)
    if not named:
        return f"it has no result of assignment {claim.assignment_id}"
    # A node may contradict itself in one envelope; it has signed both.
    same = [each for each in named if (each.code, each.sha) == (_OK, claim.sha)]
    if not same:
        return f"it names another result: {named[0].code} {named[0].sha[:12]}"
    if all(each.input_sha != claim.input_sha for each in same):
        return "the result is of another input"
    if any(each.body is not None and sha256_hex(each.body) != each.sha for each in same):
        return "the result in it has another hash than it says"
    if all(each.call_sha not in (None, claim.call_sha) for each in same):
        return "the result is of another module or another call of it"
    return None


def shortcomings(receipt: Receipt, claim: Claim) -> list[str]:
    """Return what a receipt without an objection leaves to the gateway's word."""
    named = receipt.testimony.results.get(claim.assignment_id, ())
    signed = any(each.call_sha == claim.call_sha is not None for each in named)
    found = [] if receipt.certificate is not None else ["key not certified"]
    return found if signed else [*found, "module not signed"]


def _results_in(body: bytes) -> dict[str, list[Result]]:
    messages = parse_cbor(body)
    if not isinstance(messages, list) or not all(
        isinstance(each, list) and len(each) >= 2 for each in messages
    ):
        raise ValueError("it is no list of messages")
    found: dict[str, list[Result]] = defaultdict(list)
    unreadable: list[str] = []
    for kind, fields, *_later in messages:
        if kind != RESULT:
            continue
        # The gateway counted the readable results that came along with an unreadable one.
        try:
            result = read_result(fields)
        except ValueError as error:
            unreadable.append(str(error))
            continue
        if isinstance(result, Result):
            found[result.assignment_id].append(result)
    if unreadable and not found:
        raise ValueError(unreadable[0])
    return dict(found)
