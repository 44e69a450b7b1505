"""Questions to peers that wait for an answer: a message with `ask` gets a `reply` with it."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.exceptions import MeshError

ASK: Final = "ask"
REPLY: Final = "reply"
REQUEST_TIMEOUT_S: Final = 10.0
_ERROR_MAX_LENGTH: Final = 500


class Requests:
    """The open questions of one transport."""

    def __init__(self, send: Callable[[str, bytes], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[tuple[str, int], asyncio.Future[Mapping[str, Any]]] = {}

    async def request(
        self, peer_id: str, kind: str, fields: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Send a message and return the fields of its reply; raises MeshError."""
        number = next(self._numbers)
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[peer_id, number] = future
        try:
            self._send(peer_id, encode_message(kind, {**fields, ASK: number}))
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise MeshError(f"{peer_id} did not answer {kind} within {timeout_s:.0f} s") from None
        finally:
            del self._open[peer_id, number]

    def peer_down(self, peer_id: str, reason: str) -> None:
        """Fail the questions to a peer that is gone."""
        for (asked, _), future in self._open.items():
            if asked == peer_id and not future.done():
                future.set_exception(MeshError(f"{peer_id} is gone: {reason}"))

    def reply(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Hand a reply to who waits for it."""
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
