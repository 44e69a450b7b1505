"""What a mesh transport is: sessions, its events, its optional abilities, and its errors."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import TransportLimits
from swarm_hub.components.mesh.wire.requests import Requests
from swarm_hub.exceptions import MeshError


class PeerGone(MeshError):
    """There is no live session with this peer."""


CONTENT_OFF = "this side does not take part in finding blobs"
# A search for a blob has no use for more providers than this.
PROVIDERS_MAX = 8
# The most blobs that one side provides; others keep no more records of it.
PROVIDED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that is said to have a blob, and where to dial it if it is not connected."""

    peer_id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """Whose word a message is, because of the connection that it came over."""

    peer_id: str
    # The signing key, and its id.
    public_key: bytes
    kid: str


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What a transport is made from; each takes what it needs."""

    # The Ed25519 seed of this hub's identity.
    seed: bytes
    peer_id: str
    # `mesh: listen` and `mesh: mdns`.
    listen: tuple[str, ...]
    mdns: bool
    limits: TransportLimits
    # Filled before the transports start, by components that register for a topic.
    gossip_topics: Collection[str]
    # Shared, so that a reply may come over another transport than its question.
    requests: Requests


class Session(Protocol):
    """A live session with a peer whose identity is proven; `FramedSession` has most of it."""

    @property
    def peer_id(self) -> str:
        """Who is at the other end."""

    @property
    def address(self) -> str:
        """Where the other end is."""

    def send(self, message: bytes) -> None:
        """Queue one encoded control message; raises `PeerGone` or `QueueFull`."""

    async def send_bulk(self, message: bytes) -> None:
        """Queue one encoded bulk message once there is room; raises `PeerGone`."""

    async def request(
        self, kind: str, fields: Mapping[str, Any], timeout_s: float = ...
    ) -> Mapping[str, Any]:
        """Send a control message and return the fields of its `reply`.

        The peer sees `ask` among the fields and sends a `reply` with the same `ask`, and with
        `error` if it can't answer. Raises `MeshError` for that, for silence and for a lost peer.
        """

    async def close(self, reason: str) -> None:
        """End the session; the peer is told the reason if it still listens."""


class TransportEvents(Protocol):
    """What a transport tells its owner: on the asyncio loop, never blocking, in order."""

    def peer_up(self, session: Session) -> None:
        """A session is live; called once per session; a transport has one session per peer."""

    def peer_down(self, session: Session, reason: str) -> None:
        """A live session ended; called once per session, and nothing more comes from it."""

    def received(
        self, session: Session, messages: Sequence[Message], proof: Proof | None = None
    ) -> None:
        """A burst: every message of the frames that were read in one go.

        With a `proof` they are the word of the owner of that key.
        """

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        """A gossip message; `peer_id` is its source as its signature proves it."""

    def discovered(self, peer_id: str, addresses: Sequence[str]) -> None:
        """A peer was seen, e.g. on the local network."""

    def flooded(self, peer_id: str, reason: str) -> None:
        """This peer was disconnected because it kept sending more than it may."""

    def failed(self, reason: str) -> None:
        """The transport itself died; every session was reported as ended before that."""


class Transport(Protocol):
    """Carries framed messages between hubs over one long-lived session per peer."""

    @property
    def peer_id(self) -> str:
        """This side's peer id."""

    async def start(self, events: TransportEvents) -> None:
        """Listen; a `MeshError` says in one line what is wrong."""

    async def stop(self) -> None:
        """End every session and stop, in bounded time."""

    def addresses(self) -> tuple[str, ...]:
        """The addresses under which others reach this transport, each with its peer id."""

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; returns the peer id, after `peer_up`."""


# What follows are optional abilities of a transport; the mesh does without those it lacks.


@runtime_checkable
class Gossip(Protocol):
    """Carries messages to everyone; they may be lost."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip to whoever subscribed; needs no subscription of its own."""

    async def subscribe(self, topic: str) -> None:
        """Start delivering the gossip of this topic."""


@runtime_checkable
class ProviderRecords(Protocol):
    """Knows who has which blob; needs `content`, which is set before the start."""

    content: bool

    async def provide(self, sha: str) -> None:
        """Let others find out that this side has a blob, until `withdraw`; returns at once."""

    async def withdraw(self, sha: str) -> None:
        """Stop announcing a blob; peers that were told may believe it for a while."""

    async def find_providers(self, sha: str) -> list[Provider]:
        """Return other peers that are said to have a blob, each once, in bounded time.

        Nobody vouches for what they say. Raises `MeshError` without `content`.
        """


@runtime_checkable
class Watched(Protocol):
    """Has a thread of its own, which can be asked whether it makes its rounds."""

    async def sign(self) -> None:
        """Return when the thread has made a round; raises MeshError."""


@runtime_checkable
class Bans(Protocol):
    """Refuses peers and networks at connection; without it the mesh cuts them afterwards."""

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans: refused in both directions at connection, live sessions dropped."""
