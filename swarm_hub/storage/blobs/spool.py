"""Large uploads on their way to becoming blobs: hashed and written as they come, never in memory.

A spool is a file beside the blobs; it becomes one by being renamed, or is deleted at the end of the
block. What a kill leaves behind is deleted once the next hub has started.
"""

import asyncio
import hashlib
import itertools
import mmap
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.models.blob import Readable, SpooledBlob
from swarm_hub.storage.blobs.files import store_error

# Smaller pieces are gathered up to this size, so that there is one call to a thread for each.
_GATHER_BYTES: Final = 1024 * 1024


# A file that nobody owns and that could not be deleted at once is tried again when it is this old.
_LEFT_AFTER_S: Final = 3600.0


class SpoolFolder:
    """Where the spools of one store are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        # The hub that has the directory's lock is the only one that spools here, so a file with
        # another beginning is of an earlier life.
        self._life = f"{secrets.token_hex(8)}-"
        self._lock = threading.Lock()
        self._owned: set[str] = set()

    @contextmanager
    def spool(self, begun: "Begun | None" = None) -> Iterator["Spool"]:
        """Give a spool, whose file is deleted after the block unless adopted or parked; StoreError.

        With `begun` it goes on with that file, which is then this spool's.
        """
        path = self._directory / f"{self._life}{next(self._numbers)}"
        with self._lock:
            self._owned.add(path.name)
        try:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if begun is not None:
                    begun.path.replace(path)
                spool = Spool(path, begun)
            except OSError as error:
                raise store_error(path, error) from error
            try:
                yield spool
            finally:
                spool.close()
                path.unlink(missing_ok=True)
        finally:
            with self._lock:
                self._owned.discard(path.name)

    def tidy(self) -> int:
        """Delete what an earlier life left, and what is old and nobody's; returns how many files.

        One that can't be deleted is left for the next time.
        """
        removed = 0
        oldest = time.time() - _LEFT_AFTER_S
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            with self._lock:
                owned = path.name in self._owned
            with suppress(OSError):
                ours = path.name.startswith(self._life)
                if owned or (ours and path.stat().st_mtime >= oldest):
                    continue
                path.unlink()
                removed += 1
        return removed


@dataclass(frozen=True, slots=True)
class Begun:
    """A file with the beginning of a blob, and the hash of what is in it so far."""

    path: Path
    digest: "hashlib._Hash"
    size_bytes: int


class Spool:
    """A file that is written and hashed in a thread while the next bytes arrive."""

    def __init__(self, path: Path, begun: Begun | None = None) -> None:
        self._path = path
        self._file = path.open("x+b" if begun is None else "r+b", buffering=0)
        self._file.seek(0, os.SEEK_END)
        self._hash = hashlib.sha256() if begun is None else begun.digest
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._view: mmap.mmap | None = None
        self.size_bytes = 0 if begun is None else begun.size_bytes

    async def write(self, chunk: bytes) -> None:
        """Add bytes; raises StoreError when an earlier part could not be written."""
        self._gathered.append(chunk)
        self._gathered_bytes += len(chunk)
        self.size_bytes += len(chunk)
        if self._gathered_bytes >= _GATHER_BYTES:
            await self._flush()

    async def finish(self) -> SpooledBlob:
        """Write the rest; the bytes are then in the file, but not yet safe from a power loss."""
        await self._flush()
        await self._written()
        return SpooledBlob(self._path, self._hash.hexdigest(), self.size_bytes)

    async def park(self, path: Path) -> Begun:
        """Move what has come so far to a file of that name, for another spool to go on with.

        Raises StoreError when some of it could not be written.
        """
        await self._flush()
        await self._written()
        try:
            self._path.replace(path)
        except OSError as error:
            raise store_error(path, error) from error
        return Begun(path, self._hash, self.size_bytes)

    async def copy(self, data: Readable, sha: str) -> SpooledBlob:
        """Write a whole blob whose hash is known; raises StoreError."""
        try:
            await asyncio.to_thread(self._copy, data)
        except OSError as error:
            raise store_error(self._path, error) from error
        return SpooledBlob(self._path, sha, len(data))

    def _copy(self, data: Readable) -> None:
        for start in range(0, len(data), _GATHER_BYTES):
            self._write(data[start : start + _GATHER_BYTES])

    def read(self, start: int, size_bytes: int) -> bytes:
        """Return a part of the finished file, which then is in memory once; blocks."""
        return os.pread(self._file.fileno(), size_bytes, start)

    def __getitem__(self, part: slice, /) -> bytes:
        """Return a part of the finished file; blocks."""
        start, stop, _ = part.indices(self.size_bytes)
        return self.read(start, stop - start)

    def __len__(self) -> int:
        return self.size_bytes

    def mapped(self) -> mmap.mmap:
        """Map the finished, non-empty file into memory for reading parts of it."""
        with self._path.open("rb") as file:
            self._view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._view

    def close(self) -> None:
        """Close the file and its mapping."""
        self._file.close()
        if self._view is not None:
            # A thread that nobody waited for may still read from it; then it is closed when that
            # ends.
            with suppress(BufferError):
                self._view.close()

    async def _flush(self) -> None:
        await self._written()
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._append, gathered)

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await writing
        except OSError as error:
            raise store_error(self._path, error) from error

    def _append(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._hash.update(chunk)
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
