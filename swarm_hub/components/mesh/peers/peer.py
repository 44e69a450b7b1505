"""A peer as the hub sees it, and the first messages, which tell whose session it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from swarm_hub.components.mesh.transports.base import Session
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import MIB
from swarm_hub.exceptions import MeshError, SignatureRefusedError
from swarm_hub.models.envelope import key_id

PROTOCOL_VERSIONS: Final = (3,)
_EARLY_MAX: Final = 64
_EARLY_MAX_BYTES: Final = 4 * MIB


class NoWorkInCommon(MeshError):
    """Neither side has a use for the other."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What an admitted peer said about itself; `capabilities` maps a role to its properties."""

    name: str
    capabilities: Mapping[str, Mapping[str, Any]]
    public_key: bytes | None
    boot_id: str
    db_id: str

    @property
    def kid(self) -> str | None:
        """The id of its signing key, None without signatures."""
        return None if self.public_key is None else key_id(self.public_key)


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A peer was admitted (bus event)."""

    peer_id: str
    address: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class PeerDown:
    """An admitted peer disconnected (bus event)."""

    peer_id: str
    reason: str


class Greeter(Protocol):
    """Writes our `hello` and decides on theirs."""

    def compose(self, peer_id: str) -> dict[str, Any]:
        """Return the fields of our hello to that peer."""

    async def check(self, peer_id: str, fields: Mapping[str, Any]) -> Hello:
        """Return who they say they are; raises SignatureRefusedError if the hello is not valid."""

    async def admit(self, peer_id: str, fields: Mapping[str, Any], hello: Hello) -> Hello:
        """Return the role they are admitted in; raises SignatureRefusedError if they are not."""


@dataclass(slots=True)
class Peer:
    """An identity with a live session; `hello` is None until it is admitted.

    It may be reached by several transports at once: the newest session carries what is sent, and
    when it ends the newest remaining one takes over.
    """

    session: Session
    connected_at: float
    # Every live session, the newest last, and when it was last heard.
    heard: dict[Session, float]
    heard_on: Session
    hello: Hello | None = None
    rtt_s: float | None = None
    echoed_at: float = 0.0
    faults: int = 0
    # From its hello until the decision, its messages are held, within bounds.
    deciding: bool = False
    early: list[Message] = field(default_factory=list)
    early_bytes: int = 0

    def begin_anew(self, now: float) -> None:
        """Become the peer as it restarted: what counts is the session that it was last heard on."""
        self.session, self.heard = self.heard_on, {self.heard_on: now}
        self.connected_at, self.rtt_s, self.echoed_at = now, None, 0.0
        self.hello, self.deciding, self.early_bytes = None, False, 0

    def hold(self, message: Message) -> bool:
        """Hold messages while the decision about the peer is pending; False if they are too many.

        Fields that hold lists or maps are dropped: no message of this version has any.
        """
        size, kept = 0, {}
        for name, value in message[1].items():
            if isinstance(value, bytes | str):
                size += len(value)
            elif not isinstance(value, int | float | None):
                continue
            size += len(name)
            kept[name] = value
        if len(self.early) >= _EARLY_MAX or self.early_bytes + size > _EARLY_MAX_BYTES:
            return False
        self.early.append((message[0], kept))
        self.early_bytes += size
        return True

    def take_early(self) -> list[Message]:
        """Return the held messages."""
        early, self.early = self.early, []
        return early


def compose_hello(greeter: Greeter | None, peer_id: str) -> dict[str, Any]:
    """Return the fields of our first message to a peer."""
    signed = {} if greeter is None else greeter.compose(peer_id)
    return {"versions": list(PROTOCOL_VERSIONS), **signed}


async def admit_hello(
    greeter: Greeter | None,
    peer_id: str,
    fields: Mapping[str, Any],
    is_of_use: Callable[[Hello], bool],
) -> Hello:
    """Return who a peer is according to its `hello`.

    Raises SignatureRefusedError for a peer that is not in order or not admitted, NoWorkInCommon for
    one without use.
    """
    theirs = fields.get("versions", ())
    if not set(PROTOCOL_VERSIONS).intersection(theirs):
        raise SignatureRefusedError("no_common_version", _what_to_update(theirs))
    hello = (
        Hello(peer_id[-8:], {}, None, "", "")
        if greeter is None
        else await greeter.check(peer_id, fields)
    )
    if not is_of_use(hello):
        raise NoWorkInCommon("no work in common")
    return hello if greeter is None else await greeter.admit(peer_id, fields, hello)


def _what_to_update(theirs: object) -> str:
    """Say which version is too old: the words go to the owners of both hubs."""
    spoken = [each for each in theirs if type(each) is int] if isinstance(theirs, list) else []
    return (
        f"no common protocol version, we speak {PROTOCOL_VERSIONS[-1]}, the other side "
        f"{max(spoken, default='none')}: update swarm-hub on the hub with the lower one"
    )
