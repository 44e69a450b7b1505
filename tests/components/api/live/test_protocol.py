"""The live view: Home Assistant's protocol, and no durable event lost or repeated."""

import asyncio
import struct
import time
from typing import Any

import aiohttp
import pytest

from swarm_hub.models.event import EphemeralEvent, EventType, NewEvent
from swarm_hub.storage.queries import events
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import Live, finished, live, submit


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


async def commit(hub: RunningHub, count: int, first: int = 0) -> None:
    """Commit numbered durable events."""
    for number in range(first, first + count):
        event = NewEvent(EventType.COMPONENT_FAILED, {"number": number})
        await hub.hub.store.commit([], [event])


async def numbers(client: Live, count: int) -> list[int]:
    """Return the numbers of the next durable events."""
    return [(await client.receive())["event"]["data"]["number"] for _ in range(count)]


async def closes(client: Live) -> int | None:
    """Return the code with which the server closes."""
    while True:
        message = await client.socket.receive(timeout=90)
        if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            return client.socket.close_code


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "auth", "access_token": "swh_wrong"}',
        '{"type": "auth", "access_token": 5}',
        '{"type": "auth"}',
        '{"type": "auth", "access_token": "swh_wrong", "other": 1}',
        '{"type": "authenticate", "access_token": "swh_wrong"}',
        "[]",
        "{",
        "[" * 60_000,
        '{"id": 1, "type": "subscribe_events"}',
    ],
)
async def test_without_a_valid_token_nothing_is_said(gateway: RunningHub, first: str) -> None:
    async with live(gateway, token=None) as client:
        await client.socket.send_str(first)
        assert (await client.receive())["type"] == "auth_invalid"
        await closes(client)


async def test_a_page_of_another_site_is_refused(gateway: RunningHub) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with live(gateway, headers={"Origin": "https://evil.example"}):
            pass
    assert caught.value.status == 403


async def test_ping_is_answered_with_its_id(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        assert await client.command("ping") == {"id": 1, "type": "pong"}
        assert await client.command("ping") == {"id": 2, "type": "pong"}


async def test_ids_must_increase(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("ping")
        for number in (1, 0, -4):
            await client.socket.send_json({"id": number, "type": "ping"})
            assert (await client.receive())["error"]["code"] == "id_reuse"
        await client.socket.send_json({"id": 9, "type": "ping"})
        assert (await client.receive())["type"] == "pong"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{", "invalid_format"),
        ("[]", "invalid_format"),
        ('{"type": "ping"}', "invalid_format"),
        ('{"id": "1", "type": "ping"}', "invalid_format"),
        ('{"id": true, "type": "ping"}', "invalid_format"),
        ('{"id": 1}', "unknown_command"),
        ('{"id": 1, "type": "reboot"}', "unknown_command"),
        ('{"id": 1, "type": "subscribe_events", "since": -1}', "invalid_format"),
        ('{"id": 1, "type": "subscribe_events", "since": "0"}', "invalid_format"),
        ('{"id": 1, "type": "subscribe_events", "since": 1e3}', "invalid_format"),
        ('{"id": 1, "type": "unsubscribe_events", "subscription": 7}', "not_found"),
        ('{"id": 1, "type": "unsubscribe_events", "subscription": [1]}', "invalid_format"),
        ('{"id": 1, "type": "unsubscribe_events", "subscription": {}}', "invalid_format"),
    ],
)
async def test_a_wrong_command_is_answered_and_the_connection_stays(
    gateway: RunningHub, command: str, code: str
) -> None:
    async with live(gateway) as client:
        await client.socket.send_str(command)
        answer = await client.receive()
        assert (answer["type"], answer["success"]) == ("result", False)
        assert answer["error"]["code"] == code
        await client.socket.send_json({"id": 5, "type": "ping"})
        assert await client.receive() == {"id": 5, "type": "pong"}


async def test_since_replays_from_the_store_and_then_goes_on(gateway: RunningHub) -> None:
    await commit(gateway, 5)
    start = gateway.hub.store.last_seq - 5
    async with live(gateway) as client:
        answer = await client.command("subscribe_events", since=start + 2)
        assert answer["result"] == {"last_seq": start + 5, "events_lost": False}
        await commit(gateway, 2, first=5)
        assert await numbers(client, 5) == [2, 3, 4, 5, 6]


async def test_without_since_only_new_events_come(gateway: RunningHub) -> None:
    await commit(gateway, 3)
    async with live(gateway) as client:
        await client.command("subscribe_events")
        await commit(gateway, 1, first=3)
        assert await numbers(client, 1) == [3]


async def test_every_durable_event_comes_once_across_reconnects(gateway: RunningHub) -> None:
    """The writer never pauses while the client leaves and comes back."""
    total = 1500
    since = gateway.hub.store.last_seq
    first = since

    async def write() -> None:
        for number in range(total):
            event = NewEvent(EventType.COMPONENT_FAILED, {"number": number})
            gateway.hub.store.commit([], [event])
            if number % 7 == 0:
                await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    seqs: list[int] = []
    rounds = 0
    while len(seqs) < total:
        rounds += 1
        async with live(gateway) as client:
            await client.command("subscribe_events", since=since)
            count = min(200, total - len(seqs))
            seqs += [(await client.receive())["event"]["seq"] for _ in range(count)]
            since = seqs[-1]
    await writing
    assert seqs == list(range(first + 1, first + total + 1))
    assert rounds == 8


async def test_a_long_replay_goes_page_by_page(gateway: RunningHub) -> None:
    start = gateway.hub.store.last_seq
    for _ in range(3):
        new = [NewEvent(EventType.COMPONENT_FAILED, {"number": 0}) for _ in range(900)]
        await gateway.hub.store.commit([], new)
    async with live(gateway) as client:
        await client.command("subscribe_events", since=start)
        seqs = [(await client.receive())["event"]["seq"] for _ in range(2700)]
        assert seqs == list(range(start + 1, start + 2701))


async def test_a_replay_longer_than_the_queue_is_not_too_slow(gateway: RunningHub) -> None:
    start = gateway.hub.store.last_seq
    for _ in range(6):
        new = [NewEvent(EventType.COMPONENT_FAILED, {"number": 0}) for _ in range(1000)]
        await gateway.hub.store.commit([], new)
    async with live(gateway) as client:
        await client.command("subscribe_events", since=start)
        seqs = [(await client.receive())["event"]["seq"] for _ in range(6000)]
        assert seqs[-1] == start + 6000


async def test_pruned_events_are_told_as_lost(gateway: RunningHub) -> None:
    await commit(gateway, 6)
    start = gateway.hub.store.last_seq - 6
    gateway.clock.offset_s += 1000
    await commit(gateway, 1, first=6)
    await gateway.hub.store.change(events.prune, gateway.clock.time() - 500, 1000)
    async with live(gateway) as client:
        answer = await client.command("subscribe_events", since=start)
        assert answer["result"]["events_lost"] is True
        assert await numbers(client, 1) == [6]


async def test_a_seq_of_another_store_is_told_as_lost(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        answer = await client.command("subscribe_events", since=10**9)
        assert answer["result"]["events_lost"] is True


async def test_unsubscribed_is_quiet(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events")
        assert (await client.command("unsubscribe_events", subscription=1))["success"]
        await commit(gateway, 1)
        assert (await client.command("ping"))["type"] == "pong"


async def test_two_subscriptions_each_get_the_event(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events")
        await client.command("subscribe_events")
        await commit(gateway, 1)
        got = [await client.receive(), await client.receive()]
        assert sorted(message["id"] for message in got) == [1, 2]


async def test_ephemeral_events_have_no_seq(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events")
        gateway.hub.bus.fire(EphemeralEvent("telemetry", {"node_id": "x"}))
        event = (await client.receive())["event"]
        assert event.keys() == {"event_type", "time_fired", "data"}
        assert event["event_type"] == "telemetry"


async def test_messages_are_coalesced_where_the_client_takes_it(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        features = {"coalesce_messages": 1}
        assert (await client.command("supported_features", features=features))["success"]
        await client.command("subscribe_events")
        for number in range(50):
            gateway.hub.bus.fire(EphemeralEvent("telemetry", {"number": number}))
        seen: list[Any] = []
        batches = 0
        while len(seen) < 50:
            message = await client.receive()
            batches += isinstance(message, list)
            seen += message if isinstance(message, list) else [message]
        assert [each["event"]["data"]["number"] for each in seen] == list(range(50))
        assert batches >= 1


async def test_a_client_that_never_reads_is_let_go(gateway: RunningHub) -> None:
    async with live(gateway) as slow:
        await slow.command("subscribe_events")
        for _ in range(5000):
            gateway.hub.bus.fire(EphemeralEvent("telemetry", {"text": "x" * 200}))
        assert await closes(slow) == 1008
    async with live(gateway) as client:
        assert (await client.command("ping"))["type"] == "pong"


async def test_a_stopping_hub_says_goodbye(swarm: Swarm, gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events")
        code, _ = await asyncio.gather(closes(client), swarm.stop(gateway))
        assert code == 1001


async def test_a_client_that_does_not_answer_holds_up_no_stop(
    swarm: Swarm, gateway: RunningHub
) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events")
        started = time.monotonic()
        await swarm.stop(gateway)
        assert time.monotonic() - started < 3
        with pytest.raises(aiohttp.ClientConnectionError):
            async with live(gateway):
                pass


async def test_a_job_is_followed_live(swarm: Swarm, modules: dict[str, bytes]) -> None:
    gateway = await swarm.gateway()
    async with live(gateway) as client:
        await client.command("subscribe_events")
        await swarm.worker("worker")
        _, body = await submit(
            gateway, modules["sum"], struct.pack("<3i", 1, 2, 3), {"shard_size": 3}
        )
        await finished(gateway, body["job_id"])
        kinds: list[str] = []
        while "job_completed" not in kinds:
            kinds.append((await client.receive())["event"]["event_type"])
        durable = [kind for kind in kinds if kind not in ("telemetry", "job_progress")]
        assert "node_up" in durable
        durable.remove("node_up")
        assert durable == [
            "job_queued",
            "job_running",
            "shard_assigned",
            "shard_done",
            "job_completed",
        ]
