"""How a signing key is replaced, and how one is revoked: the signed statements, checked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from swarm_hub.exceptions import SignatureRefusedError
from swarm_hub.models.envelope import SKEW_S, VERSION, VERSION_2, canonical, key_id, sign, verify
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.strict_cbor import parse_canonical_cbor

TYPE_ROTATION: Final = "rotation"
TYPE_SUCCESSOR: Final = "successor"
OVERLAP_MAX_S: Final = 90 * 86_400
# How many rotations may overlap at one time; they travel in every hello.
CHAIN_MAX: Final = 8
_STATEMENT_MAX_BYTES: Final = 512
_TIME_MAX: Final = 2**37
_FIELDS: Final = {"peer": str, "old": bytes, "new": bytes, "at": int, "until": int}


@dataclass(frozen=True, slots=True)
class Rotation:
    """The old key's statement that the new one takes its place; until `until` both are valid.

    Both sign it: nobody can name a key as its own successor that is somebody else's. `accepted` is
    the new key's signature, empty in one that version 2 of the protocol made.
    """

    peer_id: str
    old: bytes
    new: bytes
    at: int
    until: int
    statement: bytes
    signature: bytes
    accepted: bytes

    @property
    def old_kid(self) -> str:
        """The id of the key that is replaced."""
        return key_id(self.old)

    @property
    def new_kid(self) -> str:
        """The id of the key that takes its place."""
        return key_id(self.new)

    def overlaps(self, now: float) -> bool:
        """Whether the old key is still valid, so that this rotation still needs to be announced."""
        return now <= self.until + SKEW_S

    def to_wire(self) -> list[bytes]:
        """Return the fields that `read_rotation` reads."""
        return [self.statement, self.signature, self.accepted]


@dataclass(frozen=True, slots=True)
class Revocation:
    """A signing key that is no longer valid, whatever it signs.

    `issuer` is the key (hex) whose owner ordered it elsewhere, None if it was ordered here.
    """

    kid: str
    revoked_at: float
    reason: str
    issuer: str | None = None


def make_rotation(
    old: SigningKey, new: SigningKey, *, peer_id: str, at: int, overlap_s: int
) -> Rotation:
    """Return the statement, signed by both, that `new` takes `old`'s place on the hub `peer_id`."""
    before, after, until = old.public_key, new.public_key, at + overlap_s
    statement = canonical({"peer": peer_id, "old": before, "new": after, "at": at, "until": until})
    signature = sign(old, TYPE_ROTATION, statement)
    accepted = sign(new, TYPE_SUCCESSOR, statement)
    return Rotation(peer_id, before, after, at, until, statement, signature, accepted)


def accept(rotation: Rotation, new: SigningKey) -> Rotation:
    """Return a rotation of version 2, to this hub's own key, signed by that key as well."""
    return replace(rotation, accepted=sign(new, TYPE_SUCCESSOR, rotation.statement))


def read_rotation(statement: object, signature: object, accepted: object) -> Rotation:
    """Check a rotation's shape, bounds and both signatures; raises SignatureRefusedError."""
    rotation = read_kept(statement, signature)
    if not isinstance(accepted, bytes) or not verify(
        rotation.new, TYPE_SUCCESSOR, rotation.statement, accepted
    ):
        raise SignatureRefusedError(
            "bad_rotation", "a key rotation is not signed by the key that it names"
        )
    return replace(rotation, accepted=accepted)


def read_kept(statement: object, signature: object) -> Rotation:
    """Check a rotation that this hub itself made or followed; raises SignatureRefusedError.

    Those of version 2 have one signature. What a peer shows goes through `read_rotation`.
    """
    if (
        not isinstance(statement, bytes)
        or not isinstance(signature, bytes)
        or len(statement) > _STATEMENT_MAX_BYTES
    ):
        raise SignatureRefusedError("malformed", "a key rotation is not two short byte strings")
    try:
        fields: Any = parse_canonical_cbor(statement)
    except ValueError as error:
        raise SignatureRefusedError("malformed", f"a key rotation can't be read: {error}") from None
    if (
        not isinstance(fields, dict)
        or fields.keys() != _FIELDS.keys()
        or any(type(fields[name]) is not kind for name, kind in _FIELDS.items())
        or not 0 <= fields["at"] <= fields["until"] < _TIME_MAX
        or fields["until"] - fields["at"] > OVERLAP_MAX_S
        or len(fields["new"]) != len(fields["old"])
    ):
        raise SignatureRefusedError("malformed", "a key rotation has other fields than it should")
    if not any(
        verify(fields["old"], TYPE_ROTATION, statement, signature, version)
        for version in (VERSION, VERSION_2)
    ):
        raise SignatureRefusedError(
            "bad_rotation", "a key rotation is not signed by the key that it replaces"
        )
    return Rotation(
        fields["peer"], fields["old"], fields["new"], fields["at"], fields["until"],
        statement, signature, b"",
    )  # fmt: skip


def read_rotations(wire: object) -> list[Rotation]:
    """Check the rotations of a hello or a message; raises SignatureRefusedError."""
    if not isinstance(wire, list) or len(wire) > CHAIN_MAX:
        raise SignatureRefusedError("malformed", f"expected at most {CHAIN_MAX} key rotations")
    if not all(isinstance(each, list) and len(each) == 3 for each in wire):
        raise SignatureRefusedError("malformed", "a key rotation is not three short byte strings")
    return [read_rotation(*each) for each in wire]


def chain_to(key: bytes, rotations: Collection[Rotation]) -> list[Rotation]:
    """Return the rotations that lead to `key`, the nearest to it last."""
    chain: list[Rotation] = []
    left = list(rotations)
    while (link := next((each for each in left if each.new == key), None)) is not None:
        chain.insert(0, link)
        left.remove(link)
        key = link.old
    return chain


def chain_from(key: bytes, chain: Sequence[Rotation]) -> Sequence[Rotation]:
    """Return the part of a chain that begins at `key`; nothing if the chain does not pass it."""
    for place, link in enumerate(chain):
        if link.old == key:
            return chain[place:]
    return ()
