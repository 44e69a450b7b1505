"""Lets clients of the websocket in, and closes what may not stay open."""

import asyncio
import json
import logging
from functools import partial
from typing import Final

import voluptuous as vol
from aiohttp import WSMsgType, hdrs, web

from swarm_hub.components.api.access import Access
from swarm_hub.components.api.answering import Answering
from swarm_hub.components.api.audit import AuditLog
from swarm_hub.components.api.connections import Connection
from swarm_hub.components.api.errors import ClientGone
from swarm_hub.components.api.live import messages
from swarm_hub.components.api.live.connection import LiveConnection
from swarm_hub.components.api.live.fanout import Fanout
from swarm_hub.components.api.live.frames import text_frame
from swarm_hub.components.api.live.outbox import Outbox
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.exceptions import RequestError, StoreError
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.strict_json import parse_json

_LOGGER = logging.getLogger(__name__)

_AUTH_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 1.0
_HEARTBEAT_S: Final = 30.0
_WATCH_EVERY_S: Final = 0.5
_MESSAGE_MAX_BYTES: Final = 64 * 1024
# As it is registered for websockets; a client asks another gateway.
_TRY_AGAIN_LATER: Final = 1013
_LEFT: Final = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_DEFLATE: Final = "permessage-deflate"


class LiveClients:
    """Every websocket."""

    def __init__(
        self, hub: Hub, access: Access, quotas: Quotas, audit: AuditLog, answering: Answering
    ) -> None:
        self._hub = hub
        self._access = access
        self._quotas = quotas
        self._audit = audit
        self._answering = answering
        self._fanout = Fanout(hub)
        self._connections: set[LiveConnection] = set()
        self._watching: asyncio.Task[None] | None = None
        self._subscribe_schema: vol.Schema | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes; raises Forbidden for one from a foreign page."""
        self._access.check_source(request)
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT_S, heartbeat=_HEARTBEAT_S, max_msg_size=_MESSAGE_MAX_BYTES,
            compress=True,
        )  # fmt: skip
        try:
            await socket.prepare(_without_context(request))
            token = await self._authenticate(request, socket)
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
        if token is not None:
            await self._serve(request, socket, token)
        return socket

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, token: Token
    ) -> None:
        if self._subscribe_schema is None:
            self._subscribe_schema = messages.subscribe_schema(self._hub.endpoints.event_types)
        connection = LiveConnection(
            self._hub, socket, Outbox(socket, _wire(request), self._hub.tasks), token, self._fanout,
            self._quotas, self._subscribe_schema, partial(self._audit.command, request, token),
            self._answering,
        )  # fmt: skip
        self._connections.add(connection)
        if self._watching is None or self._watching.done():
            self._watching = self._hub.tasks.supervise(self._watch_tokens, "websocket tokens")
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def close(self) -> None:
        """Say why and close every websocket."""
        await asyncio.gather(
            *(
                connection.socket.close(code=1001, message=b"the hub is stopping")
                for connection in self._connections
            )
        )

    async def _watch_tokens(self) -> None:
        """Close the websockets of tokens that are revoked or expire, while there are websockets."""
        while self._connections:
            await asyncio.sleep(_WATCH_EVERY_S)
            for connection in tuple(self._connections):
                if not self._access.is_current(connection.caller):
                    connection.let_go("the token was revoked or has expired")

    async def _authenticate(
        self, request: web.Request, socket: web.WebSocketResponse
    ) -> Token | None:
        wire = _wire(request)
        versions = {"version": __version__, "ha_version": messages.SPEAKS_AS}
        await _say(wire, {"type": "auth_required", **versions})
        try:
            message = await socket.receive(timeout=_AUTH_TIMEOUT_S)
            if message.type in _LEFT:
                raise ClientGone("before it had said who it is")
            secret = messages.AUTH(parse_json(_raw(message.data), "auth"))["access_token"]
        except (TimeoutError, RequestError, vol.Invalid):
            secret = None
        try:
            token = await self._access.identify(request, secret)
        except StoreError as error:
            _LOGGER.debug("A websocket can't be let in for now: %s", error)
            await socket.close(code=_TRY_AGAIN_LATER, message=b"the store does not answer")
            return None
        if token is None:
            await self._access.failed(request)
            problem = (
                'the first message is {"type": "auth", "access_token": …}, within 10 seconds'
                if secret is None
                else "a valid token is needed"
            )
            await _say(wire, {"type": "auth_invalid", "message": problem})
            await socket.close()
            return None
        await _say(wire, {"type": "auth_ok", **versions})
        return token


async def _say(wire: Connection, content: dict[str, str]) -> None:
    await wire.send(text_frame(json.dumps(content).encode()))


def _wire(request: web.Request) -> Connection:
    assert isinstance(request.protocol, Connection)
    return request.protocol


def _without_context(request: web.Request) -> web.Request:
    """Return the request as if its client had asked us to compress each message by itself.

    A server may do so unasked (RFC 7692, 7.1.1.1), but aiohttp does only what it was asked.
    """
    offers = request.headers.get(hdrs.SEC_WEBSOCKET_EXTENSIONS)
    if offers is None or _DEFLATE not in offers:
        return request
    headers = request.headers.copy()
    headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = offers.replace(
        _DEFLATE, f"{_DEFLATE}; server_no_context_takeover"
    )
    return request.clone(headers=headers)


def _raw(data: object) -> bytes:
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else b""
