"""Blobs between peers: chunks on the stream, sealed chunks beside it, gone on with after a break.

Two exchanges are joined by a wire in memory; the bulk plane is real TCP on 127.0.0.1.
"""

import asyncio
import contextlib
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swarm_hub.components.mesh.blobs import exchange as exchange_module
from swarm_hub.components.mesh.blobs.bulk import CHUNK_BYTES, BulkServer, Ticket, download, upload
from swarm_hub.components.mesh.blobs.exchange import TICKET, TICKET_REFUSED, BlobExchange
from swarm_hub.components.mesh.blobs.transfer import Incoming, Spill
from swarm_hub.components.mesh.identity import parse_listen_address
from swarm_hub.components.mesh.listener import DirectListener
from swarm_hub.exceptions import MeshError
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import until
from tests.helpers.later import ADDED

SMALL = random.Random(1).randbytes(700_000)
HERE = parse_listen_address("/ip4/127.0.0.1/tcp/0")
LARGE = random.Random(2).randbytes(5 * 1024 * 1024 + 77)


class Side:
    """An exchange and its end of the wire; a peer is called by its side's name."""

    def __init__(
        self, name: str, tasks: TaskSupervisor, host: str | None, spill_dir: Path | None
    ) -> None:
        self.name = name
        self.tasks = tasks
        self.host = host
        self.listener = DirectListener(lambda _ip: False)
        self.exchange = BlobExchange(self, tasks, self.listener, spill_dir)
        self.exchange.sign_tickets_with(self.send)
        self.other: Side
        self.heard: list[tuple[str, Mapping[str, Any]]] = []
        self.cut_after: int | None = None

    def send(self, _peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        asyncio.get_running_loop().call_soon(self.other.hear, kind, fields)

    async def send_bulk(self, peer_id: str, kind: str, fields: Mapping[str, Any]) -> None:
        if self.cut_after is not None and fields["offset"] >= self.cut_after:
            self.cut_after = None
            self.other.exchange.peer_gone(self.name)
            raise MeshError("the link was cut")
        self.send(peer_id, kind, fields)
        await asyncio.sleep(0)

    def host_of(self, _peer_id: str) -> str | None:
        return self.host

    def hear(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.heard.append((kind, fields))
        handlers = {
            "need": self.exchange.on_need,
            "blob": self.exchange.on_blob,
            TICKET: self.exchange.on_ticket,
            TICKET_REFUSED: self.exchange.on_ticket_refused,
        }
        handlers[kind](self.other.name, fields)

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.heard}

    def needs(self) -> list[int]:
        return [fields["offset"] for kind, fields in self.heard if kind == "need"]

    def has(self, *bodies: bytes | None, sha: str | None = None) -> list[str]:
        """Serve these; returns the list of what is asked for."""
        asked: list[str] = []
        known = {sha or sha256_hex(body or b""): body for body in bodies}

        @asynccontextmanager
        async def source(_peer_id: str, wanted: str) -> AsyncIterator[bytes | None]:
            asked.append(wanted)
            yield known.get(wanted)

        self.exchange.add_source(source)
        return asked

    async def fetch(self, body: bytes) -> bytes:
        return await self.exchange.fetch(self.other.name, sha256_hex(body), len(body))


@contextlib.asynccontextmanager
async def joined(host: str | None, spill_dir: Path | None) -> AsyncIterator[tuple[Side, Side]]:
    tasks = TaskSupervisor()
    gateway, worker = (Side(name, tasks, host, spill_dir) for name in ("gateway", "worker"))
    gateway.other, worker.other = worker, gateway
    yield gateway, worker
    await gateway.listener.stop()
    await tasks.stop(5)


async def test_a_slow_disk_does_not_hold_up_the_loop_of_who_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: set[int] = set()
    pwrite = os.pwrite

    def noted(descriptor: int, body: bytes, offset: int) -> int:
        writers.add(threading.get_ident())
        return pwrite(descriptor, body, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    async with joined("127.0.0.1", tmp_path) as (gateway, worker):
        gateway.listener.start(HERE, gateway.tasks)
        gateway.has(LARGE)
        assert await worker.fetch(LARGE) == LARGE
    assert writers
    assert threading.get_ident() not in writers


def test_a_file_is_closed_by_the_thread_that_still_writes_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(descriptor: int, body: bytes, offset: int) -> int:
        begun.set()
        assert go_on.wait(30)
        os.fstat(descriptor)
        return len(body)

    monkeypatch.setattr(os, "pwrite", slowly)
    spill, before = Spill(tmp_path), len(os.listdir("/proc/self/fd"))
    writer = threading.Thread(target=spill.extend, args=(b"chunk",))
    writer.start()
    assert begun.wait(30)
    spill.close()
    go_on.set()
    writer.join()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(MeshError, match="nobody waits"):
        spill.extend(b"more")


@pytest.fixture(params=["memory", "file"])
def spill_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where what comes is kept: in memory or in files."""
    return tmp_path if request.param == "file" else None


@pytest.fixture
async def streams(spill_dir: Path | None) -> AsyncIterator[tuple[Side, Side]]:
    """Return a gateway and a worker without a bulk plane."""
    async with joined(None, spill_dir) as sides:
        yield sides


@pytest.fixture
async def sides(spill_dir: Path | None) -> AsyncIterator[tuple[Side, Side]]:
    """Return a gateway with a bulk plane, and a worker."""
    async with joined("127.0.0.1", spill_dir) as (gateway, worker):
        gateway.listener.start(HERE, gateway.tasks)
        yield gateway, worker


Sides = tuple[Side, Side]


async def test_a_blob_is_fetched_in_chunks_and_verified(streams: Sides) -> None:
    gateway, worker = streams
    gateway.has(SMALL)
    assert await worker.fetch(SMALL) == SMALL
    assert max(len(fields["body"]) for _, fields in worker.heard) <= exchange_module.CHUNK_BYTES


async def test_an_empty_blob_needs_no_transfer(streams: Sides) -> None:
    _, worker = streams
    assert await worker.fetch(b"") == b""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "does not have"),
        (SMALL[:-1] + b"x", "the bytes that came are not"),
        (SMALL + b"x", "more bytes came than"),
    ],
)
async def test_what_is_not_the_blob_is_an_error_and_never_data(
    streams: Sides, body: bytes | None, said: str
) -> None:
    gateway, worker = streams
    gateway.has(body, sha=sha256_hex(SMALL))
    # The next attempt begins anew.
    for _ in range(2):
        with pytest.raises(MeshError, match=said):
            await worker.fetch(SMALL)
    assert gateway.needs() == [0, 0]


async def test_fetching_the_same_blob_at_once_asks_once(streams: Sides) -> None:
    gateway, worker = streams
    asked = gateway.has(SMALL)
    assert await asyncio.gather(*(worker.fetch(SMALL) for _ in range(5))) == [SMALL] * 5
    assert asked == [sha256_hex(SMALL)]


async def test_who_gives_up_does_not_disturb_the_others_and_the_last_one_ends_it(
    streams: Sides,
) -> None:
    gateway, worker = streams
    gateway.has(SMALL)
    first, second = (asyncio.create_task(worker.fetch(SMALL)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == SMALL
    # Nobody answers for this one.
    alone = asyncio.create_task(worker.exchange.fetch("gateway", sha256_hex(LARGE), len(LARGE)))
    worker.exchange.on_blob("gateway", {"sha": "0" * 64, "body": None})
    await asyncio.sleep(0)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone

    async def fetches() -> dict[str, Any]:
        return worker.exchange._fetches

    await until(fetches, lambda left: not left)


async def test_a_transfer_that_was_cut_goes_on_where_it_stopped(streams: Sides) -> None:
    gateway, worker = streams
    gateway.has(SMALL)
    gateway.cut_after = 400_000
    with pytest.raises(MeshError, match="left while sending"):
        await worker.fetch(SMALL)
    assert await worker.fetch(SMALL) == SMALL
    _, resumed = gateway.needs()
    assert 300_000 < resumed <= 400_000 + exchange_module.CHUNK_BYTES


async def test_wrong_bytes_of_one_peer_do_not_spoil_what_another_sends(streams: Sides) -> None:
    gateway, worker = streams
    wrong = gateway.has(b"x" * 300_000 + SMALL[300_000:], sha=sha256_hex(SMALL))
    gateway.cut_after = 400_000
    with pytest.raises(MeshError, match="left while sending"):
        await worker.fetch(SMALL)
    gateway.exchange._sources.clear()
    gateway.has(SMALL)
    assert await worker.fetch(SMALL) == SMALL
    assert wrong
    assert gateway.needs()[-1] == 0


async def test_a_large_blob_goes_beside_the_mesh(sides: Sides) -> None:
    gateway, worker = sides
    gateway.has(LARGE)
    assert await worker.fetch(LARGE) == LARGE
    assert "blob" not in worker.kinds()
    assert TICKET in worker.kinds()


async def test_a_large_result_is_brought_beside_the_mesh(sides: Sides) -> None:
    gateway, worker = sides
    worker.has(LARGE)
    assert await gateway.fetch(LARGE) == LARGE
    assert gateway.kinds() == set()
    assert worker.kinds() == {TICKET}


async def test_many_large_blobs_cross_at_once(sides: Sides) -> None:
    gateway, worker = sides
    bodies = [random.Random(n).randbytes(1024 * 1024 + n * 100_000) for n in range(12)]
    gateway.has(*bodies[:6])
    worker.has(*bodies[6:])
    got = await asyncio.gather(
        *(worker.fetch(body) for body in bodies[:6]), *(gateway.fetch(body) for body in bodies[6:])
    )
    assert got == bodies
    assert not gateway.exchange.bulk._deals


@pytest.mark.parametrize("direction", ["to the worker", "to the gateway"])
async def test_a_port_that_is_not_reachable_costs_nothing_but_speed(
    sides: Sides, direction: str
) -> None:
    gateway, worker = sides
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gateway.listener.port = port
    source, target = (gateway, worker) if direction == "to the worker" else (worker, gateway)
    source.has(LARGE)
    assert await target.fetch(LARGE) == LARGE
    assert "blob" in target.kinds()
    # It is not tried again with each blob.
    heard = [kind for kind, _ in worker.heard].count(TICKET)
    source.has(LARGE[1:])
    assert await target.fetch(LARGE[1:]) == LARGE[1:]
    assert [kind for kind, _ in worker.heard].count(TICKET) == heard == 1


class Breaking:
    """A TCP relay that passes `limit` bytes towards the client and then cuts."""

    def __init__(self, port: int, limit: int, damage: bool = False) -> None:
        self._target = port
        self._limit = limit
        self._damage = damage
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, _ = self._server.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            server.sendall(client.recv(44))
            passed = 0
            while passed < self._limit:
                part = bytearray(server.recv(min(65536, self._limit - passed)))
                if not part:
                    return
                if self._damage:
                    part[0] ^= 1
                passed += len(part)
                with contextlib.suppress(OSError):
                    client.sendall(part)

    def close(self) -> None:
        self._server.close()
        self._thread.join(5)


async def test_a_bulk_connection_that_breaks_is_gone_on_with_by_the_stream(sides: Sides) -> None:
    gateway, worker = sides
    gateway.has(LARGE)
    relay = Breaking(gateway.listener.port, 2 * 1024 * 1024)
    gateway.listener.port = relay.port
    try:
        assert await worker.fetch(LARGE) == LARGE
    finally:
        relay.close()
    first, second = gateway.needs()
    assert first == 0
    assert second == 7 * CHUNK_BYTES


@pytest.mark.slow
async def test_bytes_changed_on_the_way_are_never_taken(sides: Sides) -> None:
    gateway, worker = sides
    gateway.has(LARGE)
    relay = Breaking(gateway.listener.port, len(LARGE) * 2, damage=True)
    gateway.listener.port = relay.port
    try:
        assert await worker.fetch(LARGE) == LARGE
    finally:
        relay.close()
    assert gateway.needs() == [0, 0]


async def test_only_who_has_the_ticket_is_served_and_only_once(sides: Sides) -> None:
    gateway, _ = sides
    server = gateway.exchange.bulk
    incoming = Incoming(sha256_hex(LARGE), len(LARGE))
    with server.offering("worker", data=LARGE) as deal:
        ticket = deal.ticket
        for guess in (
            Ticket(bytes(16), ticket.key, ticket.port),
            Ticket(ticket.id[:-1] + bytes([ticket.id[-1] ^ 1]), ticket.key, ticket.port),
        ):
            with pytest.raises(MeshError):
                await download("127.0.0.1", guess, Incoming(incoming.sha, len(LARGE)))
        await download("127.0.0.1", ticket, incoming)
        assert await incoming.verified() == LARGE
        with pytest.raises(MeshError):
            await download("127.0.0.1", ticket, Incoming(incoming.sha, len(LARGE)))
    with server.offering("worker", data=LARGE) as deal:
        wrong_key = Ticket(deal.ticket.id, bytes(32), deal.ticket.port)
        with pytest.raises(MeshError):
            await download("127.0.0.1", wrong_key, Incoming(incoming.sha, len(LARGE)))
        # Who only knows the id does not use it up.
        again = Incoming(incoming.sha, len(LARGE))
        await download("127.0.0.1", deal.ticket, again)
        assert await again.verified() == LARGE


async def taken_in_part(ticket: Ticket) -> socket.socket:
    """Connect with a ticket and read a little, as a slow peer does."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", ticket.port))
    head = b"SHB3" + ticket.id + bytes(8)
    proof = AESGCM(ticket.key).encrypt(b"\xff" * 12, b"", head)
    await loop.sock_sendall(connection, head + proof)
    assert await loop.sock_recv(connection, 1)
    return connection


async def rest_of(connection: socket.socket) -> int:
    """Read until the other side closes; returns how many bytes came."""
    loop, count = asyncio.get_running_loop(), 0
    with contextlib.suppress(ConnectionResetError):
        while part := await loop.sock_recv(connection, 65536):
            count += len(part)
    return count


async def test_a_transfer_ends_with_the_session_of_its_peer(sides: Sides) -> None:
    """Be it that the peer left, was banned or has a revoked key."""
    gateway, _ = sides
    data = bytes(64 * 1024 * 1024)
    with gateway.exchange.bulk.offering("worker", data=data) as deal:
        connection = await taken_in_part(deal.ticket)
        gateway.exchange.peer_gone("somebody else")
        await asyncio.sleep(0)
        assert not deal.ended.is_set()
        gateway.exchange.peer_gone("worker")
        async with asyncio.timeout(30):
            await deal.ended.wait()
            assert await rest_of(connection) < len(data) // 2
        connection.close()

        async def opened() -> int:
            return gateway.listener._open

        await until(opened, lambda count: count == 0)
        # And a ticket that was not used yet leads nowhere any more.
        with pytest.raises(MeshError):
            await download("127.0.0.1", deal.ticket, Incoming(sha256_hex(data), len(data)))


async def test_what_a_peer_brings_ends_with_its_session(sides: Sides) -> None:
    gateway, worker = sides
    incoming = Incoming(sha256_hex(LARGE), len(LARGE))
    worker.has(LARGE)
    with gateway.exchange.bulk.offering("worker", incoming=incoming) as deal:
        fields = {**deal.ticket.to_wire(), "sha": incoming.sha, "wanted": True}
        worker.exchange.on_ticket("gateway", fields)
        (uploading,) = worker.exchange._uploads["gateway"]
        worker.exchange.peer_gone("gateway")
        await asyncio.wait([uploading], timeout=90)
        assert uploading.cancelled()
        assert not incoming.is_complete


async def test_only_its_peer_refuses_a_ticket(sides: Sides) -> None:
    gateway, _ = sides
    incoming = Incoming(sha256_hex(LARGE), len(LARGE))
    with gateway.exchange.bulk.offering("worker", data=LARGE) as deal:
        gateway.exchange.on_ticket_refused("somebody else", {"id": deal.ticket.id})
        await download("127.0.0.1", deal.ticket, incoming)
        assert await incoming.verified() == LARGE


async def test_no_address_takes_all_connections(sides: Sides) -> None:
    gateway, worker = sides
    gateway.has(LARGE)
    server = gateway.listener
    strangers = []
    try:
        for _ in range(300):
            strangers.append(
                socket.create_connection(
                    ("127.0.0.1", server.port), source_address=("127.0.0.2", 0)
                )
            )
            await asyncio.sleep(0)

        async def opened() -> int:
            return server._open

        await until(opened, lambda count: count > 0)
        assert await worker.fetch(LARGE) == LARGE
        assert worker.kinds() == {TICKET}
        assert server._open <= 72
    finally:
        for stranger in strangers:
            stranger.close()


async def test_a_sender_of_other_bytes_or_of_too_many_is_found_out(sides: Sides) -> None:
    gateway, _ = sides
    incoming = Incoming(sha256_hex(LARGE), len(LARGE))
    with gateway.exchange.bulk.offering("worker", incoming=incoming) as deal:
        await upload("127.0.0.1", deal.ticket, LARGE[:-1] + b"?")
        await deal.ended.wait()
    with pytest.raises(MeshError, match="are not"):
        await incoming.verified()
    with gateway.exchange.bulk.offering("worker", incoming=incoming) as deal:
        with contextlib.suppress(MeshError):
            await upload("127.0.0.1", deal.ticket, LARGE + b"more")
        await deal.ended.wait()
    assert incoming.offset <= len(LARGE)


async def test_strangers_that_connect_and_say_nothing_do_no_harm(sides: Sides) -> None:
    gateway, worker = sides
    gateway.has(LARGE)
    port = gateway.listener.port
    strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(7)]
    strangers[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n    ")
    try:
        assert await worker.fetch(LARGE) == LARGE
    finally:
        for stranger in strangers:
            stranger.close()


@pytest.mark.parametrize(
    "change", [{"id": "text"}, {"id": b"short"}, {"key": b"k" * 31}, {"port": 0}, {"port": 70000},
               {"port": True}, {"key": None}],
)  # fmt: skip
def test_a_ticket_of_the_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    fields = {**Ticket(bytes(16), bytes(32), 4002).to_wire(), **change}
    with pytest.raises((TypeError, ValueError)):
        Ticket.from_wire(fields)


def test_a_ticket_may_say_more_and_what_it_lacks_is_named() -> None:
    ticket = Ticket(bytes(16), bytes(32), 4002)
    assert Ticket.from_wire({**ticket.to_wire(), **ADDED}) == ticket
    for name in ticket.to_wire():
        fields = {each: value for each, value in ticket.to_wire().items() if each != name}
        with pytest.raises(KeyError, match=f"'{name}'"):
            Ticket.from_wire(fields)


def test_a_server_that_is_not_listening_gives_no_tickets() -> None:
    assert not BulkServer(DirectListener(lambda _ip: False)).is_listening
