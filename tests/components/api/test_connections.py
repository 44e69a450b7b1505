"""Connections that stay silent or are too many: cut and refused, and the hub serves on."""

import asyncio

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.api import connections as module
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call


async def started(swarm: Swarm, options: str = "") -> tuple[RunningHub, int]:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}{options}}}\n"
    return await swarm.start("gateway", yaml, port), port


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
async def test_a_head_that_does_not_come_is_cut(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(module, "_HEAD_WITHIN_S", 0.2)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.05)
    _, port = await started(swarm)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    async with asyncio.timeout(30):
        assert await _rest(reader) == b""
    writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("rate", ["silent", "a byte now and then"])
async def test_a_body_that_does_not_come_is_cut(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(module, "_BYTE_WITHIN_S", 0.3 if rate == "silent" else 1000)
    monkeypatch.setattr(module, "_AVERAGE_AFTER_S", 0.3 if rate != "silent" else 1000)
    hub, port = await started(swarm)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer " + hub.token.encode()
        + b"\r\n\r\n"
    )  # fmt: skip

    async def drip() -> None:
        while rate != "silent":
            writer.write(b" ")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(30):
        assert await _rest(reader) == b""
    dripping.cancel()
    writer.close()


async def test_a_connection_between_two_requests_is_not_cut_by_the_head_rule(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEAD_WITHIN_S", 0.2)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.05)
    hub, port = await started(swarm)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        f"GET /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {hub.token}\r\n\r\n"
    ).encode()
    for _ in range(2):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        length = next(
            int(line.split(b":")[1])
            for line in head.splitlines()
            if b"content-length" in line.lower()
        )
        await reader.readexactly(length)
        await asyncio.sleep(0.5)
    writer.close()


async def test_too_many_connections_are_refused_and_the_others_served(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    hub, port = await started(swarm, ", connections: 20, connections_per_ip: 12")
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
    ended = 0
    async with asyncio.timeout(30):
        for reader, _ in held[12:]:
            assert await _rest(reader) == b""
            ended += 1
    assert ended == 28
    assert sum("too many of its address" in line for line in caplog.messages) == 1
    held[0][1].close()
    await held[0][1].wait_closed()
    async with asyncio.timeout(30):
        while True:
            try:
                code, _ = await call(hub, "GET", "/health")
                break
            except OSError:
                continue
    assert code == 200
    for _, writer in held:
        writer.close()


async def test_what_is_no_http_does_not_fill_the_log(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    hub, port = await started(swarm)
    answers = []
    for said in (b"\x16\x03\x01\x02\x00\x01", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        if said.startswith(b"\x16"):
            # It waits for more of what may still become a request.
            writer.write_eof()
        answer = await _rest(reader)
        writer.close()
        answers.append(answer)
        assert b"aiohttp" not in answer
        assert b"Traceback" not in answer
    # What is not even a beginning of HTTP may go without an answer.
    assert answers[1].startswith(b"HTTP/1.")
    assert b'"code":"bad_http"' in answers[1]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert (await call(hub, "GET", "/health"))[0] == 200
