"""Connections with TLS, which count from their first moment on: before a handshake has ended too.

asyncio's own servers tell of a connection only after its handshake, and who never ends one would be
in no count.
"""

import asyncio
import logging
import socket
import ssl
from email.utils import formatdate
from typing import Final

from swarm_hub.components.api.connections import Connection, Connections
from swarm_hub.components.api.tls import Certificate
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.strict_json import dump_json

_LOGGER = logging.getLogger(__name__)

_HANDSHAKE_WITHIN_S = 10.0
_GOODBYE_WITHIN_S: Final = 2.0
_NO_FILES_PAUSE_S: Final = 1.0
# The first byte of a handshake (RFC 8446, section 5.1).
_HANDSHAKE: Final = b"\x16"
_SPOKEN_MAX_BYTES: Final = 64 * 1024
_BODY: Final = dump_json(
    {"message": "this port speaks TLS; use https://", "code": "tls_needed", "errors": []}
)
_NO_TLS: Final = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\n"
    "Date: {date}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
)


class TlsListener:
    """Accepts the connections of one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        certificate: Certificate,
        connections: Connections,
        tasks: TaskSupervisor,
    ) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._certificate = certificate
        self._connections = connections
        self._tasks = tasks
        self._accepting = tasks.supervise(self._accept, "connections with TLS")
        self._shaking: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Take no more connections; those that are still shaking hands are cut."""
        for task in (self._accepting, *self._shaking):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listening)
            except ConnectionError:
                continue
            except OSError as error:
                # As asyncio's servers say it when there are no files left.
                message = "socket.accept() out of system resource"
                loop.call_exception_handler({"message": message, "exception": error})
                await asyncio.sleep(_NO_FILES_PAUSE_S)
                continue
            ip = str(address[0])
            if not self._connections.take(ip):
                accepted.close()
                continue
            task = self._tasks.spawn(self._serve(accepted, ip), "handshake")
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _serve(self, accepted: socket.socket, ip: str) -> None:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(_HANDSHAKE_WITHIN_S):
                first = await _first_byte(accepted)
            if first == _HANDSHAKE:
                context = await self._certificate.context()
                connection = self._connections(ip)
                await self._shake(connection, accepted, context)
            elif first:
                _answer_plainly(accepted)
        except (OSError, TimeoutError) as error:
            _LOGGER.debug("No connection with TLS from %s: %r", ip, error)
        finally:
            if connection is None:
                accepted.close()
            # One that has begun gives itself back at its end.
            if connection is None or not connection.is_begun:
                self._connections.give_back(ip)

    async def _shake(
        self, connection: Connection, accepted: socket.socket, context: ssl.SSLContext
    ) -> None:
        """Shake hands; from here on the loop closes the socket."""
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection, accepted, ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_WITHIN_S, ssl_shutdown_timeout=_GOODBYE_WITHIN_S,
        )  # fmt: skip


async def _first_byte(accepted: socket.socket) -> bytes:
    """Return the first byte, which stays where it is; none if the other side has closed it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(accepted, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(accepted)
    return accepted.recv(1, socket.MSG_PEEK)


def _answer_plainly(accepted: socket.socket) -> None:
    """Tell who speaks HTTP that this port does not."""
    # What was not read would make the kernel take the answer back.
    accepted.recv(_SPOKEN_MAX_BYTES)
    # By its time `swarm-hub doctor` compares clocks.
    head = _NO_TLS.format(date=formatdate(usegmt=True), length=len(_BODY))
    accepted.send(head.encode() + _BODY)
