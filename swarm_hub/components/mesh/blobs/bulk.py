"""The bulk plane: large blobs over plain TCP, sealed with a key that a signed ticket carries.

One stream of libp2p in Python carries 20 to 30 MB/s; this carries several hundred. One side
listens, the other connects (phones sit behind NAT), and either may be the one that sends. The
ticket names a transfer and its one-time key. The client begins with 44 bytes: `SHB3`, the ticket's
id, if it receives the offset at which it wants to continue (8 bytes, big-endian, a multiple of the
chunk), and a tag that proves that it has the key. If it sends, the server answers with that offset.
Then come the chunks of 256 KiB, each sealed with AES-256-GCM (NIST SP 800-38D): the nonce is the
number of the chunk, so none repeats under a key, and the ticket's id is authenticated with it.
"""

import asyncio
import functools
import hmac
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from swarm_hub.components.mesh.blobs.transfer import Incoming
from swarm_hub.components.mesh.listener import (
    ID_BYTES,
    OPENING_TIMEOUT_S,
    DirectListener,
    Plane,
    Serve,
    connected,
    read,
    write,
)
from swarm_hub.exceptions import MeshError
from swarm_hub.models.blob import Readable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK_BYTES: Final = 256 * 1024
_MAGIC: Final = b"SHB3"
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_OFFSET_BYTES: Final = 8
# No chunk has this number.
_PROOF_NONCE: Final = b"\xff" * 12
_CHUNK_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one side tells the other, signed, about a transfer: where, which, and its key."""

    id: bytes
    key: bytes
    port: int

    def to_wire(self) -> dict[str, Any]:
        """Return the ticket's own fields of the message."""
        return {"id": self.id, "key": self.key, "port": self.port}

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read these fields; raises KeyError, TypeError or ValueError on a wrong shape."""
        made = cls(fields["id"], fields["key"], fields["port"])
        if not (isinstance(made.id, bytes) and isinstance(made.key, bytes)):
            raise TypeError("ticket: id and key must be bytes")
        if len(made.id) != ID_BYTES or len(made.key) != _KEY_BYTES:
            raise ValueError("ticket: id or key of the wrong length")
        if type(made.port) is not int or not 0 < made.port < 65536:
            raise ValueError("ticket: no such port")
        return made


@dataclass(slots=True, eq=False)
class Deal:
    """A transfer that the server waits for; exactly one of `data` and `incoming` is set."""

    peer_id: str
    ticket: Ticket
    data: Readable | None = None
    incoming: Incoming | None = None
    # Set when a peer has connected with the ticket.
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    serving: "asyncio.Task[Any] | None" = None

    def end(self) -> None:
        """Serve it no more, and close its connection if there is one."""
        self.begun.set()
        self.ended.set()
        if self.serving is not None:
            self.serving.cancel()


class BulkServer:
    """Serves ticket holders that connect to the listener."""

    def __init__(self, listener: DirectListener) -> None:
        self._listener = listener
        self._deals: dict[bytes, Deal] = {}
        listener.add(Plane(_MAGIC, _OFFSET_BYTES + _TAG_BYTES, self._prove))

    @property
    def is_listening(self) -> bool:
        """Whether tickets can be given out."""
        return self._listener.is_listening

    @contextmanager
    def offering(
        self, peer_id: str, *, data: Readable | None = None, incoming: Incoming | None = None
    ) -> Iterator[Deal]:
        """Give a peer a ticket for fetching `data`, or for bringing `incoming`, in the block."""
        ticket = Ticket(os.urandom(ID_BYTES), os.urandom(_KEY_BYTES), self._listener.port)
        deal = self._deals[ticket.id] = Deal(peer_id, ticket, data, incoming)
        try:
            yield deal
        finally:
            del self._deals[ticket.id]
            deal.end()

    def end_all_of(self, peer_id: str) -> None:
        """End the transfers of a peer whose session has ended."""
        for deal in self._deals.values():
            if deal.peer_id == peer_id:
                deal.end()

    def refused(self, peer_id: str, ticket_id: object) -> None:
        """Note that the peer can't use its ticket."""
        deal = self._deals.get(ticket_id) if isinstance(ticket_id, bytes) else None
        if deal is not None and deal.peer_id == peer_id and not deal.begun.is_set():
            deal.end()

    def _prove(self, ticket_id: bytes, rest: bytes) -> Serve | None:
        deal = self._deals.get(ticket_id)
        if deal is None or deal.begun.is_set():
            return None
        offset, proof = rest[:_OFFSET_BYTES], rest[_OFFSET_BYTES:]
        if not hmac.compare_digest(_proof(deal.ticket, _MAGIC + ticket_id + offset), proof):
            return None
        # From here on nobody else is served.
        deal.begun.set()
        return functools.partial(self._serve, deal, int.from_bytes(offset, "big"))

    @staticmethod
    async def _serve(deal: Deal, offset: int, connection: socket.socket) -> None:
        deal.serving = asyncio.current_task()
        try:
            if deal.data is not None:
                await _send(connection, deal.ticket, deal.data, offset)
            elif deal.incoming is not None:
                await _write(connection, deal.incoming.offset.to_bytes(_OFFSET_BYTES, "big"))
                await _receive(connection, deal.ticket, deal.incoming)
        finally:
            deal.serving = None
            deal.ended.set()


async def download(host: str, ticket: Ticket, incoming: Incoming) -> None:
    """Receive the rest of a blob; raises MeshError when it can't be had this way."""
    del incoming.received[incoming.offset - incoming.offset % CHUNK_BYTES :]
    offset = incoming.offset
    await _as_client(host, ticket, offset, lambda sock: _receive(sock, ticket, incoming))


async def upload(host: str, ticket: Ticket, data: Readable) -> None:
    """Send the rest of a blob; raises MeshError when the peer can't be reached."""
    await _as_client(host, ticket, 0, lambda sock: _send_rest(sock, ticket, data))


async def _as_client(
    host: str, ticket: Ticket, offset: int, work: Callable[[socket.socket], Awaitable[None]]
) -> None:
    try:
        async with asyncio.timeout(OPENING_TIMEOUT_S):
            connection = await connected(host, ticket.port)
        with connection:
            head = _MAGIC + ticket.id + offset.to_bytes(_OFFSET_BYTES, "big")
            async with asyncio.timeout(OPENING_TIMEOUT_S):
                await write(connection, head + _proof(ticket, head))
            await work(connection)
    except (OSError, TimeoutError) as error:
        raise MeshError(
            f"the bulk connection to {host} port {ticket.port} failed: {error or 'too slow'}"
        ) from error


async def _send_rest(connection: socket.socket, ticket: Ticket, data: Readable) -> None:
    async with asyncio.timeout(OPENING_TIMEOUT_S):
        offset = int.from_bytes(await read(connection, _OFFSET_BYTES), "big")
    await _send(connection, ticket, data, offset)
    # The other side closes once it has everything; closing first could discard the end.
    async with asyncio.timeout(_CHUNK_TIMEOUT_S):
        await asyncio.get_running_loop().sock_recv(connection, 1)


async def _send(connection: socket.socket, ticket: Ticket, data: Readable, offset: int) -> None:
    if offset % CHUNK_BYTES or offset > len(data):
        raise MeshError("a transfer goes on at the beginning of a chunk")
    loop, cipher = asyncio.get_running_loop(), _cipher(ticket)

    def seal(start: int) -> bytes:
        return cipher.encrypt(_nonce(start), data[start : start + CHUNK_BYTES], ticket.id)

    # The next chunk is sealed in a thread while this one is on its way.
    sealing = loop.run_in_executor(None, seal, offset) if offset < len(data) else None
    try:
        while sealing is not None:
            sealed = await asyncio.shield(sealing)
            offset += CHUNK_BYTES
            sealing = loop.run_in_executor(None, seal, offset) if offset < len(data) else None
            await _write(connection, sealed)
    finally:
        # Whoever lent the data may close it afterwards.
        if sealing is not None and not sealing.done():
            await asyncio.wait([sealing])


async def _receive(connection: socket.socket, ticket: Ticket, incoming: Incoming) -> None:
    loop, cipher = asyncio.get_running_loop(), _cipher(ticket)
    from cryptography.exceptions import InvalidTag

    def take(start: int, sealed: bytearray) -> None:
        incoming.store(start, cipher.decrypt(_nonce(start), sealed, ticket.id))

    offset = incoming.offset
    taking: asyncio.Future[None] | None = None
    try:
        while offset < incoming.size_bytes:
            if incoming.failure is not None:
                raise MeshError(incoming.failure)
            size = min(CHUNK_BYTES, incoming.size_bytes - offset) + _TAG_BYTES
            try:
                async with asyncio.timeout(_CHUNK_TIMEOUT_S):
                    sealed = await read(connection, size)
            finally:
                # The previous chunk was unsealed and written in a thread meanwhile.
                if taking is not None:
                    await taking
                    incoming.progress.set()
            taking = loop.run_in_executor(None, take, offset, sealed)
            offset += CHUNK_BYTES
        if taking is not None:
            await taking
            incoming.progress.set()
    except InvalidTag:
        raise MeshError(f"a chunk of {incoming.sha[:12]} was not sealed with its key") from None


def _cipher(ticket: Ticket) -> "AESGCM":
    # Imported here because most hubs never move a large blob.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(ticket.key)


def _proof(ticket: Ticket, head: bytes) -> bytes:
    """Return the tag over the first bytes of a connection, which only a ticket's holder knows."""
    return _cipher(ticket).encrypt(_PROOF_NONCE, b"", head)


def _nonce(offset: int) -> bytes:
    return (offset // CHUNK_BYTES).to_bytes(12, "big")


async def _write(connection: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(_CHUNK_TIMEOUT_S):
        await write(connection, data)
