"""The live view: Home Assistant's websocket protocol, with `since` for durable events.

Server `auth_required`; client `{"type": "auth", "access_token"}`; then commands with ids that
strictly increase: `subscribe_events {since?}`, `unsubscribe_events`, `ping`,
`supported_features`, and the commands that components registered.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import voluptuous as vol
from aiohttp import WSMsgType, web

from swarm_hub.components.api.access import Access, check_scope
from swarm_hub.components.api.adapter import problems
from swarm_hub.components.api.errors import ClientGone, as_request_error
from swarm_hub.core import Hub
from swarm_hub.endpoints import REPLIED, Command, CommandCall
from swarm_hub.exceptions import RequestError
from swarm_hub.helpers.tokens import Token
from swarm_hub.models.event import DurableEvent, EphemeralEvent
from swarm_hub.storage.queries import events
from swarm_hub.util.bounds import INT64_MAX, INT64_MIN, is_int, shown
from swarm_hub.util.strict_json import parse_json

_LOGGER = logging.getLogger(__name__)

_AUTH_TIMEOUT_S: Final = 10.0
_CLOSE_TIMEOUT_S: Final = 1.0
_WATCH_EVERY_S: Final = 0.5
_PENDING_MAX: Final = 4096
_SHARED_MAX: Final = 500
_OWNED_MAX: Final = 16_384
_MESSAGE_MAX_BYTES: Final = 64 * 1024
_LEFT: Final = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
_REPLAY_PAGE: Final = 1000


class LiveClients:
    """Every websocket; an event is serialised once for all of them."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access
        self._clients: set[_Client] = set()
        self._watching: asyncio.Task[None] | None = None
        # Events for clients who see only their own jobs.
        self._owned: deque[tuple[int | None, str | None, str]] = deque()
        self._sharing: asyncio.Task[None] | None = None
        hub.bus.listen(DurableEvent, self._on_durable)
        hub.bus.listen(EphemeralEvent, self._on_ephemeral)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes; raises Forbidden for one from a foreign page."""
        self._access.check_source(request)
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT_S, heartbeat=30, max_msg_size=_MESSAGE_MAX_BYTES
        )
        try:
            await socket.prepare(request)
            token = await self._authenticate(request, socket)
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
        if token is not None:
            client = _Client(self._hub, socket, token)
            self._clients.add(client)
            if self._watching is None or self._watching.done():
                self._watching = self._hub.tasks.supervise(self._watch_tokens, "websocket tokens")
            try:
                await client.serve()
            finally:
                self._clients.discard(client)
        return socket

    async def close(self) -> None:
        """Say why and close every websocket."""
        await asyncio.gather(
            *(
                client.socket.close(code=1001, message=b"the hub is stopping")
                for client in self._clients
            )
        )

    def _let_go_of_owners(self) -> None:
        """Disconnect who would miss events without a gap in `seq` to tell it; they can resume."""
        self._owned.clear()
        for client in self._clients:
            if not client.caller.sees_all:
                client.let_go()

    async def _watch_tokens(self) -> None:
        """Close the websockets of tokens that are revoked or expire, while there are websockets."""
        while self._clients:
            await asyncio.sleep(_WATCH_EVERY_S)
            for client in tuple(self._clients):
                if not self._access.is_current(client.caller):
                    message = b"the token was revoked or has expired"
                    await client.socket.close(code=1008, message=message)

    async def _authenticate(
        self, request: web.Request, socket: web.WebSocketResponse
    ) -> Token | None:
        await socket.send_json({"type": "auth_required"})
        try:
            message = await socket.receive(timeout=_AUTH_TIMEOUT_S)
            if message.type in _LEFT:
                raise ClientGone("before it had said who it is")
            content = parse_json(_raw(message.data), "auth")
        except (TimeoutError, RequestError):
            content = None
        secret = content.get("access_token") if isinstance(content, dict) else None
        token = self._access.find(secret) if isinstance(secret, str) else None
        if token is None:
            await self._access.failed(request)
            await socket.send_json({"type": "auth_invalid", "message": "a valid token is needed"})
            await socket.close()
            return None
        await socket.send_json({"type": "auth_ok"})
        return token

    def _on_durable(self, event: DurableEvent) -> None:
        if self._clients:
            text = json.dumps(event.shape(), separators=(",", ":"))
            self._offer(event.seq, event.job_id, text)

    def _on_ephemeral(self, event: EphemeralEvent) -> None:
        if self._clients:
            content = event.shape(self._hub.clock.time())
            text = json.dumps(content, separators=(",", ":"))
            self._offer(None, event.data.get("job_id"), text)

    def _offer(self, seq: int | None, job_id: str | None, text: str) -> None:
        """Offer an event to all; those who may not see every job's get it when its owner is known.

        Whatever comes for these waits in one queue, so that the order stays.
        """
        if any(not client.caller.sees_all for client in self._clients):
            if len(self._owned) >= _OWNED_MAX:
                self._let_go_of_owners()
            self._owned.append((seq, job_id, text))
            if self._sharing is None or self._sharing.done():
                self._sharing = self._hub.tasks.spawn(self._share(), "events for owners")
        for client in tuple(self._clients):
            if client.caller.sees_all:
                client.offer(seq, text)

    async def _share(self) -> None:
        while self._owned:
            batch = [self._owned.popleft() for _ in range(min(len(self._owned), _SHARED_MAX))]
            job_ids = {job_id for _, job_id, _ in batch if job_id is not None}
            try:
                owners = await self._hub.endpoints.owners(sorted(job_ids)) if job_ids else {}
            except Exception as error:
                _LOGGER.warning("Can't tell whose jobs %d events are of: %s", len(batch), error)
                self._let_go_of_owners()
                return
            for seq, job_id, text in batch:
                for client in tuple(self._clients):
                    if not client.caller.sees_all and client.may_see(job_id, owners):
                        client.offer(seq, text)


def _raw(data: object) -> bytes:
    return data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else b""


class _Client:
    """One websocket with its subscriptions and what waits to be sent; an `endpoints.Connection`."""

    def __init__(self, hub: Hub, socket: web.WebSocketResponse, caller: Token) -> None:
        self._hub = hub
        self.socket = socket
        self.caller = caller
        self._last_id = 0
        # Subscription id -> the last durable event it was sent; None while it is catching up.
        self._subscriptions: dict[int, int | None] = {}
        # The subscriptions of components' commands, each with what ends it.
        self._ends: dict[int, Callable[[], None]] = {}
        self._pending: deque[str] = deque()
        self._wake = asyncio.Event()
        self._sent_all = asyncio.Event()
        self._coalesce = False
        self._too_slow = False

    async def serve(self) -> None:
        """Answer commands while events are being sent."""
        sender = self._hub.tasks.spawn(self._send_loop(), "websocket sender")
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    await self._command(message.data)
                else:
                    break
        finally:
            sender.cancel()
            for call_id in tuple(self._ends):
                self._end(call_id)

    def reply(self, call_id: int, result: Any) -> None:
        """Send the result of a command."""
        self._succeed(call_id, result)

    def send_event(self, call_id: int, event: Mapping[str, Any]) -> None:
        """Send an event of a subscription."""
        if not self.socket.closed:
            self._queue_event(call_id, json.dumps(event, separators=(",", ":")))

    def subscribe(self, call_id: int, end: Callable[[], None]) -> None:
        """Have `end` called when the subscription ends."""
        self._ends[call_id] = end

    def _end(self, call_id: int) -> bool:
        """End a subscription of a component's command; returns whether there was one."""
        end = self._ends.pop(call_id, None)
        if end is None:
            return False
        try:
            end()
        except Exception:
            _LOGGER.exception("Ending the subscription %d of a command failed", call_id)
        return True

    def may_see(self, job_id: str | None, owners: Mapping[str, str]) -> bool:
        """Whether its owner may see an event of that job."""
        if job_id is None or self.caller.sees_all:
            return True
        return owners.get(job_id) == self.caller.account

    def offer(self, seq: int | None, text: str) -> None:
        """Queue an event for each subscription."""
        for subscription, sent in self._subscriptions.items():
            if sent is None or (seq is not None and seq <= sent):
                continue
            if seq is not None:
                self._subscriptions[subscription] = seq
            self._queue_event(subscription, text)

    def _queue_event(self, subscription: int, text: str) -> None:
        self._queue(f'{{"id":{subscription},"type":"event","event":{text}}}')

    def let_go(self) -> None:
        """Disconnect the client, who can resume after the last event that it was sent."""
        self._too_slow = True
        self._wake.set()

    def _queue(self, text: str) -> None:
        if len(self._pending) >= _PENDING_MAX:
            self.let_go()
            return
        self._pending.append(text)
        self._sent_all.clear()
        self._wake.set()

    async def _send_loop(self) -> None:
        try:
            await self._send_pending()
        except ConnectionError as error:
            # What reads from it ends by itself.
            _LOGGER.debug("A websocket's client left: %s", error)
        finally:
            # A replay that waits for its reader must not wait for one that has disconnected.
            self._sent_all.set()

    async def _send_pending(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._too_slow:
                reason = f"more than {_PENDING_MAX} messages are waiting; read faster, or resume"
                await self.socket.close(code=1008, message=reason.encode())
                return
            while self._pending:
                if self._coalesce and len(self._pending) > 1:
                    batch = ",".join(self._pending)
                    self._pending.clear()
                    await self.socket.send_str(f"[{batch}]")
                else:
                    await self.socket.send_str(self._pending.popleft())
            self._sent_all.set()

    async def _command(self, raw: str) -> None:
        try:
            content = parse_json(raw.encode(), "command")
        except RequestError as error:
            self._fail(self._last_id, "invalid_format", str(error))
            return
        number = content.get("id") if isinstance(content, dict) else None
        if not isinstance(number, int) or not is_int(number, INT64_MIN, INT64_MAX):
            self._fail(self._last_id, "invalid_format", "a command needs a whole number as id")
            return
        if number <= self._last_id:
            self._fail(number, "id_reuse", "ids must increase")
            return
        self._last_id = number
        match content.get("type"):
            case "ping":
                self._queue(json.dumps({"id": number, "type": "pong"}))
            case "subscribe_events":
                await self._subscribe(number, content.get("since"))
            case "unsubscribe_events":
                subscription = content.get("subscription")
                if type(subscription) is int and (
                    self._subscriptions.pop(subscription, "none") != "none"
                    or self._end(subscription)
                ):
                    self._succeed(number)
                else:
                    self._fail(number, "not_found", "there is no such subscription")
            case "supported_features":
                features = content.get("features")
                self._coalesce = isinstance(features, dict) and bool(
                    features.get("coalesce_messages")
                )
                self._succeed(number)
            case str(name) if (found := self._hub.endpoints.command(name)) is not None:
                await self._call(number, *found, content)
            case other:
                self._fail(number, "unknown_command", f"unknown command {shown(other)}")

    async def _call(
        self, number: int, command: Command, schema: vol.Schema, content: dict[str, Any]
    ) -> None:
        """Have a component answer; an error ends this command and nothing else."""
        given = {name: value for name, value in content.items() if name not in ("id", "type")}
        try:
            if command.scope is not None:
                check_scope(self.caller, command.scope)
            params = schema(given)
            result = await command.handler(CommandCall(number, params, self))
        except vol.MultipleInvalid as error:
            self._fail(number, "invalid_format", problems(error, schema)[0]["message"])
        except Exception as error:
            told = as_request_error(error)
            if told is None:
                _LOGGER.exception("Command %s failed", command.name)
                told = RequestError("internal", "an unexpected error; see the log")
            self._fail(number, told.code, told.message)
        else:
            if result is not REPLIED:
                self._succeed(number, result)

    async def _subscribe(self, number: int, since: Any) -> None:
        if since is not None and not is_int(since, 0, INT64_MAX):
            self._fail(number, "invalid_format", "since: expected the seq of an event")
            return
        # A client may have been connected to another gateway of the store, which knew later events.
        await self._hub.store.catch_up()
        newest = self._hub.store.last_seq
        if since is None:
            self._succeed(number, {"last_seq": newest})
            self._subscriptions[number] = newest
            return
        # Entered as catching up at once, so that nothing committed from here on is missed.
        self._subscriptions[number] = None
        lost = since < await self._hub.store.read(events.complete_after) or since > newest
        self._succeed(number, {"last_seq": newest, "events_lost": lost})
        sent = 0 if since > newest else since
        while True:
            page = await self._hub.store.read(events.since, sent, _REPLAY_PAGE)
            owners: Mapping[str, str] = {}
            if not self.caller.sees_all:
                job_ids = {event.job_id for event in page if event.job_id is not None}
                owners = await self._hub.endpoints.owners(sorted(job_ids))
            for event in page:
                if self.may_see(event.job_id, owners):
                    text = json.dumps(event.shape(), separators=(",", ":"))
                    self._queue_event(number, text)
                sent = event.seq
            # Between this check and the end of the method nothing else runs. The newest event
            # is never pruned, so a page that came too early is followed by one that has it.
            if sent >= self._hub.store.last_seq or self.socket.closed:
                break
            if page:
                await self._sent_all.wait()
        if number in self._subscriptions:
            self._subscriptions[number] = sent

    def _succeed(self, number: int, result: Any = None) -> None:
        self._queue(json.dumps({"id": number, "type": "result", "success": True, "result": result}))

    def _fail(self, number: int, code: str, message: str) -> None:
        self._queue(
            json.dumps(
                {
                    "id": number,
                    "type": "result",
                    "success": False,
                    "error": {"code": code, "message": message},
                }
            )
        )
