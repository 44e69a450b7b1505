"""Commands: what a client may ask over the websocket, besides the protocol's own messages."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from swarm_hub.endpoints.request import Caller, Scope

# Returned by a handler that has already replied.
REPLIED: Final = object()


class Connection(Protocol):
    """One websocket, as a command's handler sees it."""

    @property
    def caller(self) -> Caller:
        """Who is connected."""

    def reply(self, call_id: int, result: Any) -> None:
        """Send the result at once, before the handler has returned."""

    def send_event(self, call_id: int, event: Mapping[str, Any]) -> None:
        """Send an event of a subscription; a client that reads too slowly is disconnected."""

    def subscribe(self, call_id: int, end: Callable[[], None]) -> None:
        """Have `end` called at `unsubscribe_events` for this call, or when the client closes."""


@dataclass(frozen=True, slots=True)
class CommandCall:
    """One command that came in: its id, its checked parameters and where it came from."""

    id: int
    params: Mapping[str, Any]
    connection: Connection


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `Endpoints.add_command` refuses one that lacks scope or schema.

    `name` is the message's `type`, such as `nodes/list`. `handler` returns the result, an
    `EventStream` that begins a subscription, or `REPLIED` if it replied itself; a `RequestError`
    becomes the command's error. It may take its time, others of the same connection go on.
    `params` holds voluptuous fields; an unknown one is refused. `result` is the TypedDict of the
    result, or `type(None)`.
    """

    name: str
    handler: Callable[[CommandCall], Awaitable[Any]]
    scope: Scope | None = None
    params: Mapping[Any, Any] | None = None
    result: type | None = None
