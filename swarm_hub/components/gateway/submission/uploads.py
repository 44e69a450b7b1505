"""Blobs that clients upload before the jobs that name them, whole or piece by piece.

A hash alone gives nobody anything: an owner names what they uploaded themselves, or what a job of
theirs is or gave. Whether the hub has the same bytes of somebody else changes no answer.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    Busy,
    Conflict,
    InvalidInput,
    LimitReached,
    MalformedRequest,
    NotFound,
    StorageFull,
    StoreError,
    TooLarge,
)
from swarm_hub.models.submission import DatasetPart
from swarm_hub.storage import Write
from swarm_hub.storage.blobs.spool import Spool
from swarm_hub.storage.queries import uploads

_AT_ONCE: Final = 8
_RETRY_AFTER_S: Final = 2
# Who may name what of a job of theirs, of those who did so lately.
_KNOWN_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the bytes of a request belong: from `start` to before `end` of `total` bytes."""

    start: int
    end: int
    total: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """How much of a blob is here; a whole one is kept until `expires_at` at least."""

    size_bytes: int
    is_whole: bool
    expires_at: float | None = None
    is_new: bool = False


class Uploads:
    """Takes blobs in, and gives them to the jobs of their owners."""

    def __init__(self, hub: Hub, blob_max_bytes: int, owner_max_bytes: int, kept_s: float) -> None:
        self._hub = hub
        self.bound(blob_max_bytes, owner_max_bytes, kept_s)
        # Those that are being read, by owner.
        self._coming: dict[str, list[tuple[str, Spool]]] = {}
        self._shelf = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def bound(self, blob_max_bytes: int, owner_max_bytes: int, kept_s: float) -> None:
        """Take in and keep the blobs to come within these bounds."""
        self._blob_max_bytes = min(blob_max_bytes, owner_max_bytes)
        self._owner_max_bytes = owner_max_bytes
        self._kept_s = kept_s

    @property
    def blob_max_bytes(self) -> int:
        """How large a blob may be, in bytes."""
        return self._blob_max_bytes

    async def arrived(self, owner: str, sha: str) -> Arrived:
        """Return how much of an owner's blob is here; raises NotFound if nothing is."""
        found = await self._hub.store.read(uploads.find, owner, sha)
        if found is not None:
            return Arrived(found.size_bytes, True, found.expires_at)
        sizes = [spool.size_bytes for name, spool in self._coming.get(owner, ()) if name == sha]
        parked = await self._hub.store.blobs.parked.of_owner(owner)
        sizes += [each.size_bytes for each in parked if each.sha == sha]
        if not sizes:
            raise NotFound("unknown_blob", f"nothing of {sha} was uploaded, or it is gone again")
        return Arrived(max(sizes), False)

    async def receive(
        self, owner: str, sha: str, piece: Piece | None, chunks: AsyncIterator[bytes]
    ) -> Arrived:
        """Take in a blob, or a piece of one; a whole one is durable when this returns.

        What has come before a failure is kept, so that the next request can go on there.
        """
        store = self._hub.store
        if store.busy:
            raise Busy("busy", "the store can't keep up; try again", retry_after_s=_RETRY_AFTER_S)
        self._check_space()
        if piece is not None and piece.total > self._blob_max_bytes:
            raise self._too_large()
        if len(self._coming.get(owner, ())) >= _AT_ONCE:
            raise LimitReached(
                "too_many_uploads",
                f"{owner} uploads {_AT_ONCE} blobs at this moment, as many as one owner may",
                retry_after_s=_RETRY_AFTER_S,
            )
        if (found := await store.read(uploads.find, owner, sha)) is not None:
            async for _ in chunks:
                # It is here; most clients can't be answered before they have sent all.
                continue
            return Arrived(found.size_bytes, True, found.expires_at)
        await self._make_room(owner, sha, 0 if piece is None else piece.total)
        async with self._spool(owner, sha, piece) as spool:
            await self._read(owner, sha, piece, chunks, spool)
            if piece is not None and piece.end < piece.total:
                await self._park(owner, sha, spool)
                return Arrived(piece.end, False)
            return await self._finish(owner, sha, spool)

    async def forget(self, owner: str, sha: str) -> None:
        """Forget an owner's blob, whole or not; jobs that have it keep it."""
        await self.arrived(owner, sha)
        self._known.pop((owner, sha), None)
        await self._hub.store.commit([uploads.forget(owner, sha)])
        async with self._shelf:
            await self._hub.store.blobs.parked.drop(owner, sha)

    async def module(self, owner: str, sha: str) -> bytes | None:
        """Return the bytes of a module that the owner may name, None for any other."""
        if not await self._may_name(owner, sha):
            return None
        return await self._hub.store.blobs.get(sha)

    @asynccontextmanager
    async def dataset(self, owner: str, name: str, sha: str) -> AsyncIterator[DatasetPart]:
        """Give a file of a dataset that the owner may name; raises NotFound for any other."""
        blobs = self._hub.store.blobs
        if not await self._may_name(owner, sha):
            raise unknown(sha)
        async with blobs.reading(sha) as body:
            if body is None:
                raise unknown(sha)
            spooled = None if isinstance(body, bytes) else blobs.kept(sha, len(body))
            yield DatasetPart(name, body, spooled)

    async def _may_name(self, owner: str, sha: str) -> bool:
        if (owner, sha) in self._known:
            self._known.move_to_end((owner, sha))
            return True
        store, now = self._hub.store, self._hub.clock.time()
        found = await store.read(uploads.find, owner, sha)
        if found is not None:
            if found.expires_at - now < self._kept_s / 2:
                # What is used stays; a restart can do without this note.
                store.note([uploads.keep(owner, sha, found.size_bytes, now + self._kept_s)])
            return True
        if not await store.read(uploads.is_of_a_job, owner, sha):
            return False
        self._known[owner, sha] = None
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return True

    @asynccontextmanager
    async def _spool(self, owner: str, sha: str, piece: Piece | None) -> AsyncIterator[Spool]:
        """Give the spool that the bytes of a request go into, and keep what it has on a failure."""
        start = 0 if piece is None else piece.start
        async with contextlib.AsyncExitStack() as stack:
            async with self._shelf:
                spool = stack.enter_context(await self._begin(owner, sha, start))
            with self._counted(owner, sha, spool):
                try:
                    yield spool
                except InvalidInput:
                    # These bytes are not the ones that were announced.
                    raise
                except BaseException:
                    with contextlib.suppress(StoreError):
                        await self._park(owner, sha, spool)
                    raise

    async def _begin(self, owner: str, sha: str, start: int) -> AbstractContextManager[Spool]:
        blobs = self._hub.store.blobs
        if start == 0:
            return blobs.spool()
        begun = await blobs.parked.begun(owner, sha)
        if begun is not None and begun.size_bytes == start:
            return blobs.parked.resumed(begun)
        if any(name == sha for name, _ in self._coming.get(owner, ())):
            raise Busy(
                "upload_in_progress",
                "another request uploads this blob; ask with HEAD how much of it is here",
                retry_after_s=_RETRY_AFTER_S,
            )
        here = 0 if begun is None else begun.size_bytes
        raise Conflict(
            "wrong_offset",
            f"{here} bytes of this blob are here, so its next piece begins at {here}",
        )

    @contextmanager
    def _counted(self, owner: str, sha: str, spool: Spool) -> Iterator[None]:
        coming = self._coming.setdefault(owner, [])
        coming.append((sha, spool))
        try:
            yield
        finally:
            coming.remove((sha, spool))
            if not coming:
                self._coming.pop(owner, None)

    async def _read(
        self,
        owner: str,
        sha: str,
        piece: Piece | None,
        chunks: AsyncIterator[bytes],
        spool: Spool,
    ) -> None:
        most_bytes = self._blob_max_bytes if piece is None else piece.end
        async for chunk in chunks:
            if spool.size_bytes + len(chunk) > most_bytes:
                if piece is None:
                    raise self._too_large()
                raise MalformedRequest(
                    "bad_range", "the body is longer than its Content-Range says"
                )
            self._check_space()
            coming_bytes = sum(each.size_bytes for _, each in self._coming[owner])
            if coming_bytes + len(chunk) > self._owner_max_bytes:
                raise LimitReached(
                    "too_many_uploads",
                    f"what {owner} uploads at this moment takes more than "
                    f"{self._owner_max_bytes} bytes (gateway: uploads)",
                    retry_after_s=_RETRY_AFTER_S,
                )
            await spool.write(chunk)
        if piece is not None and spool.size_bytes != piece.end:
            raise MalformedRequest("bad_range", "the body is shorter than its Content-Range says")

    async def _make_room(self, owner: str, sha: str, coming_bytes: int) -> None:
        """Drop those interrupted uploads of an owner that there is no more room for."""
        parked = self._hub.store.blobs.parked
        async with self._shelf:
            left = [each for each in await parked.of_owner(owner) if each.sha != sha]
            used_bytes = coming_bytes + sum(each.size_bytes for each in left)
            for each in left:
                if used_bytes <= self._owner_max_bytes:
                    break
                await parked.drop(owner, each.sha)
                used_bytes -= each.size_bytes

    async def _park(self, owner: str, sha: str, spool: Spool) -> None:
        async with self._shelf:
            await self._hub.store.blobs.parked.park(owner, sha, spool)

    async def _finish(self, owner: str, sha: str, spool: Spool) -> Arrived:
        blobs, now = self._hub.store.blobs, self._hub.clock.time()
        spooled = await spool.finish()
        if spooled.sha != sha:
            raise InvalidInput(
                "wrong_sha256",
                f"these {spooled.size_bytes} bytes have the SHA-256 {spooled.sha}; send them again "
                "from the start",
            )
        size_bytes = spooled.size_bytes
        if size_bytes <= INLINE_MAX_BYTES:
            row = (await blobs.put(spool.read(0, size_bytes), now))[1]
        else:
            row = await blobs.adopt(spooled, now)
        expires_at = now + self._kept_s
        async with self._noting:
            going = await self._going(owner, size_bytes)
            noted = uploads.keep(owner, sha, size_bytes, expires_at)
            await self._hub.store.commit([row, noted, *going])
        async with self._shelf:
            await blobs.parked.drop(owner, sha)
        return Arrived(size_bytes, True, expires_at, is_new=True)

    async def _going(self, owner: str, size_bytes: int) -> list[Write]:
        """Return the removal of the owner's oldest uploads that there is no more room for."""
        there = await self._hub.store.read(uploads.of_owner, owner)
        used_bytes = size_bytes + sum(each.size_bytes for each in there)
        going = []
        for each in there:
            if used_bytes <= self._owner_max_bytes:
                break
            going.append(uploads.forget(owner, each.sha))
            used_bytes -= each.size_bytes
        return going

    def _check_space(self) -> None:
        if (full := self._hub.store.full) is not None:
            raise StorageFull("disk_full", full)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            "blob_too_large",
            f"a blob has at most {self._blob_max_bytes} bytes here (gateway: dataset, uploads)",
        )


def unknown(sha: str) -> NotFound:
    """Return the refusal of a hash that its caller may not name, or that nothing here has."""
    return NotFound(
        "unknown_blob",
        f"there is no blob {sha} of yours here; upload it with PUT /blobs/{sha}, or send its bytes",
    )
