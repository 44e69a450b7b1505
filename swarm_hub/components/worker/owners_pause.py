"""The owner's word that the device is not to work for now; it outlives the hub."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from swarm_hub.components.worker.drain import Drain
from swarm_hub.const import PAUSE_FILE
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, MalformedRequest
from swarm_hub.util.bounds import is_number, shown
from swarm_hub.util.files import write_atomic
from swarm_hub.util.local_time import clock_text
from swarm_hub.util.strict_json import dump_json, parse_json
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

LONGEST_S: Final = 365 * 86_400.0
# A phone that slept is asked within this time whether its pause is over.
_LOOK_EVERY_S: Final = 2.0
_TIMES_S: Final = (0.0, 1e11)


class OwnersPause:
    """Pauses and resumes this worker; `until` is when it resumes by itself, None for never."""

    def __init__(self, hub: Hub, drain: Drain) -> None:
        self._hub = hub
        self._drain = drain
        self._path = hub.storage_path(PAUSE_FILE)
        # One command after the other, so that what is on disk is what is in force.
        self._lock = asyncio.Lock()
        # Set when another pause, or none, is in force.
        self._over = asyncio.Event()
        self.is_paused = False
        self.until: float | None = None

    async def load(self) -> None:
        """Take up a pause that the last life left, unless it is over."""
        try:
            raw = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        try:
            until = _read(raw)
        except HubError as error:
            # Who wants to be left alone is, until they say otherwise.
            _LOGGER.warning("%s: %s; paused until `swarm-hub resume`", self._path, error)
            until = None
        if until is not None and until <= self._hub.clock.time():
            await asyncio.to_thread(self._path.unlink, missing_ok=True)
            return
        self._begin(until)

    async def pause(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the command `pause`: for so many seconds (`for_s`), or until `resume`."""
        for_s = arguments.get("for_s")
        if for_s is not None and not (is_number(for_s, 0, LONGEST_S) and for_s > 0):
            raise HubError(f"for_s: expected seconds above 0 and at most 365 d, got {shown(for_s)}")
        async with self._lock:
            until = None if for_s is None else self._hub.clock.time() + for_s
            # Even if the disk is full.
            self._begin(until)
            try:
                await asyncio.to_thread(write_atomic, self._path, dump_json({"until": until}))
            except OSError as error:
                raise HubError(
                    f"paused, but not beyond a restart: {self._path} can't be written "
                    f"({error.strerror})"
                ) from error
        return {"until": until, "reason": self._reason(until)}

    async def resume(self, _arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do the command `resume`."""
        async with self._lock:
            was_paused = self.is_paused
            await self._end()
        return {"was_paused": was_paused, "refuses": self._drain.refuses}

    def status(self) -> dict[str, Any] | None:
        """Return the pause for `status`; None without one."""
        return {"until": self.until} if self.is_paused else None

    def _begin(self, until: float | None) -> None:
        self._change(until, is_paused=True)
        self._drain.pause("owner", self._reason(until))
        if until is not None:
            self._hub.tasks.spawn(self._run_out(until), "owner's pause")

    async def _end(self) -> None:
        await asyncio.to_thread(self._path.unlink, missing_ok=True)
        self._change(None, is_paused=False)
        self._drain.resume("owner")

    def _change(self, until: float | None, *, is_paused: bool) -> None:
        self.is_paused, self.until = is_paused, until
        self._over.set()
        self._over = asyncio.Event()

    async def _run_out(self, until: float) -> None:
        over = self._over
        while (left_s := until - self._hub.clock.time()) > 0:
            # Not in one go: what sleeps does not count the time that the device slept.
            if await within(min(left_s, _LOOK_EVERY_S), over.wait()):
                return
        async with self._lock:
            if not over.is_set():
                await self._end()

    def _reason(self, until: float | None) -> str:
        end = "" if until is None else f" until {clock_text(until, self._hub.clock.time())}"
        return f"paused by the owner{end}"


def _read(raw: bytes) -> float | None:
    content = parse_json(raw, "the pause")
    until = content.get("until") if isinstance(content, dict) else ""
    if until is None:
        return None
    if not is_number(until, *_TIMES_S):
        raise MalformedRequest("invalid_json", "the pause has no time")
    return float(until)
