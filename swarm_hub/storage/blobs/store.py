"""Blobs: bytes under their SHA-256, small ones in their row, larger ones outside it."""

import asyncio
import functools
import itertools
import math
import mmap
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.exceptions import StoreError
from swarm_hub.models.blob import Readable, SpooledBlob
from swarm_hub.storage import schema
from swarm_hub.storage.blobs import chunks as blob_chunks
from swarm_hub.storage.blobs.chunks import Place
from swarm_hub.storage.blobs.files import BlobFiles, map_file, store_error
from swarm_hub.storage.blobs.parked import ParkedUploads
from swarm_hub.storage.blobs.spool import Spool, SpoolFolder
from swarm_hub.storage.engine.database import Database
from swarm_hub.storage.write import Write
from swarm_hub.util.hashing import sha256_hex

# Can't clash with a blob's folder: those have two digits.
SPOOL_DIR: Final = "incoming"
PARKED_DIR: Final = "parked"

# A blob that nothing refers to and that was not touched for a minute may be removed (gc); one that
# was touched this short a time ago is there to stay.
_TOUCHED_LATELY_S: Final = 10.0
_TOUCHED_MAX: Final = 1024

_INSERT = insert(schema.blobs)
_REMEMBER: Final = _INSERT.on_conflict_do_update(
    index_elements=["sha"], set_={"last_ref": _INSERT.excluded.last_ref}
)
_KEEP: Final = (
    update(schema.blobs)
    .where(schema.blobs.c.sha == bindparam("b_sha"))
    .values(last_ref=bindparam("b_now"))
)
_SELECT_BODY: Final = select(schema.blobs.c.size_bytes, schema.blobs.c.body)


class BlobStore:
    """Content-addressed bytes: large ones are files, in a shared store chunks with a file cache."""

    def __init__(self, directory: Path, database: Database) -> None:
        self._files = BlobFiles(directory)
        self._spools = SpoolFolder(directory / SPOOL_DIR)
        self.parked = ParkedUploads(directory / PARKED_DIR, self._spools)
        self._database = database
        # Hash → when its row, on disk, says that it was last touched.
        self._touched: dict[str, float] = {}

    def open(self) -> None:
        """Make sure that only the owner of the hub can read what is there."""
        self._files.open()

    async def put(self, data: bytes, now: float, *, durable: bool = True) -> tuple[str, Write]:
        """Store `data` on disk; returns its hash and the row to commit with whatever refers to it.

        With `durable=False` (a worker's cache, which can be fetched again) nothing is fsynced.
        """
        if len(data) <= INLINE_MAX_BYTES:
            sha = sha256_hex(data)
        else:
            sha = await asyncio.to_thread(sha256_hex, data)
        return sha, await self._put(sha, data, now, durable=durable)

    async def touch(self, sha: str, data: bytes, now: float) -> list[Write]:
        """Store bytes that come again and again, as `put` does; none if they are there to stay."""
        if self.touched_lately(sha, now):
            return []
        return [await self._put(sha, data, now)]

    def touched_lately(self, sha: str, now: float) -> bool:
        """Whether `touch` needs no bytes of a blob at that time."""
        # A clock that was set back makes no note that is newer than its row.
        return 0 <= now - self._touched.get(sha, -math.inf) < _TOUCHED_LATELY_S

    def touched(self, sha: str, now: float) -> None:
        """Take note that what `touch` returned at that time has been committed."""
        if self.touched_lately(sha, now):
            return
        self._touched.pop(sha, None)
        self._touched[sha] = now
        if len(self._touched) > _TOUCHED_MAX:
            del self._touched[next(iter(self._touched))]

    async def keep(self, shas: Iterable[str], now: float) -> bool:
        """Keep blobs for the while that a new one is kept; returns whether all of them are there.

        What nothing refers to may have been removed a moment ago.
        """
        rows = [{"b_sha": sha, "b_now": now} for sha in sorted(set(shas))]
        return await self._database.write(
            lambda connection: all(connection.execute(_KEEP, row).rowcount for row in rows)
        )

    async def put_verified(self, sha: str, data: Readable, now: float) -> Write:
        """Store bytes of a known hash on disk, part by part; returns the row to commit."""
        if len(data) <= INLINE_MAX_BYTES:
            return (await self.put(data[0 : len(data)], now))[1]
        with self.spool() as spool:
            return await self.adopt(await spool.copy(data, sha), now)

    def spool(self) -> AbstractContextManager[Spool]:
        """Give a file for writing a large upload as it comes; `adopt` keeps it; StoreError."""
        return self._spools.spool()

    async def tidy_spools(self) -> int:
        """Delete the files of uploads that a kill interrupted, or nobody goes on with; how many."""
        return await asyncio.to_thread(self._spools.tidy) + await self.parked.tidy()

    async def adopt(self, spooled: SpooledBlob, now: float) -> Write:
        """Make a finished spool a blob on disk; returns the row to commit."""
        sha, path = spooled.sha, spooled.path
        shared = self._database.shared
        if shared:
            await self._database.write(lambda connection: _put_file(connection, sha, path))
        with self._disk_errors(sha):
            await asyncio.to_thread(self._files.adopt, sha, path, durable=not shared)
        row = {"sha": sha, "size_bytes": spooled.size_bytes, "last_ref": now, "body": None}
        return Write(_REMEMBER, [row])

    def kept(self, sha: str, size_bytes: int) -> SpooledBlob:
        """Return a large blob that is `at_hand` as if it were uploaded anew, to be adopted again.

        So it stays, whatever else refers to it.
        """
        return SpooledBlob(self._files.path(sha), sha, size_bytes)

    async def get(self, sha: str) -> bytes | None:
        """Return the bytes, verified against their hash; None if there are none.

        Raises StoreError when the bytes on disk no longer have that hash.
        """
        row = await self._database.read(lambda connection: _row(connection, sha))
        if row is None:
            return None
        if row[1] is not None:
            return bytes(row[1])
        data = await asyncio.to_thread(self._files.get, sha)
        if data is not None and sha256_hex(data) == sha:
            return data
        if self._database.shared and await self._cache(sha):
            return await asyncio.to_thread(self._files.get, sha)
        if data is not None:
            raise StoreError(f"blob {sha} is damaged on disk: its bytes have another hash")
        return None

    async def at_hand(self, sha: str) -> None:
        """Ensure that a large blob is a file with the right bytes; raises StoreError."""
        if await asyncio.to_thread(self._files.is_right, sha):
            return
        if not (self._database.shared and await self._cache(sha)):
            raise StoreError(f"blob {sha} is missing or damaged on disk")

    @asynccontextmanager
    async def reading(self, sha: str) -> AsyncIterator[bytes | mmap.mmap | None]:
        """Give a blob to read in parts, a large one without loading it; None if there is none.

        Raises StoreError when the bytes on disk no longer have that hash.
        """
        row = await self._database.read(lambda connection: _row(connection, sha))
        if row is None or row[1] is not None:
            yield None if row is None else bytes(row[1] or b"")
            return
        await self.at_hand(sha)
        with self._files.mapped(sha) as view:
            yield view

    def path(self, sha: str) -> Path:
        """Return the path of a large blob's file."""
        return self._files.path(sha)

    def mapped(self, sha: str) -> AbstractContextManager[mmap.mmap]:
        """Map a large, non-empty blob that is `at_hand` into memory for reading parts of it."""
        return self._files.mapped(sha)

    async def remove_files(self, shas: list[str]) -> None:
        """Delete the files or chunks of blobs whose rows were deleted."""
        await asyncio.to_thread(self._files.remove, shas)
        if self._database.shared:
            while await self._database.write(
                lambda connection: blob_chunks.remove(connection, shas)
            ):
                continue

    async def beginnings(self) -> Sequence[str]:
        """Return the first two digits of the hashes of all files, perhaps of more."""
        return await asyncio.to_thread(self._files.beginnings)

    async def sweep(self, prefix: str, known: set[str], grace_s: float) -> int:
        """Delete what has no row, is older than `grace_s` and whose hash begins with two digits.

        `known` are the hashes with this beginning that have a row; returns how many files were
        deleted.
        """
        return await asyncio.to_thread(self._files.sweep, prefix, known, grace_s)

    async def sweep_chunks(self, after: Place, grace_s: float) -> Place | None:
        """Look at some chunks of a shared store, and delete those older than that without a row.

        Returns where to go on, None after the last.
        """
        before = time.time() - grace_s
        found, place = await self._database.read(
            lambda connection: blob_chunks.orphans(connection, after, before)
        )
        more = bool(found)
        while more:
            more = await self._database.write(
                lambda connection: blob_chunks.sweep(connection, found, before)
            )
        return place

    async def _put(self, sha: str, data: bytes, now: float, *, durable: bool = True) -> Write:
        is_small = len(data) <= INLINE_MAX_BYTES
        if not is_small:
            await self._put_large(sha, data, durable)
        body = data if is_small else None
        row = {"sha": sha, "size_bytes": len(data), "last_ref": now, "body": body}
        return Write(_REMEMBER, [row])

    async def _put_large(self, sha: str, data: bytes, durable: bool) -> None:
        if self._database.shared:
            await self._database.write(lambda connection: blob_chunks.put(connection, sha, data))
            durable = False
        with self._disk_errors(sha):
            await asyncio.to_thread(self._files.put, sha, data, durable=durable)

    @contextmanager
    def _disk_errors(self, sha: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_error(self._files.path(sha), error) from error

    async def _cache(self, sha: str) -> bool:
        """Make a file of a blob's chunks in the shared store; returns whether there are any."""
        with self.spool() as spool:
            for n in itertools.count():
                chunk = await self._database.read(functools.partial(blob_chunks.get, sha=sha, n=n))
                if chunk is None:
                    break
                await spool.write(chunk)
            if spool.size_bytes == 0:
                return False
            spooled = await spool.finish()
            if spooled.sha != sha:
                raise StoreError(f"blob {sha} is damaged in the store: its bytes have another hash")
            with self._disk_errors(sha):
                await asyncio.to_thread(self._files.replace, sha, spooled.path)
        return True


class GrowingBlob:
    """Bytes that are written piece by piece: in memory while small, then on disk."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._start = bytearray()
        self._spool: Spool | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    async def write(self, chunk: bytes) -> None:
        """Add bytes; raises StoreError when they can't be written."""
        if self._spool is None:
            self._start += chunk
            if len(self._start) <= INLINE_MAX_BYTES:
                return
            self._spool = self._open.enter_context(self._blobs.spool())
            chunk = bytes(self._start)
            self._start.clear()
        await self._spool.write(chunk)

    async def finish(self, now: float) -> tuple[str, int, bytes | None, list[Write]]:
        """Return (sha, size in bytes, the bytes if they are few, else the row to commit)."""
        if self._spool is None:
            inline = bytes(self._start)
            return sha256_hex(inline), len(inline), inline, []
        spooled = await self._spool.finish()
        return spooled.sha, spooled.size_bytes, None, [await self._blobs.adopt(spooled, now)]

    async def finish_apart(self) -> bytes | mmap.mmap:
        """Return the bytes to read until the block ends; they become no blob of the store."""
        if self._spool is None:
            return bytes(self._start)
        await self._spool.finish()
        return self._spool.mapped()


def _put_file(connection: Connection, sha: str, path: Path) -> None:
    with map_file(path) as view:
        blob_chunks.put(connection, sha, view)


def _row(connection: Connection, sha: str) -> tuple[int, bytes | None] | None:
    row = connection.execute(_SELECT_BODY.where(schema.blobs.c.sha == sha)).one_or_none()
    return None if row is None else (row[0], row[1])
