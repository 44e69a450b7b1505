"""Large blobs as files named by their SHA-256.

A file is written to a temporary name, fsynced and renamed, and its directory fsynced, before the
row that names it commits; so a crash leaves at most an orphan, which the sweep removes.
"""

import errno
import hashlib
import mmap
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import StoreError, StoreFullError, StoreUnavailableError
from swarm_hub.storage.backup.lock import files_removable
from swarm_hub.util.files import keep_private, sync_directory, sync_file, write_atomic

# A file put this recently is not deleted, whatever the rows say.
_TOUCHED_FOR_S: Final = 120.0


@contextmanager
def map_file(path: Path) -> Iterator[mmap.mmap]:
    """Map a non-empty file into memory for reading parts of it."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        yield view


def store_error(path: Path, error: OSError) -> StoreError:
    """Return the StoreError that a disk error means to a caller that stores something."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(f"{path}: no space left on the disk")
    return StoreUnavailableError(f"{path}: {error.strerror}")


class BlobFiles:
    """A directory of blobs; every call works in the caller's thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._named: set[Path] = set()

    def open(self) -> None:
        """Close the directory to others, which an earlier version left open."""
        keep_private(self._directory)

    def path(self, sha: str) -> Path:
        """Return the path of a blob's file."""
        return self._directory / sha[:2] / sha

    def put(self, sha: str, data: bytes, *, durable: bool) -> None:
        """Bring a blob to disk, unless it is there already."""
        path = self.path(sha)
        with self._lock:
            self._touched[sha] = time.monotonic()
            known = path.is_file() and path.stat().st_size == len(data)
        if not known:
            write_atomic(path, data, durable=durable)
        if durable:
            self._sync(path, written=not known)

    def adopt(self, sha: str, path: Path, *, durable: bool) -> None:
        """Make a file with the bytes of a blob the blob's file, unless there already is one."""
        target = self.path(sha)
        with self._lock:
            self._touched[sha] = time.monotonic()
            known = target.is_file() and target.stat().st_size == path.stat().st_size
        if not known:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if durable:
                sync_file(path)
            path.replace(target)
            if durable:
                sync_directory(target.parent)
        if durable:
            self._sync(target, written=not known)

    def replace(self, sha: str, path: Path) -> None:
        """Make a file the blob's file, replacing any earlier one, as a cache that may be lost."""
        target = self.path(sha)
        with self._lock:
            self._touched[sha] = time.monotonic()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.replace(target)

    def get(self, sha: str) -> bytes | None:
        """Return the bytes of a file, unverified; None if there is none."""
        try:
            return self.path(sha).read_bytes()
        except FileNotFoundError:
            return None

    def is_right(self, sha: str) -> bool:
        """Whether the file exists and its bytes match the hash in its name."""
        if self._fresh(sha):
            return self.path(sha).is_file()
        try:
            with self.path(sha).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha
        except FileNotFoundError:
            return False

    def mapped(self, sha: str) -> AbstractContextManager[mmap.mmap]:
        """Map a blob's file, which must not be empty, for reading parts of it."""
        return map_file(self.path(sha))

    def remove(self, shas: Iterable[str]) -> int:
        """Delete files, but not those just put, whose rows may still commit; returns how many.

        While a backup runs all stay, as orphans for a later sweep.
        """
        with files_removable(self._directory.parent) as removable:
            return sum(self._remove(self.path(sha)) for sha in shas) if removable else 0

    def beginnings(self) -> list[str]:
        """Return the names of the directories of files: the first two digits of their hashes."""
        return sorted(path.name for path in self._directory.glob("[0-9a-f][0-9a-f]"))

    def sweep(self, prefix: str, known: set[str], grace_s: float) -> int:
        """Delete files of a directory without a row, older than `grace_s`; returns how many.

        While a backup runs nothing is deleted.
        """
        removed = 0
        oldest = time.time() - grace_s
        with files_removable(self._directory.parent) as removable:
            for path in self._directory.glob(f"{prefix}/*") if removable else ():
                if path.name not in known and path.stat().st_mtime < oldest:
                    removed += self._remove(path)
        return removed

    def _sync(self, path: Path, *, written: bool) -> None:
        """Make an existing file survive a power loss, and the names of its directories.

        Its writer may not have synced it: a cache never does, another thread may be about to, and a
        process may have been killed before it could.
        """
        if not written:
            sync_file(path)
            sync_directory(path.parent)
        if path.parent not in self._named:
            sync_directory(self._directory)
            sync_directory(self._directory.parent)
            self._named.add(path.parent)

    def _fresh(self, sha: str) -> bool:
        """Whether this process put the blob a moment ago."""
        with self._lock:
            put_at = self._touched.get(sha)
        return put_at is not None and time.monotonic() - put_at < _TOUCHED_FOR_S

    def _remove(self, path: Path) -> bool:
        with self._lock:
            put_at = self._touched.get(path.name)
            if put_at is not None and time.monotonic() - put_at < _TOUCHED_FOR_S:
                return False
            self._touched.pop(path.name, None)
            path.unlink(missing_ok=True)
            return True
