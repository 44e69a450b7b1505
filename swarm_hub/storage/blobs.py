"""Blobs: bytes under their SHA-256, small ones in their row, larger ones as files.

A file is written to a temporary name, fsynced and renamed, and its directory fsynced, before
the row that names it commits; so a crash leaves at most an orphan, which the sweep removes.
"""

import asyncio
import mmap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.exceptions import StoreError
from swarm_hub.storage import schema
from swarm_hub.storage.engine import SqliteDatabase
from swarm_hub.storage.writer import Write
from swarm_hub.util.files import sync_directory, sync_file, write_atomic
from swarm_hub.util.hashing import sha256_hex

# A file put this recently is not deleted, whatever the rows say.
_TOUCHED_FOR_S: Final = 120.0

_INSERT = insert(schema.blobs)
_REMEMBER: Final = _INSERT.on_conflict_do_update(
    index_elements=["sha"], set_={"last_ref": _INSERT.excluded.last_ref}
)
_SELECT_BODY: Final = select(schema.blobs.c.size_bytes, schema.blobs.c.body)


class BlobStore:
    """Content-addressed bytes beside the database."""

    def __init__(self, directory: Path, database: SqliteDatabase) -> None:
        self._directory = directory
        self._database = database
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self._named: set[Path] = set()

    async def put(self, data: bytes, now: float, *, durable: bool = True) -> tuple[str, Write]:
        """Bring `data` to disk; returns its hash and the row to commit with whatever refers to it.

        With `durable=False` (a worker's cache, which can be fetched again) nothing is fsynced.
        """
        if len(data) <= INLINE_MAX_BYTES:
            sha = sha256_hex(data)
        else:
            sha = await asyncio.to_thread(self._put_file, data, durable)
        body = data if len(data) <= INLINE_MAX_BYTES else None
        row = {"sha": sha, "size_bytes": len(data), "last_ref": now, "body": body}
        return sha, Write(_REMEMBER, [row])

    async def get(self, sha: str) -> bytes | None:
        """Return the bytes, verified against their name; None where there are none.

        Raises StoreError when the bytes on disk no longer have that hash.
        """
        row = await self._database.read(lambda connection: _row(connection, sha))
        if row is None:
            return None
        if row[1] is not None:
            return bytes(row[1])
        data = await asyncio.to_thread(self._read_file, sha)
        if data is not None and sha256_hex(data) != sha:
            raise StoreError(f"blob {sha} is damaged on disk: its bytes have another hash")
        return data

    def path(self, sha: str) -> Path:
        """Return where the file of a large blob is."""
        return self._directory / sha[:2] / sha

    @contextmanager
    def mapped(self, sha: str) -> Iterator[mmap.mmap]:
        """Map the file of a large, non-empty blob into memory for reading parts of it."""
        with (
            self.path(sha).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            yield view

    async def remove_files(self, shas: list[str]) -> None:
        """Delete the files of blobs whose rows are gone, unless somebody just put them again."""
        await asyncio.to_thread(self._remove_files, shas)

    async def sweep(self, known: set[str], grace_s: float) -> int:
        """Delete files without a row that are older than `grace_s`; returns how many."""
        return await asyncio.to_thread(self._sweep, known, grace_s)

    def _put_file(self, data: bytes, durable: bool) -> str:
        sha = sha256_hex(data)
        path = self.path(sha)
        with self._lock:
            self._touched[sha] = time.monotonic()
            known = path.is_file() and path.stat().st_size == len(data)
        if not known:
            write_atomic(path, data, durable=durable)
        if durable:
            self._sync_known(path, synced=not known)
        return sha

    def _sync_known(self, path: Path, synced: bool) -> None:
        """Make a file that is there survive a power loss, and the names of its directories.

        Whoever wrote it may not have synced it: a cache never does, another thread may be on
        its way, and a process may have been killed before.
        """
        if not synced:
            sync_file(path)
            sync_directory(path.parent)
        if path.parent not in self._named:
            sync_directory(self._directory)
            sync_directory(self._directory.parent)
            self._named.add(path.parent)

    def _read_file(self, sha: str) -> bytes | None:
        try:
            return self.path(sha).read_bytes()
        except FileNotFoundError:
            return None

    def _remove_files(self, shas: list[str]) -> None:
        for sha in shas:
            self._remove(self.path(sha))

    def _remove(self, path: Path) -> bool:
        """Delete a blob's file, unless `put` found it and has not yet committed its row."""
        fresh = time.monotonic() - _TOUCHED_FOR_S
        with self._lock:
            if self._touched.get(path.name, fresh) > fresh:
                return False
            self._touched.pop(path.name, None)
            path.unlink(missing_ok=True)
            return True

    def _sweep(self, known: set[str], grace_s: float) -> int:
        removed = 0
        oldest = time.time() - grace_s
        for path in self._directory.glob("??/*"):
            if path.name not in known and path.stat().st_mtime < oldest:
                removed += self._remove(path)
        return removed


def _row(connection: Connection, sha: str) -> tuple[int, bytes | None] | None:
    row = connection.execute(_SELECT_BODY.where(schema.blobs.c.sha == sha)).one_or_none()
    return None if row is None else (row[0], row[1])
