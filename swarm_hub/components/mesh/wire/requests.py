"""Questions to peers that wait for an answer: a message with `ask` gets a `reply` with it."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final, Protocol

from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.exceptions import MeshError

ASK: Final = "ask"
REPLY: Final = "reply"
REQUEST_TIMEOUT_S: Final = 10.0
_ERROR_MAX_LENGTH: Final = 500


class Asked(Protocol):
    """The session that a question goes over; its reply may come over another one."""

    @property
    def peer_id(self) -> str:
        """Who is asked."""

    def send(self, message: bytes) -> None:
        """Queue a message; raises MeshError."""


class Requests:
    """The open questions of one hub."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[tuple[str, int], asyncio.Future[Mapping[str, Any]]] = {}
        self._over: dict[tuple[str, int], Asked] = {}

    async def request(
        self, session: Asked, kind: str, fields: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Send a message and return the fields of its reply; raises MeshError."""
        peer_id, number = session.peer_id, next(self._numbers)
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[peer_id, number] = future
        self._over[peer_id, number] = session
        try:
            session.send(encode_message(kind, {**fields, ASK: number}))
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise MeshError(f"{peer_id} did not answer {kind} within {timeout_s:.0f} s") from None
        finally:
            del self._open[peer_id, number], self._over[peer_id, number]

    def session_over(self, session: Asked, reason: str) -> None:
        """Fail the questions that went over a session that has ended."""
        for question, future in self._open.items():
            if self._over[question] is session and not future.done():
                future.set_exception(MeshError(f"{session.peer_id} is gone: {reason}"))

    def reply(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Hand a reply to whoever waits for it."""
        number = fields.get(ASK)
        future = self._open.get((peer_id, number)) if isinstance(number, int) else None
        if future is None or future.done():
            # Nobody waits for it any more.
            return
        error = fields.get("error")
        if error is None:
            future.set_result(fields)
        else:
            future.set_exception(MeshError(f"{peer_id}: {str(error)[:_ERROR_MAX_LENGTH]}"))
