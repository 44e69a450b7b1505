"""How much of a day's data the mesh has used; it outlives the hub, and ends at midnight."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from swarm_hub.const import DAILY_DATA_FILE
from swarm_hub.core import Hub
from swarm_hub.exceptions import MalformedRequest
from swarm_hub.util.bounds import SIZE_MAX_BYTES, is_int
from swarm_hub.util.files import write_atomic
from swarm_hub.util.strict_json import dump_json, parse_json

_LOGGER = logging.getLogger(__name__)

# What a hub that is killed may forget, as a part of the limit.
_KEPT_EVERY: Final = 0.01


class DailyData:
    """Counts the bytes of the mesh by days of this device, of which `limit_bytes` may be used.

    Without a limit nothing is counted.
    """

    def __init__(self, hub: Hub, moved_bytes: Callable[[], int], limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        self._hub = hub
        self._path = hub.storage_path(DAILY_DATA_FILE)
        self._moved_bytes = moved_bytes
        self._seen_bytes = moved_bytes()
        self._day = ""
        self._used_bytes = 0
        self._kept_bytes = 0

    def bound(self, limit_bytes: int | None) -> None:
        """Allow so many; without a limit before, what was moved until now does not count."""
        if self.limit_bytes is None:
            self._seen_bytes = self._moved_bytes()
        self.limit_bytes = limit_bytes

    async def load(self) -> None:
        """Go on with what was used today before this start."""
        try:
            raw = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        try:
            self._day, self._used_bytes = _read(raw)
        except MalformedRequest as error:
            _LOGGER.warning("%s: %s; today's data is counted from 0", self._path, error)
        self._kept_bytes = self._used_bytes

    async def used_bytes(self) -> int:
        """Return what was used today, and write it down once it is much more than at last."""
        moved, today = self._moved_bytes(), _day(self._hub.clock.time())
        if today != self._day:
            self._day, self._used_bytes, self._kept_bytes = today, 0, 0
        self._used_bytes += moved - self._seen_bytes
        self._seen_bytes = moved
        limit_bytes = self.limit_bytes or 0
        if self._used_bytes - self._kept_bytes > limit_bytes * _KEPT_EVERY:
            await self.keep()
        return self._used_bytes

    def status(self) -> dict[str, int] | None:
        """Return what was used of the limit, for `status`; None if there is none."""
        if self.limit_bytes is None:
            return None
        return {"used_bytes": self._used_bytes, "limit_bytes": self.limit_bytes}

    async def keep(self) -> None:
        """Write down what was used."""
        self._kept_bytes = self._used_bytes
        content = dump_json({"day": self._day, "used_bytes": self._used_bytes})
        try:
            await asyncio.to_thread(write_atomic, self._path, content, durable=False)
        except OSError as error:
            _LOGGER.warning("%s can't be written: %s", self._path, error.strerror)


def _day(now_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(now_s))


def _read(raw: bytes) -> tuple[str, int]:
    content = parse_json(raw, "the day's data")
    match content:
        case {"day": str(day), "used_bytes": used} if is_int(used, 0, SIZE_MAX_BYTES):
            return day, used
    raise MalformedRequest("invalid_json", "the day's data has no day or no number of bytes")
