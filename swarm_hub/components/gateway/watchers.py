"""Requests that are held until a job changes."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class JobWatchers:
    """Who waits for a job's next change."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}
        # Whether nobody waits any more, as the hub is stopping.
        self.closed = False

    def watched(self, job_id: str) -> bool:
        """Whether somebody waits for that job."""
        return job_id in self._watchers

    def job_ids(self) -> Iterable[str]:
        """Return the jobs that somebody waits for."""
        return self._watchers.keys()

    def job_changed(self, job_id: str) -> None:
        """Wake whoever waits for that job."""
        for watcher in self._watchers.pop(job_id, ()):
            watcher.set()

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more."""
        self.closed = True
        for job_id in tuple(self._watchers):
            self.job_changed(job_id)

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when the job next changes."""
        changed = asyncio.Event()
        if self.closed:
            changed.set()
        watchers = self._watchers.setdefault(job_id, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers and self._watchers.get(job_id) is watchers:
                del self._watchers[job_id]
