"""Connections of the API: how many there may be, and how long one may stay silent.

A connection costs a file, and a hub has few. One that sends no whole request head within 10 s, or
no byte of a body for 30 s, is cut; one that waits for its next request is closed after 75 s.
"""

import asyncio
import logging
import os
import resource
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from swarm_hub.components.api.errors import error_response
from swarm_hub.exceptions import RequestError

_LOGGER = logging.getLogger(__name__)

SERVER_NAME: Final = "swarm_hub"
KEEP_ALIVE_S: Final = 75.0
_HEAD_WITHIN_S: Final = 10.0
_BYTE_WITHIN_S: Final = 30.0
# Of a body, on average, once it has taken a minute.
_LEAST_BYTES_PER_S: Final = 100
_AVERAGE_AFTER_S: Final = 60.0
_LOOK_EVERY_S: Final = 2.0
_LOG_EVERY_S: Final = 60.0
# struct ucred: process, user, group.
_UCRED: Final = struct.Struct("iII")


class Connections:
    """The open connections of one server, and makes new ones: it is their protocol factory."""

    def __init__(
        self, most: int, most_per_ip: int, is_exempt: Callable[[str], bool], **options: Any
    ) -> None:
        self.bound(most, most_per_ip)
        self._is_exempt = is_exempt
        self._options = options
        self._server: web.Server | None = None
        self._open: set[Connection] = set()
        self._n_taken = 0
        self._per_ip: Counter[str] = Counter()
        self._looking: asyncio.TimerHandle | None = None
        self._logged_at = float("-inf")
        self._n_refused = 0

    def bound(self, most: int, most_per_ip: int) -> None:
        """Take so many from now on; those that are open stay."""
        # The other half of the files is for the mesh, the store and the sandbox.
        soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = most if soft_limit == resource.RLIM_INFINITY else min(most, soft_limit // 2)
        self._most_per_ip = most_per_ip

    def serve_by(self, server: web.Server) -> None:
        """Hand requests to that server."""
        self._server = server

    def __call__(self, taken_for: str | None = None) -> "Connection":
        """Return the protocol of a new connection; of one that was `take`n, for which address."""
        assert self._server is not None
        return Connection(
            self, self._server, taken_for, loop=asyncio.get_running_loop(), **self._options
        )

    def close(self) -> None:
        """Look after nothing any more."""
        if self._looking is not None:
            self._looking.cancel()

    @property
    def count(self) -> int:
        """How many there are, with those that have not said yet what they want."""
        return self._n_taken

    def take(self, ip: str) -> bool:
        """Count a new connection, unless there are too many; whoever took it gives it back."""
        too_many = self._n_taken >= self._most
        if too_many or (self._per_ip[ip] >= self._most_per_ip and not self._is_exempt(ip)):
            self._refused(ip, "in all" if too_many else "of its address")
            return False
        self._n_taken += 1
        self._per_ip[ip] += 1
        return True

    def give_back(self, ip: str) -> None:
        """Count a connection no more."""
        self._n_taken -= 1
        self._per_ip[ip] -= 1
        if self._per_ip[ip] <= 0:
            del self._per_ip[ip]

    def watch(self, connection: "Connection") -> None:
        """Look after a connection from now on."""
        self._open.add(connection)
        if self._looking is None:
            self._look_later()

    def left(self, connection: "Connection", ip: str) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self.give_back(ip)

    def _refused(self, ip: str, which: str) -> None:
        self._n_refused += 1
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= _LOG_EVERY_S:
            _LOGGER.warning(
                "Refused %d connections to the API, the last from %s: too many %s "
                "(api: connections, connections_per_ip)",
                self._n_refused, ip, which,
            )  # fmt: skip
            self._logged_at, self._n_refused = now, 0

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in tuple(self._open):
            connection.cut_if_slow(now)
        self._looking = None
        if self._open:
            self._look_later()


class Connection(RequestHandler):
    """aiohttp's protocol, which also notes when it heard something."""

    def __init__(
        self, connections: Connections, server: web.Server, taken_for: str | None, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._taken_for = taken_for
        # From then on it gives itself back.
        self.is_begun = False
        # Whether a process of the hub's own user is at the other end of its unix socket.
        self.is_own = False
        self._socket: asyncio.Transport | None = None
        self._ip = ""
        self._body: web.Request | None = None
        self._busy = False
        self._heard_at = 0.0
        # When the head of the next request began to come, None while it hasn't.
        self._head_at: float | None = None
        self._n_bytes = 0
        self._body_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many connections."""
        self._socket = cast(asyncio.Transport, transport)
        self.is_begun = True
        self.is_own = _is_own(transport.get_extra_info("socket"))
        if self._taken_for is None:
            peer = transport.get_extra_info("peername")
            self._ip = str(peer[0]) if peer else ""
            if not self._connections.take(self._ip):
                self._ip, self._socket = "", None
                cast(asyncio.Transport, transport).abort()
                return
        else:
            self._ip = self._taken_for
        self._connections.watch(self)
        # The first head is due from now on.
        self._heard_at = self._head_at = asyncio.get_running_loop().time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        if self._socket is None:
            return
        self._socket = None
        self._connections.left(self, self._ip)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note that something came."""
        self._heard_at = asyncio.get_running_loop().time()
        self._n_bytes += len(data)
        if not self._busy and self._head_at is None:
            self._head_at = self._heard_at
        super().data_received(data)

    async def send(self, data: bytes) -> None:
        """Write to a connection that was upgraded; waits while its client does not read."""
        if self._socket is None or self._socket.is_closing():
            raise ConnectionResetError("the client has left")
        self._socket.write(data)
        if self.writing_paused:
            await self._drain_helper()

    def cut(self) -> None:
        """End the connection, whatever is still to be sent."""
        if self._socket is not None:
            self._socket.abort()

    def begin(self, request: web.Request) -> None:
        """A request's head is complete."""
        self._busy, self._head_at = True, None
        self._body, self._body_at, self._n_bytes = request, self._heard_at, 0

    def end(self) -> None:
        """The request was answered."""
        self._busy, self._body = False, None

    def cut_if_slow(self, now: float) -> None:
        """Cut the connection if its client takes too long."""
        if self._socket is not None and self._is_slow(self._socket, now):
            self._socket.abort()

    def _is_slow(self, transport: asyncio.Transport, now: float) -> bool:
        if not self._busy:
            return self._head_at is not None and now - self._head_at > _HEAD_WITHIN_S
        # A body that the hub does not read at the moment is not its client's fault.
        if self._body is None or self._body.content.is_eof() or not transport.is_reading():
            return False
        if now - self._heard_at > _BYTE_WITHIN_S:
            return True
        took_s = now - self._body_at
        return took_s > _AVERAGE_AFTER_S and self._n_bytes < _LEAST_BYTES_PER_S * took_s

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP; anybody may send it, so it must not fill the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        level = logging.DEBUG if status < 500 else logging.ERROR
        _LOGGER.log(level, "A request from %s can't be served", self._ip, exc_info=exc)
        words = "the request is not valid HTTP" if status < 500 else "an unexpected error"
        response = error_response(RequestError("bad_http", words), status)
        response.headers["Server"] = SERVER_NAME
        response.force_close()
        return response


def _is_own(connected: socket.socket | None) -> bool:
    if connected is None or connected.family is not socket.AF_UNIX:
        return False
    if not hasattr(socket, "SO_PEERCRED"):
        # The mode of the socket lets nobody else connect.
        return True
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return _UCRED.unpack(credentials)[1] in (0, os.geteuid())
