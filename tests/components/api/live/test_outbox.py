"""What waits for a client: sent in batches, compressed where it pays, and never without end."""

import asyncio
import json
import zlib
from typing import Any

import aiohttp
import pytest

from swarm_hub.components.api.live import outbox as outbox_module
from swarm_hub.components.api.live.frames import compressed_frame, text_frame
from swarm_hub.endpoints import Command, CommandCall, Scope
from swarm_hub.models.event import EphemeralEvent
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import Live, live


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def says(gateway: RunningHub, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the hub have a command that returns a text, or the beginning of it."""

    async def answer(call: CommandCall) -> str:
        return text[: call.params.get("n_chars")]

    monkeypatch.setattr(gateway.hub.endpoints, "_sealed", False)
    params = {"n_chars": int}
    gateway.hub.endpoints.add_command(Command("test/say", answer, Scope.READ, params, str))


def pause(client: Live) -> Any:
    """Have a client read nothing more; returns its transport."""
    response: Any = client.socket._response
    response.connection.transport.pause_reading()
    return response.connection.transport


@pytest.mark.parametrize("n_bytes", [0, 125, 126, 65_535, 65_536])
def test_a_frame_says_how_long_it_is(n_bytes: int) -> None:
    frame = text_frame(bytes(n_bytes))
    head = {0: 2, 125: 2, 126: 4, 65_535: 4, 65_536: 10}[n_bytes]
    assert frame[0] == 0x81
    assert len(frame) == head + n_bytes


@pytest.mark.parametrize("window_bits", [9, 15])
def test_a_compressed_frame_needs_no_context(window_bits: int) -> None:
    text = json.dumps([{"number": number} for number in range(1000)]).encode()
    frame = compressed_frame(text, window_bits)
    assert frame[0] == 0xC1
    assert len(frame) < len(text) / 2
    for _ in range(2):
        unpacked = zlib.decompressobj(-window_bits).decompress(frame[4:] + b"\x00\x00\xff\xff")
        assert unpacked == text


async def test_a_client_reads_what_it_was_sent_however_it_asked_for_it(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "".join(str(number) for number in range(60_000))
    says(gateway, monkeypatch, said)
    label = {str(number): "x" * 199 for number in range(16)}
    for offered in (0, 9, 12, 15):
        async with live(gateway, compress=offered, max_msg_size=0) as client:
            for n_chars in (100, 10_000, 200_000):
                answer = await client.command("test/say", n_chars=n_chars)
                assert answer["result"] == said[:n_chars]
            # What the client compresses is read.
            assert (await client.command("subscribe_events", label=label))["success"]
            assert (await client.command("ping"))["type"] == "pong"


async def test_events_that_wait_together_are_compressed_together(gateway: RunningHub) -> None:
    async with live(gateway, compress=15) as client:
        await client.command("supported_features", features={"coalesce_messages": 1})
        await client.command("subscribe_events")
        for number in range(200):
            gateway.hub.bus.fire(EphemeralEvent("telemetry", {"number": number}))
        seen: list[Any] = []
        while len(seen) < 200:
            message = await client.receive()
            seen += message if isinstance(message, list) else [message]
        assert [each["event"]["data"]["number"] for each in seen] == list(range(200))


@pytest.mark.parametrize("offered", [0, 15])
async def test_a_client_that_reads_nothing_is_told_and_cut_and_costs_no_more(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch, offered: int
) -> None:
    monkeypatch.setattr(outbox_module, "_TELL_WITHIN_S", 0.2)
    says(gateway, monkeypatch, "x" * 1_000_000)
    async with live(gateway, compress=offered) as client, live(gateway) as other:
        transport = pause(client)
        for number in range(1, 40):
            await client.socket.send_json({"id": number, "type": "test/say"})
        # It was cut although it never read that it would be; nobody else notices.
        await until(lambda: _gone(transport), lambda gone: gone)
        assert (await other.command("ping"))["type"] == "pong"


async def _gone(transport: asyncio.Transport) -> bool:
    # What was cut can't be written to.
    transport.write(b"\x8a\x80\x00\x00\x00\x00")
    return transport.is_closing()


async def test_a_client_whose_answers_wait_is_let_go_by_their_size(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_PENDING_MAX_BYTES", 100_000)
    says(gateway, monkeypatch, "x" * 60_000)
    async with live(gateway) as client:
        pings = [{"id": number, "type": "test/say"} for number in range(1, 9)]
        await client.socket.send_json(pings)
        while (message := await client.socket.receive(timeout=90)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert client.socket.close_code == 1008
        assert "read faster" in str(message.extra)
