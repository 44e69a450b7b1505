"""Backups that a running hub makes by itself, and the removal of its oldest ones."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import BackupError
from swarm_hub.storage.backup.archive import Progress, opened
from swarm_hub.storage.backup.backup import Backup, Source, backups, make_backup, new_file
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 60.0


class BackupSchedule:
    """Saves a hub whenever `every_s` has passed since its newest backup, also across restarts."""

    def __init__(
        self, source: Source, directory: Path, every_s: float, keep: int, clock: Clock
    ) -> None:
        self._source = source
        self._directory = directory
        self._every_s = every_s
        self._keep = keep
        self._clock = clock
        self._failing = False
        # What went wrong at the last try.
        self.problem: str | None = None

    @property
    def look_every_s(self) -> float:
        """How often `look` should be called."""
        return min(self._every_s, LOOK_EVERY_S)

    async def look(self) -> None:
        """Make a backup if one is due; a failure is logged once and tried again at each call."""
        stopped = threading.Event()
        try:
            made = await asyncio.to_thread(self._look, stopped)
        except asyncio.CancelledError:
            # The thread ends at its next step instead of holding up the hub's stop.
            stopped.set()
            raise
        except (BackupError, OSError) as error:
            if not self._failing:
                _LOGGER.error("A backup failed; it is tried again: %s", error)
            self._failing, self.problem = True, str(error)
            return
        if made is not None:
            self._log(made)
            said = "; ".join(made.problems[:5])
            self.problem = f"{made.path} lacks files: {said}" if made.problems else None

    def _look(self, stopped: threading.Event) -> Backup | None:
        now = self._clock.time()
        there = backups(self._directory, self._source.hub)
        # A backup from the future was made before the clock was set back; its date says nothing.
        past = [each.time_s for each in there if each.time_s <= now]
        if past and now - past[0] < self._every_s:
            return None
        target = new_file(self._directory, self._source.hub, now, scheduled=True)
        made = make_backup(self._source, target, now, _stop_when(stopped))
        self._remove_old()
        return made

    def _remove_old(self) -> None:
        ours = [each.path for each in backups(self._directory, self._source.hub) if each.scheduled]
        kept, old = ours[: self._keep], ours[self._keep :]
        # If newer ones lack files, the newest complete one may hold the only copy of them.
        whole = next((each for each in (*kept, *old) if _is_whole(each)), None)
        for path in old:
            if path != whole:
                path.unlink(missing_ok=True)

    def _log(self, made: Backup) -> None:
        if not made.problems:
            _LOGGER.info("Saved the hub to %s (%d bytes)", made.path, made.size_bytes)
        elif not self._failing:
            _LOGGER.error("The backup %s lacks files: %s", made.path, "; ".join(made.problems[:5]))
        self._failing = bool(made.problems)


def _is_whole(path: Path) -> bool:
    try:
        with opened(path) as archive:
            return not archive.manifest.missing
    except BackupError:
        return False


def _stop_when(stopped: threading.Event) -> Progress:
    """Return a progress callback that ends the backup once `stopped` is set."""

    def check(_what: str, _done: int, _total: int) -> None:
        if stopped.is_set():
            raise BackupError("the hub stops")

    return check
