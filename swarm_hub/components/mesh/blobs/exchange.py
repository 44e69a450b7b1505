"""Blobs between peers by their hash: asked for, sent in chunks, continued after a break.

`need` asks for a blob from an offset on; it comes as `blob` chunks on the mesh's own stream, or,
if it is large and one of the two listens for the bulk plane, over that (see `bulk`). Both sides of
that are here, as a hub is both at once for one peer, which is why it is long.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from swarm_hub.components.mesh.blobs.bulk import BulkServer, Deal, Ticket, download, upload
from swarm_hub.components.mesh.blobs.transfer import Incoming, Spill
from swarm_hub.components.mesh.listener import DirectListener
from swarm_hub.exceptions import MeshError
from swarm_hub.models.blob import Readable
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.hashing import SHA256_HEX
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

# `source(peer_id, sha)`: the bytes to read from while the block lasts; None if not available.
BlobSource = Callable[[str, str], AbstractAsyncContextManager[Readable | None]]
# `send(peer_id, kind, fields)`, which never raises: for a disconnected peer the message is lost.
SendSigned = Callable[[str, str, Mapping[str, Any]], None]

TICKET: Final = "ticket"
TICKET_REFUSED: Final = "ticket_refused"
CHUNK_BYTES: Final = 63 * 1024
# From this size on the bulk plane is quicker than the stream, including the time to connect.
BULK_MIN_BYTES: Final = 1024 * 1024
_IDLE_TIMEOUT_S: Final = 30.0
# A peer that was given a ticket connects at once, unless its network prevents it.
_TICKET_TIMEOUT_S: Final = 5.0
_NO_BULK_FOR_S: Final = 60.0
# How many transfers to one peer, and from one, run at a time; the rest wait.
_SERVED_AT_ONCE: Final = 4
_FETCHED_AT_ONCE: Final = 4
# What has arrived of broken transfers is kept up to this size in all, the newest first.
_BROKEN_MAX_BYTES: Final = 64 * 1024 * 1024


class Wire(Protocol):
    """How an exchange reaches peers."""

    def send(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        """Queue a message; raises MeshError."""

    async def send_bulk(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        """Queue a bulk message once there is room; raises MeshError."""

    def host_of(self, peer_id: str) -> str | None:
        """Return the IP address of a peer's session, None if there is none."""


@dataclass(slots=True, eq=False)
class _Fetch:
    """A blob that is being fetched for everybody who waits for it."""

    incoming: Incoming
    peer_id: str
    done: "asyncio.Future[bytes | Spill]"
    waiters: int = 0
    tickets: list[Ticket] = field(default_factory=list)


class BlobExchange:
    """Fetches blobs from peers and serves them to peers."""

    def __init__(
        self,
        wire: Wire,
        tasks: TaskSupervisor,
        listener: DirectListener,
        spill_dir: Path | None = None,
    ) -> None:
        self._wire = wire
        self._tasks = tasks
        self._spill_dir = spill_dir
        self._sources: list[BlobSource] = []
        self._fetches: dict[str, _Fetch] = {}
        self._broken: dict[str, Incoming] = {}
        self._serving: dict[str, asyncio.Semaphore] = {}
        self._fetching: dict[str, asyncio.Semaphore] = {}
        self._no_bulk_until: dict[str, float] = {}
        self._uploads: dict[str, set[asyncio.Task[None]]] = {}
        self.bulk = BulkServer(listener)
        # Without it there are no tickets and thus no bulk plane.
        self._send_signed: SendSigned | None = None

    def sign_tickets_with(self, send_signed: SendSigned) -> None:
        """Hand out tickets in signed messages; call it once."""
        if self._send_signed is not None:
            raise ValueError("the tickets are signed already")
        self._send_signed = send_signed

    def stop(self) -> None:
        """Forget what broken transfers have left."""
        for broken in self._broken.values():
            broken.close()
        self._broken.clear()

    def add_source(self, source: BlobSource) -> None:
        """Also look for the blobs that peers need in `source(peer_id, sha)`."""
        self._sources.append(source)

    async def fetch(self, peer_id: str, sha: str, size_bytes: int) -> bytes:
        """Return the blob `sha` of exactly `size_bytes`; see `fetching`."""
        async with self.fetching(peer_id, sha, size_bytes) as data:
            if isinstance(data, bytes):
                return data
            return await asyncio.to_thread(data.__getitem__, slice(None))

    @asynccontextmanager
    async def fetching(
        self, peer_id: str, sha: str, size_bytes: int
    ) -> AsyncIterator[bytes | Spill]:
        """Give the blob `sha` of exactly `size_bytes`, from a peer unless it is already on its way.

        A large one is given as a file to read in parts. Raises MeshError when the peer lacks it,
        sends other bytes, stalls or leaves; what has arrived by then is not asked for again.
        """
        fetch = self._fetches.get(sha)
        if fetch is None or fetch.incoming.size_bytes != size_bytes:
            fetch = self._fetches[sha] = _Fetch(
                self._gone_on_with(sha, size_bytes),
                peer_id,
                asyncio.get_running_loop().create_future(),
            )
            task = self._tasks.spawn(self._run(fetch), "fetch blob")
            fetch.done.add_done_callback(lambda done: done.cancelled() and task.cancel())
        fetch.waiters += 1
        try:
            yield await asyncio.shield(fetch.done)
        finally:
            fetch.waiters -= 1
            if fetch.waiters == 0:
                # Nobody wants the blob any more, or it has arrived.
                fetch.done.cancel()
                if not fetch.done.cancelled() and fetch.done.exception() is None:
                    fetch.incoming.close()

    def peer_gone(self, peer_id: str) -> None:
        """End all transfers with a peer whose session ended, however that came: also by a ban."""
        self.bulk.end_all_of(peer_id)
        for uploading in self._uploads.pop(peer_id, ()):
            uploading.cancel()
        self._serving.pop(peer_id, None)
        self._fetching.pop(peer_id, None)
        self._no_bulk_until.pop(peer_id, None)
        for fetch in self._fetches.values():
            if fetch.peer_id == peer_id:
                fetch.incoming.fail(f"{peer_id} left while sending {fetch.incoming.sha[:12]}")

    # What peers say

    def on_need(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Send a peer what it asks for."""
        sha, offset = fields["sha"], fields.get("offset", 0)
        if not isinstance(sha, str) or not SHA256_HEX.match(sha):
            raise ValueError("need without a hash")
        if type(offset) is not int or offset < 0:
            raise ValueError("need from no offset")
        takes_bulk = fields.get("bulk") is True
        self._tasks.spawn(self._serve(peer_id, sha, offset, takes_bulk), "serve blob")

    def on_blob(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Take a chunk of something we asked for."""
        fetch, body = self._fetches.get(fields["sha"]), fields["body"]
        if fetch is None or fetch.peer_id != peer_id or fetch.incoming.failure is not None:
            return
        if body is None:
            fetch.incoming.fail(f"{peer_id} does not have {fetch.incoming.sha[:12]}")
            return
        if not isinstance(body, bytes):
            raise TypeError("a chunk that is not bytes")
        try:
            fetch.incoming.add(fields["offset"], body)
        except MeshError as error:
            # No part of it can be trusted.
            fetch.incoming.start_over()
            fetch.incoming.fail(f"{peer_id}: {error}")

    def on_ticket(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Use a ticket: for what we asked for, or for what the peer wants from us."""
        ticket, sha = Ticket.from_wire(fields), fields["sha"]
        if fields.get("wanted") is True:
            uploads = self._uploads.setdefault(peer_id, set())
            uploading = self._tasks.spawn(self._upload(peer_id, str(sha), ticket), "upload blob")
            uploads.add(uploading)
            uploading.add_done_callback(uploads.discard)
            return
        fetch = self._fetches.get(sha)
        if fetch is not None and fetch.peer_id == peer_id:
            fetch.tickets.append(ticket)
            fetch.incoming.progress.set()

    def on_ticket_refused(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        """Do without the bulk plane for a peer that can't reach it."""
        self._no_bulk(peer_id)
        self.bulk.refused(peer_id, fields["id"])

    # Fetching

    def _gone_on_with(self, sha: str, size_bytes: int) -> Incoming:
        broken = self._broken.pop(sha, None)
        incoming = Incoming(sha, size_bytes, self._spill_dir)
        if broken is None:
            return incoming
        if broken.size_bytes == size_bytes:
            incoming.received, broken.received = broken.received, incoming.received
        broken.close()
        return incoming

    async def _run(self, fetch: _Fetch) -> None:
        incoming = fetch.incoming
        try:
            try:
                data = await self._get(fetch)
            finally:
                if self._fetches.get(incoming.sha) is fetch:
                    del self._fetches[incoming.sha]
            if fetch.done.done():
                incoming.close()
            else:
                fetch.done.set_result(data)
        except MeshError as error:
            self._keep(incoming)
            if not fetch.done.done():
                fetch.done.set_exception(error)
                # The error is for those who wait; there may be nobody.
                fetch.done.exception()
        except asyncio.CancelledError:
            self._keep(incoming)
            raise

    async def _get(self, fetch: _Fetch) -> bytes | Spill:
        resumed = fetch.incoming.offset > 0
        await self._complete(fetch)
        try:
            return await fetch.incoming.verified()
        except MeshError:
            if not resumed:
                raise
        # What is wrong may be what an earlier attempt left.
        await self._complete(fetch)
        return await fetch.incoming.verified()

    async def _complete(self, fetch: _Fetch) -> None:
        peer_id, incoming = fetch.peer_id, fetch.incoming
        slots = self._fetching.setdefault(peer_id, asyncio.Semaphore(_FETCHED_AT_ONCE))
        async with slots:
            if incoming.failure is not None:
                raise MeshError(incoming.failure)
            if self._may_bulk(peer_id, incoming.size_bytes - incoming.offset):
                await self._by_upload(peer_id, incoming)
            if not incoming.is_complete:
                await self._by_need(fetch)

    async def _by_need(self, fetch: _Fetch) -> None:
        """Ask, and take what comes: chunks on the stream, or a ticket for the bulk plane."""
        peer_id, incoming = fetch.peer_id, fetch.incoming
        missing_bytes = incoming.size_bytes - incoming.offset
        host = self._wire.host_of(peer_id) if missing_bytes >= BULK_MIN_BYTES else None
        takes_bulk = host is not None and not self._without_bulk(peer_id)
        self._need(peer_id, incoming, takes_bulk)
        while True:
            await incoming.wait(_IDLE_TIMEOUT_S)
            if fetch.tickets and host is not None:
                ticket = fetch.tickets.pop()
                try:
                    await download(host, ticket, incoming)
                except MeshError as error:
                    _LOGGER.info("Fetching from %s by its stream: %s", peer_id, error)
                    self._no_bulk(peer_id)
                    self._wire.send(peer_id, TICKET_REFUSED, {"id": ticket.id})
                    self._need(peer_id, incoming, False)
            if incoming.is_complete:
                return

    async def _by_upload(self, peer_id: str, incoming: Incoming) -> None:
        """Have a peer bring the blob over the bulk plane; returns early if it does not."""
        assert self._send_signed is not None
        with self.bulk.offering(peer_id, incoming=incoming) as deal:
            fields = {**deal.ticket.to_wire(), "sha": incoming.sha, "wanted": True}
            self._send_signed(peer_id, TICKET, fields)
            if not await self._has_begun(deal):
                _LOGGER.info("Fetching from %s by its stream: it has not connected", peer_id)
                self._no_bulk(peer_id)
                return
            await deal.ended.wait()
            if incoming.failure is not None:
                raise MeshError(incoming.failure)

    def _need(self, peer_id: str, incoming: Incoming, takes_bulk: bool) -> None:
        fields = {"sha": incoming.sha, "offset": incoming.offset, "bulk": takes_bulk}
        self._wire.send(peer_id, "need", fields)

    def _keep(self, incoming: Incoming) -> None:
        """Keep what has arrived for the next attempt, within bounds."""
        if incoming.received and not incoming.is_complete:
            self._broken[incoming.sha] = incoming
        else:
            incoming.close()
        while sum(kept.offset for kept in self._broken.values()) > _BROKEN_MAX_BYTES:
            self._broken.pop(next(iter(self._broken))).close()

    # Serving

    async def _serve(self, peer_id: str, sha: str, offset: int, takes_bulk: bool) -> None:
        slots = self._serving.setdefault(peer_id, asyncio.Semaphore(_SERVED_AT_ONCE))
        async with slots:
            try:
                for source in self._sources:
                    async with source(peer_id, sha) as data:
                        if data is None:
                            continue
                        if takes_bulk and self._may_bulk(peer_id, len(data) - offset):
                            await self._by_ticket(peer_id, sha, data)
                        else:
                            await self._by_stream(peer_id, sha, data, offset)
                        return
                await self._wire.send_bulk(peer_id, "blob", {"sha": sha, "body": None})
            except MeshError as error:
                _LOGGER.debug("Sending %s to %s ended: %s", sha[:12], peer_id, error)

    async def _by_stream(self, peer_id: str, sha: str, data: Readable, offset: int) -> None:
        while True:
            chunk = bytes(data[offset : offset + CHUNK_BYTES])
            await self._wire.send_bulk(
                peer_id, "blob", {"sha": sha, "offset": offset, "body": chunk}
            )
            offset += CHUNK_BYTES
            if offset >= len(data):
                return

    async def _by_ticket(self, peer_id: str, sha: str, data: Readable) -> None:
        """Give out a ticket and hold the blob until it was fetched or clearly won't be."""
        assert self._send_signed is not None
        with self.bulk.offering(peer_id, data=data) as deal:
            self._send_signed(peer_id, TICKET, {**deal.ticket.to_wire(), "sha": sha})
            if await self._has_begun(deal):
                # The blob is on its way; each chunk has its own time limit.
                await deal.ended.wait()

    async def _upload(self, peer_id: str, sha: str, ticket: Ticket) -> None:
        """Bring a peer what it wants; it uses `need` to ask for whatever this does not bring."""
        host = self._wire.host_of(peer_id)
        for source in self._sources:
            async with source(peer_id, sha) as data:
                if data is not None and host is not None:
                    try:
                        await upload(host, ticket, data)
                        return
                    except MeshError as error:
                        _LOGGER.info("Sending to %s by the mesh's stream: %s", peer_id, error)
        try:
            self._wire.send(peer_id, TICKET_REFUSED, {"id": ticket.id})
        except MeshError as error:
            _LOGGER.debug("%s is not told that its ticket failed: %s", peer_id, error)

    # The bulk plane

    @staticmethod
    async def _has_begun(deal: Deal) -> bool:
        return await within(_TICKET_TIMEOUT_S, deal.begun.wait())

    def _may_bulk(self, peer_id: str, size_bytes: int) -> bool:
        """Whether to give that peer a ticket for that many bytes."""
        return (
            size_bytes >= BULK_MIN_BYTES
            and self.bulk.is_listening
            and self._send_signed is not None
            and self._wire.host_of(peer_id) is not None
            and not self._without_bulk(peer_id)
        )

    def _without_bulk(self, peer_id: str) -> bool:
        return self._no_bulk_until.get(peer_id, 0.0) > asyncio.get_running_loop().time()

    def _no_bulk(self, peer_id: str) -> None:
        self._no_bulk_until[peer_id] = asyncio.get_running_loop().time() + _NO_BULK_FOR_S
