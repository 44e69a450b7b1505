"""One port for the connections beside the mesh's own: those of the bulk and of the express plane.

What a connection is for say its first 4 bytes. 16 bytes name what was agreed on in the session, and
the rest of its opening, of a fixed size, proves that the peer has the key that goes with it. Before
that nothing is used up, and only a few connections of an address are listened to.
"""

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from swarm_hub.components.mesh.identity import PeerAddress
from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.exceptions import MeshError
from swarm_hub.tasks import TaskSupervisor

_LOGGER = logging.getLogger(__name__)

MAGIC_BYTES: Final = 4
ID_BYTES: Final = 16
OPENING_TIMEOUT_S: Final = 5.0
_CONNECTIONS_MAX: Final = 256
# Connections that have proven nothing yet: so many are read from, in all and of one address; so
# many more of an address wait.
_UNPROVEN_MAX: Final = 64
_UNPROVEN_PER_IP: Final = 8
_WAITING_PER_IP: Final = 64

# Serves a connection; what it does not keep is closed when it returns.
Serve = Callable[[socket.socket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plane:
    """What a connection may be for: how many bytes follow its id, and what they prove.

    `prove(id, rest)` gets all of them and returns who serves the connection, None if they prove
    nothing.
    """

    magic: bytes
    rest_bytes: int
    prove: Callable[[bytes, bytes], Serve | None]


@dataclass(slots=True)
class _Unproven:
    """The connections of one address that have not proven anything yet."""

    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_UNPROVEN_PER_IP))
    count: int = 0


class DirectListener:
    """Listens for connections of peers that have agreed on one in their session."""

    def __init__(self, refuses_ip: Callable[[str], bool]) -> None:
        self._refuses_ip = refuses_ip
        self._planes: dict[bytes, Plane] = {}
        self._listener: socket.socket | None = None
        self._running: asyncio.Task[None] | None = None
        self.port = 0
        self._open = 0
        self._reading = asyncio.Semaphore(_UNPROVEN_MAX)
        self._unproven: dict[str, _Unproven] = {}

    @property
    def is_listening(self) -> bool:
        """Whether peers can be told to connect."""
        return self._listener is not None

    def add(self, plane: Plane) -> None:
        """Serve the connections of a plane as well."""
        self._planes[plane.magic] = plane

    def start(self, address: PeerAddress, tasks: TaskSupervisor) -> None:
        """Serve connections until `stop`; says in the log why if it can't listen."""
        try:
            listener = listening(address)
        except MeshError as error:
            _LOGGER.warning("%s", error)
            return
        listener.setblocking(False)
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        _LOGGER.info("Large blobs and fast messages go over port %d", self.port)
        serve = functools.partial(self._run, listener, tasks)
        self._running = tasks.supervise(serve, "direct connections")

    async def stop(self) -> None:
        """Stop listening."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            self._running = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _run(self, listener: socket.socket, tasks: TaskSupervisor) -> None:
        while True:
            connection, peer = await asyncio.get_running_loop().sock_accept(listener)
            ip = str(peer[0])
            if self._takes(ip):
                tasks.spawn(self._serve(connection, ip), "direct connection")
            else:
                connection.close()

    def _takes(self, ip: str) -> bool:
        unproven = self._unproven.get(ip)
        return (
            self._open < _CONNECTIONS_MAX
            and (unproven is None or unproven.count < _UNPROVEN_PER_IP + _WAITING_PER_IP)
            and not self._refuses_ip(ip)
        )

    async def _serve(self, connection: socket.socket, ip: str) -> None:
        self._open += 1
        try:
            with connection:
                serve = await self._opened(connection, ip)
                if serve is not None:
                    await serve(connection)
        except (OSError, TimeoutError, MeshError) as error:
            # Whoever waits for the connection sees that it is gone, and continues another way.
            _LOGGER.debug("A connection from %s ended: %s", ip, error or "too slow")
        finally:
            self._open -= 1

    async def _opened(self, connection: socket.socket, ip: str) -> Serve | None:
        unproven = self._unproven.setdefault(ip, _Unproven())
        unproven.count += 1
        try:
            async with (
                asyncio.timeout(2 * OPENING_TIMEOUT_S),
                unproven.reading,
                self._reading,
                asyncio.timeout(OPENING_TIMEOUT_S),
            ):
                head = await read(connection, MAGIC_BYTES + ID_BYTES)
                plane = self._planes.get(bytes(head[:MAGIC_BYTES]))
                if plane is None:
                    return None
                rest = await read(connection, plane.rest_bytes)
        finally:
            unproven.count -= 1
            if unproven.count == 0:
                del self._unproven[ip]
        return plane.prove(bytes(head[MAGIC_BYTES:]), bytes(rest))


def listening(address: PeerAddress) -> socket.socket:
    """Return a socket that listens on an address; raises MeshError if that is not possible."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=128)
    except OSError as error:
        raise MeshError(
            f"No bulk and no express plane: can't listen on {address}: "
            f"{os.strerror(error.errno or 0)}; all goes over the mesh, slower"
        ) from error


async def connected(host: str, port: int) -> socket.socket:
    """Return a connection to a listener; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection


async def read(connection: socket.socket, size: int) -> bytearray:
    """Read exactly `size` bytes; raises OSError if there are fewer."""
    loop, buffer = asyncio.get_running_loop(), bytearray(size)
    view = memoryview(buffer)
    while view:
        count = await loop.sock_recv_into(connection, view)
        if count == 0:
            raise ConnectionResetError("the peer closed the connection")
        TRAFFIC.direct_bytes += count
        view = view[count:]
    return buffer


async def write(connection: socket.socket, data: bytes) -> None:
    """Write everything; raises OSError."""
    TRAFFIC.direct_bytes += len(data)
    await asyncio.get_running_loop().sock_sendall(connection, data)
