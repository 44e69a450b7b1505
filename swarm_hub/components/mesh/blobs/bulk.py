"""The bulk plane: large blobs over plain TCP, sealed with a key that a signed ticket carries.

One stream of libp2p in Python carries 20 to 30 MB/s; this carries several hundred. One side
listens, the other connects (phones sit behind NAT), and either may be the one that sends. The
ticket names a transfer and its one-time key. The client begins with 44 bytes: `SHB3`, the ticket's
id, if it receives the offset at which it wants to continue (8 bytes, big-endian, a multiple of the
chunk), and a tag that proves that it has the key. Before that a ticket is not used up, and only a
few connections of an address are listened to. If it sends, the server answers with that offset.
Then come the chunks of 256 KiB, each sealed with AES-256-GCM (NIST SP 800-38D): the nonce is the
number of the chunk, so none repeats under a key, and the ticket's id is authenticated with it.
"""

import asyncio
import hmac
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from swarm_hub.components.mesh.blobs.transfer import Incoming
from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.exceptions import MeshError
from swarm_hub.models.blob import Readable
from swarm_hub.tasks import TaskSupervisor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK_BYTES: Final = 256 * 1024
_MAGIC: Final = b"SHB3"
_ID_BYTES: Final = 16
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = len(_MAGIC) + _ID_BYTES + 8
# No chunk has this number.
_PROOF_NONCE: Final = b"\xff" * 12
_OPENING_TIMEOUT_S: Final = 5.0
_CHUNK_TIMEOUT_S: Final = 30.0
_CONNECTIONS_MAX: Final = 256
# Connections of one address that have proven nothing yet: so many are read from, so many more wait.
_UNPROVEN_PER_IP: Final = 8
_WAITING_PER_IP: Final = 64


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
        if len(made.id) != _ID_BYTES or len(made.key) != _KEY_BYTES:
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


@dataclass(slots=True)
class _Unproven:
    """The connections of one address that have not shown a ticket yet."""

    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_UNPROVEN_PER_IP))
    count: int = 0


class BulkServer:
    """Listens for the connections of ticket holders."""

    def __init__(self, refuses_ip: Callable[[str], bool]) -> None:
        self._refuses_ip = refuses_ip
        self._deals: dict[bytes, Deal] = {}
        self._listener: socket.socket | None = None
        self._port = 0
        self._open = 0
        self._unproven: dict[str, _Unproven] = {}

    @property
    def is_listening(self) -> bool:
        """Whether tickets can be given out."""
        return self._listener is not None

    def listen(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        self._listener.setblocking(False)
        self._port = int(self._listener.getsockname()[1])
        return self._port

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def run(self, tasks: TaskSupervisor) -> None:
        """Serve connections until cancelled."""
        assert self._listener is not None
        while True:
            connection, peer = await asyncio.get_running_loop().sock_accept(self._listener)
            ip = str(peer[0])
            if self._takes(ip):
                tasks.spawn(self._serve(connection, ip), "bulk connection")
            else:
                connection.close()

    def _takes(self, ip: str) -> bool:
        unproven = self._unproven.get(ip)
        return (
            self._open < _CONNECTIONS_MAX
            and (unproven is None or unproven.count < _UNPROVEN_PER_IP + _WAITING_PER_IP)
            and not self._refuses_ip(ip)
        )

    @contextmanager
    def offering(
        self, peer_id: str, *, data: Readable | None = None, incoming: Incoming | None = None
    ) -> Iterator[Deal]:
        """Give a peer a ticket for fetching `data`, or for bringing `incoming`, in the block."""
        ticket = Ticket(os.urandom(_ID_BYTES), os.urandom(_KEY_BYTES), self._port)
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

    async def _serve(self, connection: socket.socket, ip: str) -> None:
        self._open += 1
        try:
            with connection:
                await self._talk(connection, ip)
        finally:
            self._open -= 1

    async def _opened(self, connection: socket.socket, ip: str) -> tuple[Deal, int] | None:
        """Return what a connection is for, and from which offset on; None without a ticket."""
        unproven = self._unproven.setdefault(ip, _Unproven())
        unproven.count += 1
        try:
            async with asyncio.timeout(2 * _OPENING_TIMEOUT_S), unproven.reading:
                async with asyncio.timeout(_OPENING_TIMEOUT_S):
                    head = bytes(await _read(connection, _HEAD_BYTES + _TAG_BYTES))
        finally:
            unproven.count -= 1
            if unproven.count == 0:
                del self._unproven[ip]
        head, proof = head[:_HEAD_BYTES], head[_HEAD_BYTES:]
        deal = self._deals.get(head[4:20]) if head.startswith(_MAGIC) else None
        if deal is None or deal.begun.is_set():
            return None
        if not hmac.compare_digest(_proof(deal.ticket, head), proof):
            return None
        return deal, int.from_bytes(head[20:], "big")

    async def _talk(self, connection: socket.socket, ip: str) -> None:
        deal = None
        try:
            opened = await self._opened(connection, ip)
            if opened is None:
                return
            deal, offset = opened
            deal.serving = asyncio.current_task()
            deal.begun.set()
            if deal.data is not None:
                await _send(connection, deal.ticket, deal.data, offset)
            elif deal.incoming is not None:
                await _write(connection, deal.incoming.offset.to_bytes(8, "big"))
                await _receive(connection, deal.ticket, deal.incoming)
        except (OSError, TimeoutError, MeshError):
            # Whoever waits for the transfer sees how far it got, and continues another way.
            return
        finally:
            if deal is not None:
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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_OPENING_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(connection, (host, ticket.port))
                head = _MAGIC + ticket.id + offset.to_bytes(8, "big")
                await _write(connection, head + _proof(ticket, head))
            await work(connection)
        except (OSError, TimeoutError) as error:
            raise MeshError(
                f"the bulk connection to {host} port {ticket.port} failed: {error or 'too slow'}"
            ) from error


async def _send_rest(connection: socket.socket, ticket: Ticket, data: Readable) -> None:
    async with asyncio.timeout(_OPENING_TIMEOUT_S):
        offset = int.from_bytes(await _read(connection, 8), "big")
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
                    sealed = await _read(connection, size)
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


async def _read(connection: socket.socket, size: int) -> bytearray:
    loop, buffer = asyncio.get_running_loop(), bytearray(size)
    view = memoryview(buffer)
    while view:
        count = await loop.sock_recv_into(connection, view)
        if count == 0:
            raise ConnectionResetError("the peer closed the connection")
        TRAFFIC.bulk_bytes += count
        view = view[count:]
    return buffer


async def _write(connection: socket.socket, data: bytes) -> None:
    TRAFFIC.bulk_bytes += len(data)
    async with asyncio.timeout(_CHUNK_TIMEOUT_S):
        await asyncio.get_running_loop().sock_sendall(connection, data)
