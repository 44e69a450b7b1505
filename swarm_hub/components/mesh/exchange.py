"""Blobs between peers: `need` asks for bytes by their hash, `blob` brings them in chunks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from swarm_hub.exceptions import MeshError
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.hashing import SHA256_HEX, sha256_hex

_LOGGER = logging.getLogger(__name__)

BlobSource = Callable[[str, str], Awaitable[bytes | None]]
_PostBulk = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]
_Post = Callable[[str, str, Mapping[str, Any]], None]

CHUNK_BYTES: Final = 63 * 1024
_IDLE_TIMEOUT_S: Final = 30.0
# Transfers to one peer at a time; the rest wait, so that a peer can't make us hold many blobs.
_SERVED_AT_ONCE: Final = 4


class _Transfer:
    """Bytes on their way to us."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.received = bytearray()
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.progress = asyncio.Event()


class BlobExchange:
    """Fetches blobs from peers and serves them to peers."""

    def __init__(self, post_bulk: _PostBulk, post: _Post, tasks: TaskSupervisor) -> None:
        self._post_bulk = post_bulk
        self._post = post
        self._tasks = tasks
        self._sources: list[BlobSource] = []
        self._transfers: dict[tuple[str, str], _Transfer] = {}
        self._serving: dict[str, asyncio.Semaphore] = {}

    def add_source(self, source: BlobSource) -> None:
        """Ask `source(peer_id, sha)` for what peers need."""
        self._sources.append(source)

    async def fetch(self, peer_id: str, sha: str, size_bytes: int) -> bytes:
        """Return the blob `sha` of exactly `size_bytes` from a peer.

        Raises MeshError when the peer lacks it, sends other bytes, stalls or leaves.
        """
        transfer = self._transfers.get((peer_id, sha))
        if transfer is None:
            transfer = self._transfers[peer_id, sha] = _Transfer(size_bytes)
            try:
                self._post(peer_id, "need", {"sha": sha})
                while not transfer.done.done():
                    transfer.progress.clear()
                    async with asyncio.timeout(_IDLE_TIMEOUT_S):
                        await transfer.progress.wait()
            except TimeoutError:
                self._fail(transfer, f"{peer_id} stalled while sending {sha[:12]}")
            except BaseException:
                self._fail(transfer, f"the transfer of {sha[:12]} was given up")
                raise
            finally:
                self._transfers.pop((peer_id, sha), None)
        return await asyncio.shield(transfer.done)

    def peer_gone(self, peer_id: str) -> None:
        """Fail the transfers from a peer that left."""
        self._serving.pop(peer_id, None)
        for (source, sha), transfer in list(self._transfers.items()):
            if source == peer_id:
                self._fail(transfer, f"{peer_id} left while sending {sha[:12]}")

    def on_need(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Send a peer what it asks for."""
        sha = fields["sha"]
        if not isinstance(sha, str) or not SHA256_HEX.match(sha):
            raise ValueError("need without a hash")
        self._tasks.spawn(self._serve(peer_id, sha), "serve blob")

    def on_blob(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Take a chunk of something we asked for."""
        transfer = self._transfers.get((peer_id, fields["sha"]))
        if transfer is None or transfer.done.done():
            return
        sha, body = fields["sha"], fields.get("body")
        if body is None:
            self._fail(transfer, f"{peer_id} does not have {sha[:12]}")
            return
        if not isinstance(body, bytes) or fields["offset"] != len(transfer.received):
            self._fail(transfer, f"{peer_id} sent chunks of {sha[:12]} out of order")
            return
        transfer.received += body
        if len(transfer.received) > transfer.size_bytes:
            self._fail(transfer, f"{peer_id} sent more bytes than {sha[:12]} has")
        elif len(transfer.received) == transfer.size_bytes:
            data = bytes(transfer.received)
            if sha256_hex(data) == sha:
                transfer.done.set_result(data)
            else:
                self._fail(transfer, f"{peer_id} sent bytes that are not {sha[:12]}")
        transfer.progress.set()

    async def _serve(self, peer_id: str, sha: str) -> None:
        slots = self._serving.setdefault(peer_id, asyncio.Semaphore(_SERVED_AT_ONCE))
        async with slots:
            try:
                data = await self._find(peer_id, sha)
                if data is None:
                    await self._post_bulk(peer_id, "blob", {"sha": sha, "body": None})
                    return
                view = memoryview(data)
                for offset in range(0, max(len(data), 1), CHUNK_BYTES):
                    chunk = bytes(view[offset : offset + CHUNK_BYTES])
                    await self._post_bulk(
                        peer_id, "blob", {"sha": sha, "offset": offset, "body": chunk}
                    )
            except MeshError as error:
                _LOGGER.debug("Sending %s to %s ended: %s", sha[:12], peer_id, error)

    async def _find(self, peer_id: str, sha: str) -> bytes | None:
        for source in self._sources:
            if (data := await source(peer_id, sha)) is not None:
                return data
        return None

    @staticmethod
    def _fail(transfer: _Transfer, reason: str) -> None:
        if not transfer.done.done():
            transfer.done.set_exception(MeshError(reason))
            # The error belongs to whoever awaits the transfer; nobody may.
            transfer.done.exception()
        transfer.progress.set()
