"""What a mesh transport is: its events, its calls and its errors."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.exceptions import MeshError


class PeerGone(MeshError):
    """There is no live session with this peer."""


CONTENT_OFF = "this side does not take part in finding blobs"
# Whoever looks for a blob has no use for more peers that have it.
PROVIDERS_MAX = 8
# Blobs that one side provides at most; others keep no more records of it.
PROVIDED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Provider:
    """A peer that is said to have a blob, and where to dial it if it is not connected."""

    peer_id: str
    addresses: tuple[str, ...]


class TransportEvents(Protocol):
    """What a transport tells its owner: on the asyncio loop, never blocking, in order."""

    def peer_up(self, peer_id: str, address: str) -> None:
        """A session with this peer is live; called once per session."""

    def peer_down(self, peer_id: str, reason: str) -> None:
        """The live session with this peer ended; called once per session."""

    def received(self, peer_id: str, messages: Sequence[Message]) -> None:
        """A burst: every message of the frames that were read at once."""

    def gossiped(self, peer_id: str, topic: str, payload: bytes) -> None:
        """A gossip message; `peer_id` is its source as its signature proves it."""

    def discovered(self, peer_id: str, addresses: Sequence[str]) -> None:
        """A peer was seen on the local network."""

    def flooded(self, peer_id: str, reason: str) -> None:
        """This peer was let go because it went on sending more than it may."""

    def failed(self, reason: str) -> None:
        """The transport itself died; every peer has been reported as disconnected before."""


class Transport(Protocol):
    """Framed messages between hubs over one long-lived session per peer.

    With `content`, which is set before the start, it also knows who has which blob.
    """

    content: bool

    @property
    def peer_id(self) -> str:
        """This side's peer id."""

    async def start(self, events: TransportEvents) -> None:
        """Listen; a `MeshError` says in one line what is wrong."""

    async def stop(self) -> None:
        """Disconnect every peer and stop, in bounded time."""

    def addresses(self) -> tuple[str, ...]:
        """The addresses under which others reach this transport, each with its peer id."""

    def peers(self) -> dict[str, str]:
        """The peers with a live session, each with the address it is reached at."""

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; returns the peer id."""

    def send(self, peer_id: str, message: bytes) -> None:
        """Queue one encoded control message; raises `PeerGone` or `QueueFull`."""

    async def request(
        self, peer_id: str, kind: str, fields: Mapping[str, Any], timeout_s: float = ...
    ) -> Mapping[str, Any]:
        """Send a control message and return the fields of its `reply`.

        The peer sees `ask` among the fields and sends a `reply` with the same `ask`, and with
        `error` if it can't answer. Raises `MeshError` for that, for silence, for a lost peer.
        """

    async def send_bulk(self, peer_id: str, message: bytes) -> None:
        """Queue one encoded bulk message once there is room; raises `PeerGone`."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip to whoever subscribed; needs no subscription of its own."""

    async def subscribe(self, topic: str) -> None:
        """Have the gossip of this topic delivered."""

    async def provide(self, sha: str) -> None:
        """Have others find out that this side has a blob, until `withdraw`; returns at once."""

    async def withdraw(self, sha: str) -> None:
        """Say no longer that this side has a blob; who was told may believe it for a while."""

    async def find_providers(self, sha: str) -> list[Provider]:
        """Return other peers that are said to have a blob, each once, in bounded time.

        Nobody vouches for what they say. Raises `MeshError` without `content`.
        """

    async def disconnect(self, peer_id: str, reason: str) -> None:
        """End the session with a peer, which is told the reason if it still listens."""

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans: refused in both directions at connection, live sessions dropped."""
