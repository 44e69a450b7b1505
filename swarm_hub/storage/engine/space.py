"""Free space on the store's disk: below a floor nothing new is taken; above it work resumes.

At the floor a preallocated reserve file is deleted. Deleting rows and checkpointing need space
too, and on a full disk they would fail like any other write. What is free below the floor is for
what was taken before; only when nearly all of it is used as well is the space spent.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOGGER = logging.getLogger(__name__)

RESERVE_BYTES: Final = 8 * 1024 * 1024
# What the log, which grows to 4 MiB, and deleting may need at the very end.
_SPENT_BELOW_BYTES: Final = RESERVE_BYTES // 2


@dataclass(frozen=True, slots=True)
class StoreSpace:
    """Bus event: the store's disk became full, or has space again (`full` is None).

    Until it is `spent` there is room for what was taken before.
    """

    full: str | None
    spent: bool = True


def too_little(free_bytes: int, min_free_bytes: int) -> str:
    """Return what is said of a disk with less free space than `storage: min_free`."""
    return (
        f"only {free_bytes // 1024} KiB are free where the store is, less than storage: "
        f"min_free ({min_free_bytes // 1024} KiB); free some space"
    )


class SpaceGuard:
    """Watches the disk below one database file."""

    def __init__(self, database: Path, min_free_bytes: int) -> None:
        self._folder = database.parent
        self._reserve = database.with_name(f"{database.name}.reserve")
        self._min_free_bytes = min_free_bytes
        self._changed: Callable[[StoreSpace], None] = lambda _change: None
        self.full: str | None = None
        self.spent = False
        self.free_bytes: int | None = None

    def bound(self, min_free_bytes: int) -> None:
        """Leave so much free from the next look on."""
        self._min_free_bytes = min_free_bytes

    def on_change(self, changed: Callable[[StoreSpace], None]) -> None:
        """Have `changed` called when the disk becomes full and when it has space again."""
        self._changed = changed

    async def look(self) -> None:
        """Compare the free space with the floor; the disk is asked in a thread.

        Changes are reported on the loop, where the listeners run.
        """
        free = self.free_bytes = await asyncio.to_thread(self._free_bytes)
        if free < self._min_free_bytes:
            given_up = self._give_up_reserve()
            left = await asyncio.to_thread(self._free_bytes) if given_up else free
            self._become_full(
                left < _SPENT_BELOW_BYTES,
                too_little(free, self._min_free_bytes),
            )
        elif not self._reserve.exists():
            # Without room for the reserve there would be no way out of the next shortage.
            room = free >= self._min_free_bytes + RESERVE_BYTES
            if room and await asyncio.to_thread(self._make_reserve):
                self._become_ready()
            elif self.full is not None:
                self._become_full(free < _SPENT_BELOW_BYTES, self.full)
        else:
            self._become_ready()

    def trip(self, error: Exception) -> None:
        """Note that the disk reported itself full, whatever the numbers say."""
        if self.full is None:
            # Which file it was is for the log; the reason is told to clients.
            _LOGGER.error("%s", error)
        self._give_up_reserve()
        self._become_full(True, "no space left on the disk; free some space")

    def _give_up_reserve(self) -> bool:
        try:
            self._reserve.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            # A disk in such a state may be read-only by now; the caller that wrote gets the error.
            _LOGGER.debug("The reserve could not be given up: %s", error)
            return False
        return True

    def _become_full(self, spent: bool, why: str) -> None:
        if self.full is None:
            self.full = why
            _LOGGER.error("Taking nothing new: %s", why)
        elif self.spent is spent:
            return
        self.spent = spent
        self._changed(StoreSpace(self.full, spent))

    def _become_ready(self) -> None:
        if self.full is not None:
            self.full = None
            self.spent = False
            _LOGGER.info("There is space on the disk again")
            self._changed(StoreSpace(None, False))

    def _make_reserve(self) -> bool:
        unfinished = self._reserve.with_name(f"{self._reserve.name}.tmp")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
            unfinished.replace(self._reserve)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            _LOGGER.debug("No reserve could be made: %s", error)
            return False
        return True

    def _free_bytes(self) -> int:
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize
