"""The commands of a hub on its own device, and what each part of it adds to `status`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from swarm_hub.exceptions import HubError
from swarm_hub.util.bounds import shown

# A command that takes longer than this is given up.
ANSWER_WITHIN_S: Final = 10.0

_Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Refused(HubError):
    """A request that is not done; `code` tells a program why, the text a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlCommands:
    """Which commands there are; every hub has `status`."""

    def __init__(self) -> None:
        self._handlers: dict[str, _Handler] = {"status": self._status}
        self._parts: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, handler: _Handler) -> None:
        """Have `handler` answer a command; it gets the arguments and may raise HubError."""
        if name in self._handlers:
            raise ValueError(f"the command {name} is there already")
        self._handlers[name] = handler

    def add_status(self, name: str, read: Callable[[], Any]) -> None:
        """Have `status` tell under this name what `read` returns, as plain values."""
        self._parts[name] = read

    async def run(self, request: object) -> Mapping[str, Any]:
        """Do what a request says and return the answer; raises HubError."""
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            raise Refused("bad_request", 'expected {"command": "…", "arguments": {…}}')
        name, arguments = request["command"], request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise Refused("bad_request", f"arguments: expected an object, got {shown(arguments)}")
        handler = self._handlers.get(name)
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            raise Refused(
                "unknown_command", f"this hub has no command {shown(name)}; it has {known}"
            )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await handler(arguments)
        except TimeoutError:
            raise Refused("timeout", f"{name} took more than {ANSWER_WITHIN_S:g} s") from None

    async def _status(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: read() for name, read in self._parts.items()}
