"""One websocket: its commands, each in its own time, and its subscriptions."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import voluptuous as vol
from aiohttp import WSMsgType, web

from swarm_hub.components.api.access import check_scope
from swarm_hub.components.api.adapter import problems
from swarm_hub.components.api.answering import Answering
from swarm_hub.components.api.errors import as_request_error
from swarm_hub.components.api.live import messages
from swarm_hub.components.api.live.fanout import Fanout
from swarm_hub.components.api.live.outbox import Outbox
from swarm_hub.components.api.live.stream import Stream
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.core import Hub
from swarm_hub.endpoints import REPLIED, Command, CommandCall, EventStream, Scope
from swarm_hub.exceptions import LimitReached, MalformedRequest, RequestError
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.bounds import INT64_MAX, INT64_MIN, is_int, shown
from swarm_hub.util.strict_json import parse_json

_LOGGER = logging.getLogger(__name__)

SUBSCRIPTIONS_MAX: Final = 128
_RUNNING_MAX: Final = 32
_CATCHING_UP_MAX: Final = 4
# How many subscriptions that ended by themselves a client may still end.
_OVER_MAX: Final = 1024


class LiveConnection:
    """One authenticated client; an `endpoints.Connection`."""

    def __init__(
        self,
        hub: Hub,
        socket: web.WebSocketResponse,
        outbox: Outbox,
        caller: Token,
        fanout: Fanout,
        quotas: Quotas,
        subscribe_schema: vol.Schema,
        audit: Callable[[str, str], None],
        answering: Answering,
    ) -> None:
        self._hub = hub
        self.socket = socket
        self.caller = caller
        self._outbox = outbox
        self._fanout = fanout
        self._quotas = quotas
        self._subscribe_schema = subscribe_schema
        # Called with the name of a command that changes something, and what came of it.
        self._audit = audit
        self._answering = answering
        self._last_id = 0
        self._n_running = 0
        # What ends each subscription, by the id of its command.
        self._ends: dict[int, Callable[[], None]] = {}
        self._streams: dict[int, Stream] = {}
        self._over: deque[int] = deque(maxlen=_OVER_MAX)
        # Subscriptions that read from the store at once.
        self._turns = asyncio.Semaphore(_CATCHING_UP_MAX)

    async def serve(self) -> None:
        """Take commands until the client leaves."""
        sender = self._hub.tasks.spawn(self._outbox.run(), "websocket sender")
        try:
            async for message in self.socket:
                if message.type is not WSMsgType.TEXT:
                    break
                self._receive(message.data)
        finally:
            sender.cancel()
            self._outbox.close()
            for call_id in tuple(self._ends):
                self._end(call_id)

    def let_go(self, reason: str) -> None:
        """Tell the client why and disconnect it."""
        self._outbox.let_go(reason)

    def reply(self, call_id: int, result: Any) -> None:
        """Send the result of a command."""
        self._outbox.put(messages.result(call_id, result))

    def send_event(self, call_id: int, event: Mapping[str, Any]) -> None:
        """Send an event of a subscription."""
        if self._outbox.open:
            self._outbox.put(messages.event(call_id, event))

    def subscribe(self, call_id: int, end: Callable[[], None]) -> None:
        """Have `end` called when the subscription ends; raises LimitReached if there are too many.

        Of a client that has left in the meantime it is called at once.
        """
        if not self._outbox.open:
            end()
            return
        if len(self._ends) >= SUBSCRIPTIONS_MAX:
            raise LimitReached(
                "too_many_subscriptions",
                f"a connection has at most {SUBSCRIPTIONS_MAX} subscriptions; end one "
                "(unsubscribe_events), or ask for more in one",
            )
        self._ends[call_id] = end

    def _end(self, call_id: int) -> bool:
        """End a subscription; returns whether there was one."""
        end = self._ends.pop(call_id, None)
        if end is None:
            return False
        try:
            end()
        except Exception:
            _LOGGER.exception("Ending the subscription %d of a command failed", call_id)
        return True

    def _receive(self, raw: str) -> None:
        """Take a command, or several in a list."""
        try:
            self._quotas.upload(self.caller.account, len(raw))
            content = parse_json(raw.encode(), "command")
        except RequestError as error:
            code = error.code if isinstance(error, LimitReached) else "invalid_format"
            self._fail(self._last_id, code, str(error))
            return
        if not isinstance(content, list):
            self._command(content)
        elif 1 <= len(content) <= messages.BATCH_MAX:
            for each in content:
                self._command(each)
        else:
            message = f"a list of commands has 1 to {messages.BATCH_MAX} of them"
            self._fail(self._last_id, "invalid_format", message)

    def _command(self, content: Any) -> None:
        number = content.get("id") if isinstance(content, dict) else None
        if not isinstance(number, int) or not is_int(number, INT64_MIN, INT64_MAX):
            self._fail(self._last_id, "invalid_format", "a command needs a whole number as id")
            return
        if number <= self._last_id:
            self._fail(number, "id_reuse", "ids must increase")
            return
        self._last_id = number
        fields = {name: value for name, value in content.items() if name not in ("id", "type")}
        try:
            self._answer(number, content.get("type"), fields)
        except Exception as error:
            self._refuse(number, error)

    def _answer(self, number: int, kind: Any, fields: dict[str, Any]) -> None:
        match kind:
            case "ping":
                _checked(messages.PING, fields)
                self._outbox.put(messages.pong(number, self._seen()))
            case "subscribe_events":
                self._quotas.request(self.caller.account)
                asked = messages.wanted(_checked(self._subscribe_schema, fields))
                self._follow(number, EventStream(asked.events, asked.since))
            case "unsubscribe_events":
                subscription = _checked(messages.UNSUBSCRIBE, fields)["subscription"]
                if self._end(subscription) or subscription in self._over:
                    self.reply(number, None)
                else:
                    self._fail(number, "not_found", "there is no such subscription")
            case "supported_features":
                features = _checked(messages.FEATURES, fields)["features"]
                self._outbox.coalesce = bool(features.get("coalesce_messages"))
                self.reply(number, None)
            case str(name) if (found := self._hub.endpoints.command(name)) is not None:
                self._call(number, *found, fields)
            case other:
                self._fail(number, "unknown_command", f"unknown command {shown(other)}")

    def _seen(self) -> int | None:
        """Return the durable event up to which every subscription was given what it wants."""
        return min((stream.seen for stream in self._streams.values()), default=None)

    def _call(
        self, number: int, command: Command, schema: vol.Schema, fields: dict[str, Any]
    ) -> None:
        """Have a component answer, while other commands are taken."""
        try:
            if command.scope is not None:
                check_scope(self.caller, command.scope)
            self._quotas.request(self.caller.account)
            params = _checked(schema, fields)
            if self._n_running >= _RUNNING_MAX:
                raise LimitReached(
                    "too_many_commands",
                    f"{_RUNNING_MAX} commands of this connection are not answered yet; wait for "
                    "one",
                )
        except RequestError as error:
            self._note(command, error.code)
            raise
        self._n_running += 1
        self._hub.tasks.spawn(self._run(number, command, params), f"command {command.name}")

    async def _run(self, number: int, command: Command, params: Mapping[str, Any]) -> None:
        try:
            call = CommandCall(number, params, self)
            result = await self._answering.within_reach(command.handler(call))
            if isinstance(result, EventStream):
                self._follow(number, result)
            elif result is not REPLIED:
                self.reply(number, result)
            self._note(command, "ok")
        except Exception as error:
            told = self._refuse(number, error)
            self._note(command, told.code)
        finally:
            self._n_running -= 1

    def _follow(self, number: int, asked: EventStream) -> None:
        """Begin a subscription to events."""
        account = None if self.caller.sees_all else self.caller.account
        stream = Stream(self._hub, self._fanout, self._outbox, self._turns, number, asked, account)
        self.subscribe(number, lambda: self._stop(number))
        if number in self._ends:
            self._streams[number] = stream
            stream.begin(partial(self._refuse, number), partial(self._ended, number))

    def _stop(self, number: int) -> None:
        if (stream := self._streams.pop(number, None)) is not None:
            stream.stop()

    def _ended(self, number: int) -> None:
        """Forget a subscription that has ended by itself; the client may still end it, too."""
        self._ends.pop(number, None)
        if (stream := self._streams.pop(number, None)) is not None:
            stream.leave()
        self._over.append(number)

    def _note(self, command: Command, outcome: str) -> None:
        if command.scope is not Scope.READ:
            self._audit(command.name, outcome)

    def _refuse(self, number: int, error: Exception) -> RequestError:
        """Answer a command that failed, and return why; it ends this command and nothing else."""
        told = as_request_error(error)
        if told is None:
            _LOGGER.error("Command %d failed", number, exc_info=error)
            told = RequestError("internal", "an unexpected error; see the log")
        self._outbox.put(messages.failure(number, told.code, told.message, told.errors))
        return told

    def _fail(self, number: int, code: str, message: str) -> None:
        self._outbox.put(messages.failure(number, code, message))


def _checked(schema: vol.Schema, fields: dict[str, Any]) -> Any:
    """Return a message's fields as its schema gives them."""
    try:
        return schema(fields)
    except vol.MultipleInvalid as error:
        raise MalformedRequest("invalid_format", problems(error, schema)[0]["message"]) from None
