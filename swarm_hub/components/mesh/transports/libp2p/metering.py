"""Streams of libp2p that are read no faster than their peers may send."""

from collections.abc import Callable
from typing import Any, Final

import trio

from swarm_hub.components.mesh.wire.metering import (
    CAREFUL_BYTES,
    Allowance,
    FloodError,
    Meter,
    MeterTable,
)

# A peer that floods gets this long to read why it is disconnected.
_GOODBYE_S: Final = 1.0


class Meters:
    """A meter for all streams of each peer."""

    def __init__(self, allowance: Allowance, flooded: Callable[[str, str], None]) -> None:
        self._meters = MeterTable(allowance)
        self._flooded = flooded

    def metered(self, stream: Any, peer_id: str, count: Callable[[bytes], int]) -> Any:
        """Return the stream with its reads slowed; `count` tells how many messages they bring."""
        meter = self._meters.of(peer_id, trio.current_time())
        return MeteredStream(stream, peer_id, meter, count, self._flooded)


class MeteredStream:
    """A libp2p stream that is read no faster than its peer may send."""

    def __init__(
        self,
        stream: Any,
        peer_id: str,
        meter: Meter,
        count: Callable[[bytes], int],
        flooded: Callable[[str, str], None],
    ) -> None:
        self._stream = stream
        self._peer_id = peer_id
        self._meter = meter
        self._count = count
        self._flooded = flooded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, n: int | None = None) -> bytes:
        """Read up to n bytes once the peer may send again."""
        meter = self._meter
        try:
            wait_s = meter.wait_s(trio.current_time())
        except FloodError as error:
            self._flooded(self._peer_id, str(error))
            await trio.sleep(_GOODBYE_S)
            raise
        if wait_s > 0:
            await trio.sleep(wait_s)
        if not meter.is_ample(trio.current_time()):
            n = CAREFUL_BYTES if n is None else min(n, CAREFUL_BYTES)
        received: bytes = await self._stream.read(n)
        meter.charge(self._count(received), len(received), trio.current_time())
        return received
