"""Uploads that were interrupted: what has come so far, kept for a while so that it can go on.

A file is named by its owner and the hash that the whole will have. It is not synced: should a power
cut spoil it, the hash at the end tells.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.storage.blobs.files import store_error
from swarm_hub.storage.blobs.spool import Begun, Spool, SpoolFolder
from swarm_hub.util.hashing import sha256_hex

# A phone that lost its network in the evening may go on the next day.
_KEPT_S: Final = 86_400.0
_OWNER_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class ParkedUpload:
    """An interrupted upload: how much of it is here, and when its last byte came."""

    sha: str
    size_bytes: int
    written_at: float


class ParkedUploads:
    """The interrupted uploads of one store, whose files are on this device alone."""

    def __init__(self, directory: Path, spools: SpoolFolder) -> None:
        self._directory = directory
        self._spools = spools
        # By the names of files: what need not be hashed again.
        self._begun: dict[str, Begun] = {}

    async def of_owner(self, owner: str) -> list[ParkedUpload]:
        """Return an owner's uploads, the one that was interrupted first at the front."""
        return await asyncio.to_thread(self._of_owner, owner)

    async def park(self, owner: str, sha: str, spool: Spool) -> None:
        """Keep what a spool has of an upload, unless more of it is here; StoreError."""
        path = self._path(owner, sha)
        if spool.size_bytes <= await asyncio.to_thread(_size, path):
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(path, error) from error
        self._begun[path.name] = await spool.park(path)

    async def begun(self, owner: str, sha: str) -> Begun | None:
        """Return an upload for `spool` to go on with; None if nothing of it is here."""
        path = self._path(owner, sha)
        known = self._begun.get(path.name)
        size_bytes = await asyncio.to_thread(_size, path)
        if size_bytes < 0:
            self._begun.pop(path.name, None)
            return None
        if known is not None and known.size_bytes == size_bytes:
            # The copy: who takes the original changes it.
            return Begun(path, known.digest.copy(), size_bytes)
        try:
            return await asyncio.to_thread(_hashed, path)
        except OSError as error:
            raise store_error(path, error) from error

    @contextmanager
    def resumed(self, begun: Begun) -> Iterator[Spool]:
        """Give a spool that goes on with an upload; raises StoreError if another one has it now."""
        self._begun.pop(begun.path.name, None)
        with self._spools.spool(begun) as spool:
            yield spool

    async def drop(self, owner: str, sha: str) -> None:
        """Forget an interrupted upload."""
        path = self._path(owner, sha)
        self._begun.pop(path.name, None)
        await asyncio.to_thread(path.unlink, missing_ok=True)

    async def tidy(self) -> int:
        """Delete uploads that nobody went on with for a day; returns how many."""
        return await asyncio.to_thread(self._tidy)

    def _tidy(self) -> int:
        removed = 0
        oldest = time.time() - _KEPT_S
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    self._begun.pop(path.name, None)
                    removed += 1
        return removed

    def _of_owner(self, owner: str) -> list[ParkedUpload]:
        found = []
        for path in self._directory.glob(f"{_owner_key(owner)}-*"):
            with suppress(OSError):
                status = path.stat()
                sha = path.name.partition("-")[2]
                found.append(ParkedUpload(sha, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: each.written_at)

    def _path(self, owner: str, sha: str) -> Path:
        return self._directory / f"{_owner_key(owner)}-{sha}"


def _owner_key(owner: str) -> str:
    return sha256_hex(owner.encode())[:_OWNER_DIGITS]


def _size(path: Path) -> int:
    """Return the size of a file, -1 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _hashed(path: Path) -> Begun:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
        return Begun(path, digest, file.tell())
