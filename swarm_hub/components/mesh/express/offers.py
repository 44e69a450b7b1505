"""The two signed messages that lead to a connection: an ask, and the offer that answers it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.components.mesh.express.records import EPHEMERAL_BYTES
from swarm_hub.components.mesh.listener import ID_BYTES
from swarm_hub.util.bounds import is_text

ASK: Final = "express_ask"
OFFER: Final = "express_offer"
HASH_BYTES: Final = 32
_BOOT_BYTES: Final = 16
_BOOT_ID_MAX: Final = 200
_SUITES_MAX: Final = 16
_SEQ_MAX: Final = 2**63


@dataclass(frozen=True, slots=True)
class Place:
    """The session that is meant: the run of each side, and the session's number."""

    boot: str
    peer_boot: str
    session: tuple[bytes, int]

    def seen_by_peer(self) -> "Place":
        """Return the same session as the other side names it."""
        return Place(self.peer_boot, self.boot, self.session)

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of a message."""
        return {"boot": self.boot, "peer_boot": self.peer_boot, "session": list(self.session)}

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read these fields; raises KeyError, TypeError or ValueError on a wrong shape."""
        boot, peer_boot, session = fields["boot"], fields["peer_boot"], fields["session"]
        if not (is_text(boot, _BOOT_ID_MAX) and is_text(peer_boot, _BOOT_ID_MAX)):
            raise TypeError("'boot' and 'peer_boot' are no short texts")
        if not isinstance(session, list) or len(session) < 2:
            raise TypeError("'session' is not [boot, number]")
        run, seq = session[0], session[1]
        if not isinstance(seq, int) or not 0 < seq < _SEQ_MAX:
            raise ValueError("'session' has no number")
        return cls(boot, peer_boot, (_bytes(run, "session", _BOOT_BYTES), seq))


@dataclass(frozen=True, slots=True)
class Ask:
    """What the side that dials says: the suites that it knows, and its ephemeral key."""

    suites: tuple[int, ...]
    ephemeral: bytes
    place: Place

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the message."""
        return {"suites": list(self.suites), "eph": self.ephemeral, **self.place.to_wire()}

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError, TypeError or ValueError on a wrong shape."""
        suites = fields["suites"]
        if not isinstance(suites, list) or len(suites) > _SUITES_MAX:
            raise TypeError(f"'suites' is not a list of at most {_SUITES_MAX}")
        known = tuple(each for each in suites if type(each) is int)
        return cls(known, _bytes(fields["eph"], "eph", EPHEMERAL_BYTES), Place.from_wire(fields))


@dataclass(frozen=True, slots=True)
class Offer:
    """What the side that listens answers: where to connect, for how long nobody else's.

    `ask` is the SHA-256 of the header of the envelope that it answers.
    """

    suite: int
    id: bytes
    ephemeral: bytes
    port: int
    place: Place
    ask: bytes

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the message."""
        return {
            "suite": self.suite, "id": self.id, "eph": self.ephemeral, "port": self.port,
            "ask": self.ask, **self.place.to_wire(),
        }  # fmt: skip

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError, TypeError or ValueError on a wrong shape."""
        suite, port = fields["suite"], fields["port"]
        if type(suite) is not int:
            raise TypeError("'suite' is not a number")
        if type(port) is not int or not 0 < port < 65536:
            raise ValueError("'port' is no port")
        return cls(
            suite,
            _bytes(fields["id"], "id", ID_BYTES),
            _bytes(fields["eph"], "eph", EPHEMERAL_BYTES),
            port,
            Place.from_wire(fields),
            _bytes(fields["ask"], "ask", HASH_BYTES),
        )


def _bytes(value: object, name: str, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise ValueError(f"{name!r} is not {size} bytes")
    return value
