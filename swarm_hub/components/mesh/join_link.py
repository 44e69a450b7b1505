"""Invitation links: what a device needs to know to join a hub, in one line of text.

`swarmhub://join/1/` and base32 of deterministic CBOR with a checksum (docs/protocol.md). Base32
survives chat programs, which change the case of letters and take `_` for markup, and QR codes hold
it most densely.
"""

import base64
import hashlib
import string
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.components.mesh.identity import (
    PeerAddress,
    parse_dial_address,
    peer_id_from_public_key,
    public_key_from_peer_id,
)
from swarm_hub.exceptions import JoinLinkError, MeshError
from swarm_hub.util.strict_cbor import parse_canonical_cbor, to_canonical_cbor

ADDRESSES_MAX: Final = 8
TOKEN_BYTES: Final = 16
# Of a link that names one gateway, and of one that names others of its store, too.
_VERSION: Final = "1"
_VERSION_OF_SEVERAL: Final = "2"
# Beside the one that made the link; more would make its QR code too dense for old cameras.
OTHERS_MAX: Final = 3
_OTHER_ADDRESSES_MAX: Final = 2
_START: Final = "swarmhub://join/"
_LINK_MAX: Final = 4096
_CHECKSUM_BYTES: Final = 4
_NAME_MAX: Final = 64
_ALPHABET: Final = frozenset(string.ascii_lowercase + "234567")
# a: addresses, e: expires at, k: signing key, n: name, p: key of the peer id, t: token
_FIELDS: Final = {"a": list, "e": int, "k": bytes, "n": str, "p": bytes, "t": bytes}
# g: other gateways, each its key of the peer id, signing key and addresses
_FIELDS_OF_SEVERAL: Final = {**_FIELDS, "g": list}
_FIELDS_OF: Final = {_VERSION: _FIELDS, _VERSION_OF_SEVERAL: _FIELDS_OF_SEVERAL}
_WHOLE_AGAIN: Final = "copy the whole link again, or scan the QR code"


@dataclass(frozen=True, slots=True)
class LinkedGateway:
    """A gateway that a link leads to."""

    peer_id: str
    public_key: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinLink:
    """An invitation: where the hub is, whom to trust, and the token that admits once.

    `others` share the hub's store, and take the token as well.
    """

    name: str
    peer_id: str
    addresses: tuple[str, ...]
    public_key: bytes
    token: bytes
    expires_at: int
    others: tuple[LinkedGateway, ...] = ()

    @property
    def gateways(self) -> tuple[LinkedGateway, ...]:
        """The gateway that made the link, then the others."""
        return (LinkedGateway(self.peer_id, self.public_key, self.addresses), *self.others)

    @property
    def all_addresses(self) -> tuple[str, ...]:
        """The addresses of all of them."""
        return tuple(address for each in self.gateways for address in each.addresses)

    @property
    def all_keys(self) -> tuple[str, ...]:
        """The signing keys of all of them, in hex."""
        return tuple(each.public_key.hex() for each in self.gateways)

    def to_text(self) -> str:
        """Return the link; raises JoinLinkError if it has too many addresses or too long ones."""
        content = to_canonical_cbor(
            {
                "a": [parse_dial_address(each).location for each in self.addresses],
                "e": self.expires_at,
                "k": self.public_key,
                "n": "".join(filter(str.isprintable, self.name))[:_NAME_MAX],
                "p": public_key_from_peer_id(self.peer_id),
                "t": self.token,
                **({"g": list(map(_told, self.others[:OTHERS_MAX]))} if self.others else {}),
            }
        )
        version = _VERSION_OF_SEVERAL if self.others else _VERSION
        link = f"{_START}{version}/{_packed(content + _checksum(content))}"
        if len(link) > _LINK_MAX or not 0 < len(self.addresses) <= ADDRESSES_MAX:
            raise JoinLinkError(
                f"a link holds 1 to {ADDRESSES_MAX} addresses and {_LINK_MAX} characters; "
                "give fewer or shorter addresses"
            )
        return link


def parse_join_link(text: str) -> JoinLink:
    """Read an invitation link; raises JoinLinkError that says what is wrong and what to do."""
    if len(text) > 4 * _LINK_MAX:
        raise JoinLinkError(f"{len(text)} characters are not an invitation: {_WHOLE_AGAIN}")
    # Chat programs and terminals break long lines, and people copy the quotes with the link.
    link = "".join(text.split()).strip("<>\"'`()[]").lower()
    if not link.startswith(_START):
        raise JoinLinkError(
            f"{link[:40]!r} is not an invitation: it has to begin with {_START}; "
            "make one on the hub to join, with: swarm-hub invite"
        )
    version, _, packed = link.removeprefix(_START).rstrip(".,;:!").partition("/")
    if version not in _FIELDS_OF:
        raise JoinLinkError(
            f"the link has version {version[:20]!r}, this swarm-hub reads versions "
            f"{' and '.join(_FIELDS_OF)}: upgrade the older of the two, or {_WHOLE_AGAIN}"
        )
    if len(link) > _LINK_MAX:
        raise JoinLinkError(f"a link has at most {_LINK_MAX} characters, this one has {len(link)}")
    return _checked(_unpacked(packed), _FIELDS_OF[version])


def _packed(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def _unpacked(packed: str) -> bytes:
    if foreign := sorted(set(packed) - _ALPHABET):
        raise JoinLinkError(f"the link was changed (none contains {foreign[0]!r}): {_WHOLE_AGAIN}")
    try:
        raw = base64.b32decode(packed.upper() + "=" * (-len(packed) % 8))
    except ValueError:
        raw = b""
    content, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    # The last character may hold bits that belong to no byte; the checksum can't cover these.
    if not content or checksum != _checksum(content) or _packed(raw) != packed:
        raise JoinLinkError(
            f"the link is incomplete or was changed on its way ({len(packed)} characters after "
            f"{_START}{_VERSION}/): {_WHOLE_AGAIN}"
        )
    return content


def _checked(content: bytes, expected: dict[str, type]) -> JoinLink:
    wrong = JoinLinkError("the link was not made by swarm-hub invite: ask for another one")
    try:
        fields: Any = parse_canonical_cbor(content)
    except ValueError:
        raise wrong from None
    if (
        not isinstance(fields, dict)
        or fields.keys() != expected.keys()
        or any(type(fields[name]) is not kind for name, kind in expected.items())
        or (len(fields["k"]), len(fields["p"]), len(fields["t"])) != (32, 32, TOKEN_BYTES)
        or not 0 <= fields["e"] < 2**37
        or not 0 < len(fields["a"]) <= ADDRESSES_MAX
        or len(fields["n"]) > _NAME_MAX
        or not fields["n"].isprintable()
        or not all(map(_is_other, others := fields.get("g", [])))
        or len(others) > OTHERS_MAX
    ):
        raise wrong
    peer_id = peer_id_from_public_key(fields["p"])
    return JoinLink(
        fields["n"],
        peer_id,
        tuple(str(_address(each, peer_id)) for each in fields["a"]),
        fields["k"],
        fields["t"],
        fields["e"],
        tuple(_linked(*each) for each in others),
    )


def _told(gateway: LinkedGateway) -> list[Any]:
    at = [parse_dial_address(each).location for each in gateway.addresses[:_OTHER_ADDRESSES_MAX]]
    return [public_key_from_peer_id(gateway.peer_id), gateway.public_key, at]


def _is_other(value: object) -> bool:
    return (
        isinstance(value, list)
        and [type(each) for each in value] == [bytes, bytes, list]
        and (len(value[0]), len(value[1])) == (32, 32)
        and 0 < len(value[2]) <= _OTHER_ADDRESSES_MAX
    )


def _linked(identity: bytes, public_key: bytes, locations: list[object]) -> LinkedGateway:
    peer_id = peer_id_from_public_key(identity)
    return LinkedGateway(
        peer_id, public_key, tuple(str(_address(each, peer_id)) for each in locations)
    )


def _address(location: object, peer_id: str) -> PeerAddress:
    try:
        return parse_dial_address(f"{location}/p2p/{peer_id}")
    except MeshError as error:
        raise JoinLinkError(f"the link can't be used: {error}") from None


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECKSUM_BYTES]
