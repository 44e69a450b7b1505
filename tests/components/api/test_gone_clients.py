"""A client that leaves in the middle is no fault of the hub: nothing but a line for debugging."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm_hub.components.api.connections import Connection
from swarm_hub.models.event import EventType, NewEvent
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, live

# Far more than the buffers of both ends of a connection hold.
LARGE_BYTES = 64 * 1024 * 1024
ARCHIVE = f"""
import mmap

from swarm_hub.endpoints import Blob, Scope, View
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({{}}, dict)


async def async_setup(hub, config):
    async def whole(request):
        return Blob(mmap.mmap(-1, {LARGE_BYTES}))

    hub.endpoints.add_view(View("GET", "/archive", whole, Scope.READ, bytes))
    return True
"""
MANIFEST = {
    "domain": "archive",
    "name": "Archive",
    "documentation": "none",
    "version": "1",
    "serves": ["/archive"],
}


@pytest.fixture
async def hub(swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> RunningHub:
    caplog.set_level(logging.DEBUG)
    home = tmp_path / "gateway" / "custom_components" / "archive"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text(ARCHIVE)
    (home / "manifest.json").write_text(json.dumps(MANIFEST))
    return await swarm.gateway(extra="archive:\n")


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], "asyncio.Future[None]"]:
    """Return what waits until the hub has told that a client left, and checks how."""

    async def wait(what: str) -> None:
        async def seen() -> list[logging.LogRecord]:
            return [record for record in caplog.records if what in record.getMessage()]

        await until(seen, bool)
        loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
        traced = [record for record in caplog.records if record.exc_info]
        assert not loud, [record.getMessage() for record in loud]
        assert not traced, [record.getMessage() for record in traced]

    return lambda what: asyncio.ensure_future(wait(what))


Told = Callable[[str], "asyncio.Future[None]"]


def head(hub: RunningHub, request: str, *more: str) -> bytes:
    lines = [f"{request} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {hub.token}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def connect(hub: RunningHub) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(hub.url.rpartition(":")[2]))


def leave(writer: asyncio.StreamWriter, way: str) -> None:
    """Close in order, or reset the connection as a client does whose process was killed."""
    if way == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


WAYS = pytest.mark.parametrize("way", ["close", "reset"])


@WAYS
async def test_while_it_reads_a_large_answer(hub: RunningHub, told: Told, way: str) -> None:
    reader, writer = await connect(hub)
    writer.write(head(hub, "GET /api/v1/archive"))
    await reader.readexactly(1000)
    leave(writer, way)
    await told("GET /api/v1/archive: the client left")
    assert (await call(hub, "GET", "/health"))[0] == 200


@WAYS
@pytest.mark.parametrize(
    ("request_line", "content_type", "begin"),
    [
        ("POST /api/v1/jobs", "multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: '
         b'form-data; name="dataset"; filename="0.bin"\r\n\r\n'),
        ("POST /api/v1/jobs", "application/json", b"{"),
        ("POST /api/v1/invites", "application/json", b"{"),
    ],
)  # fmt: skip
async def test_while_it_sends_a_body(
    hub: RunningHub, told: Told, way: str, request_line: str, content_type: str, begin: bytes
) -> None:
    reader, writer = await connect(hub)
    more = (f"Content-Type: {content_type}", "Content-Length: 3000000", "Expect: 100-continue")
    writer.write(head(hub, request_line, *more) + begin + b" " * 100_000)
    await writer.drain()
    # Its answer to `Expect` tells that the hub has begun with the request.
    await reader.readuntil(b"100 Continue\r\n\r\n")
    leave(writer, way)
    await told(f"{request_line}: the client left")


async def test_before_the_hub_has_begun_with_its_body(
    hub: RunningHub, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a freeze of the hub, in which a connection became too old to be kept."""
    hear = Connection.data_received

    def hear_and_cut(connection: Connection, data: bytes) -> None:
        hear(connection, data)
        if connection.transport is not None:
            connection.transport.abort()

    monkeypatch.setattr(Connection, "data_received", hear_and_cut)
    _, writer = await connect(hub)
    more = ("Content-Type: application/json", "Content-Length: 1000")
    writer.write(head(hub, "POST /api/v1/invites", *more) + b"{")
    await told("POST /api/v1/invites: the client left")
    writer.close()


UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==",
)  # fmt: skip


@WAYS
async def test_before_it_authenticates_a_websocket(hub: RunningHub, told: Told, way: str) -> None:
    reader, writer = await connect(hub)
    writer.write(head(hub, "GET /api/websocket", *UPGRADE))
    await reader.readuntil(b"auth_required")
    leave(writer, way)
    await told("GET /api/websocket: the client left")


async def test_while_a_websocket_has_more_to_read_than_it_takes(
    hub: RunningHub, told: Told
) -> None:
    async with live(hub) as client:
        await client.command("subscribe_events")
        transport = client.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(300):
            event = NewEvent(EventType.COMPONENT_FAILED, {"text": "x" * 100_000})
            await hub.hub.store.commit([], [event])
        transport.abort()  # type: ignore[attr-defined]
        await told("A websocket's client left")
    assert (await call(hub, "GET", "/health"))[0] == 200


async def test_when_its_websocket_is_gone_others_still_get_events(
    hub: RunningHub, told: Told
) -> None:
    async with live(hub) as stays, live(hub) as goes:
        for client in (stays, goes):
            assert (await client.command("subscribe_events"))["success"]
        transport = goes.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()  # type: ignore[attr-defined]
        for number in range(3):
            event = NewEvent(EventType.COMPONENT_FAILED, {"number": number})
            await hub.hub.store.commit([], [event])
            assert (await stays.receive())["event"]["data"]["number"] == number
