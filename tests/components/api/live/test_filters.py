"""`subscribe_events` with filters: what comes, what does not, and what is refused."""

import contextlib
import struct
import time
from typing import Any

import pytest

from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from swarm_hub.models.event import EphemeralEvent, EventType, NewEvent
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import Live, call, finished, live, submit

JOB_A, JOB_B = "01JA", "01JB"


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def token(hub: RunningHub, name: str) -> str:
    file = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    return file.create(name, "submit", time.time(), owner=name)[1]


async def commit_a_mixture(hub: RunningHub) -> None:
    """Commit events of two jobs, two nodes and neither."""
    for kind, job_id, data in [
        (EventType.JOB_QUEUED, JOB_A, {}),
        (EventType.SHARD_ASSIGNED, JOB_A, {"node_id": "n1"}),
        (EventType.SHARD_ASSIGNED, JOB_B, {"node_id": "n2"}),
        (EventType.NODE_DOWN, None, {"node_id": "n1"}),
        (EventType.COMPONENT_FAILED, None, {}),
        (EventType.JOB_COMPLETED, JOB_B, {}),
    ]:
        of_job = {} if job_id is None else {"job_id": job_id}
        await hub.hub.store.commit([], [NewEvent(kind, {**of_job, **data}, job_id)])


ALL = [
    "job_queued", "shard_assigned", "shard_assigned", "node_down", "component_failed",
    "job_completed",
]  # fmt: skip
CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL),
    ({"event_type": "node_down"}, ["node_down"]),
    ({"event_type": ["job_queued", "job_completed"]}, ["job_queued", "job_completed"]),
    ({"job_id": JOB_A}, ["job_queued", "shard_assigned"]),
    ({"node_id": "n1"}, ["shard_assigned", "node_down"]),
    ({"node_id": "n1", "job_id": JOB_A}, ["shard_assigned"]),
    ({"node_id": "n1", "event_type": ["node_down", "node_up"]}, ["node_down"]),
    ({"label": {"team": "blue"}}, []),
]


async def until_pong(client: Live) -> tuple[list[str], dict[str, Any]]:
    """Return the types of the events that came before a ping is answered, and the answer."""
    answer = await client.command("ping")
    kinds = []
    while answer["type"] == "event":
        kinds.append(answer["event"]["event_type"])
        answer = await client.receive()
    return kinds, answer


async def test_live_and_replayed_only_what_is_wanted_comes(gateway: RunningHub) -> None:
    start = gateway.hub.store.last_seq
    async with contextlib.AsyncExitStack() as clients:
        connected = []
        for fields, _ in CASES:
            client = await clients.enter_async_context(live(gateway))
            await client.command("subscribe_events", **fields)
            connected.append(client)
        await commit_a_mixture(gateway)
        for client, (fields, expected) in zip(connected, CASES, strict=True):
            kinds: list[str] = []
            seen = 0
            # Events of jobs that have to be looked up come a moment later.
            while seen < gateway.hub.store.last_seq:
                more, pong = await until_pong(client)
                kinds, seen = kinds + more, pong["last_seq"]
            assert kinds == expected, fields
    for fields, expected in CASES:
        async with live(gateway) as client:
            await client.command("subscribe_events", since=start, **fields)
            replayed = [(await client.receive())["event"]["event_type"] for _ in expected]
            assert replayed == expected, fields


async def test_passing_events_are_filtered_too(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events", event_type="telemetry", node_id="b")
        for node_id in ("a", "b", "c"):
            gateway.hub.bus.fire(EphemeralEvent("telemetry", {"node_id": node_id}))
        gateway.hub.bus.fire(EphemeralEvent("job_progress", {"node_id": "b", "job_id": JOB_A}))
        assert (await client.receive())["event"]["data"] == {"node_id": "b"}
        assert (await until_pong(client))[0] == []


NOT_UNDERSTOOD: list[tuple[dict[str, Any], str]] = [
    ({"evnt_type": "job_queued"}, "evnt_type: unknown key; did you mean event_type?"),
    ({"foo": 1}, "foo: unknown key"),
    ({"event_type": "job_quued"}, "known: automation_notified, component_failed"),
    ({"event_type": ["job_queued", 5]}, "unknown type of events 5"),
    ({"event_type": []}, "expected a type of events"),
    ({"event_type": ["job_queued"] * 65}, "1 to 64"),
    ({"event_type": "*"}, "unknown type of events"),
    ({"event_type": None}, "unknown type of events"),
    ({"job_id": ""}, "job_id: expected an id"),
    ({"job_id": "x" * 201}, "job_id: expected an id"),
    ({"job_id": ["a"]}, "job_id: expected an id"),
    ({"node_id": 5}, "node_id: expected an id"),
    ({"label": "team"}, "label: expected 1 to 16 labels"),
    ({"label": {}}, "label: expected 1 to 16 labels"),
    ({"label": {"team": 5}}, "label: expected texts"),
    ({"label": {"x" * 201: ""}}, "label: expected texts"),
    ({"label": {str(n): "" for n in range(17)}}, "label: expected 1 to 16 labels"),
]


async def test_a_filter_that_is_not_understood_is_refused(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        for fields, said in NOT_UNDERSTOOD:
            answer = await client.command("subscribe_events", **fields)
            assert answer["success"] is False, fields
            assert answer["error"]["code"] == "invalid_format", fields
            assert said in answer["error"]["message"], fields
        # It subscribed to nothing.
        await commit_a_mixture(gateway)
        kinds, pong = await until_pong(client)
        assert (kinds, "last_seq" in pong) == ([], False)


UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    ("ping", {"x": 1}),
    ("unsubscribe_events", {"subscription": 1, "x": 1}),
    ("unsubscribe_events", {}),
    ("unsubscribe_events", {"subscription": True}),
    ("supported_features", {"features": {}, "x": 1}),
    ("supported_features", {"features": [1]}),
    ("supported_features", {"features": {"coalesce_messages": "1"}}),
    ("supported_features", {"features": {str(n): 1 for n in range(65)}}),
    ("get_config", {"x": 1}),
]


async def test_an_unknown_key_of_any_message_is_an_error(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        for kind, fields in UNKNOWN:
            answer = await client.command(kind, **fields)
            assert (answer["type"], answer["success"]) == ("result", False), (kind, fields)
            assert answer["error"]["code"] == "invalid_format", (kind, fields)
        assert (await client.command("supported_features", features={"new": 7}))["success"]


async def test_events_are_found_by_the_labels_of_their_job(
    swarm: Swarm, gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    await swarm.worker("worker")
    ada, bob = token(gateway, "ada"), token(gateway, "bob")
    blue = {"shard_size": 2, "labels": {"team": "blue", "stage": "x"}}
    async with live(gateway) as by_label, live(gateway, ada) as hers, live(gateway, bob) as his:
        await by_label.command("subscribe_events", label={"team": "blue"})
        await hers.command("subscribe_events", label={"team": "blue", "stage": "x"})
        await his.command("subscribe_events", label={"team": "blue"})
        data = struct.pack("<4i", 1, 2, 3, 4)
        _, red = await submit(gateway, modules["sum"], data, {"labels": {"team": "red"}}, token=ada)
        await finished(gateway, red["job_id"])
        _, job = await submit(gateway, modules["sum"], data, blue, token=ada)
        await finished(gateway, job["job_id"])
        heard = []
        for client in (by_label, hers):
            kinds: list[str] = []
            while "job_completed" not in kinds:
                event = (await client.receive())["event"]
                assert event["data"]["job_id"] == job["job_id"]
                kinds.append(event["event_type"])
            heard.append([kind for kind in kinds if kind != "job_progress"])
        assert heard[0] == heard[1]
        assert heard[0].count("shard_done") == 2
        # Whose job it is counts whatever it is called.
        assert (await until_pong(his))[0] == []
    # What happened before is found by labels, too.
    async with live(gateway, ada) as hers:
        await hers.command("subscribe_events", since=0, label={"team": "blue"})
        again = [(await hers.receive())["event"]["event_type"] for _ in heard[1]]
        assert again == heard[1]


async def test_live_events_of_this_gateways_jobs_cost_no_read_of_the_store(
    swarm: Swarm, gateway: RunningHub, modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_is_looked_up(job_ids: list[str]) -> dict[str, Any]:
        raise AssertionError(f"looked up {job_ids}")

    monkeypatch.setattr(gateway.hub.endpoints, "find_job_facts", none_is_looked_up)
    await swarm.worker("worker")
    async with live(gateway) as client:
        await client.command("subscribe_events", label={"team": "blue"})
        spec = {"labels": {"team": "blue"}, "shard_size": 1}
        _, job = await submit(gateway, modules["sum"], struct.pack("<3i", 1, 2, 3), spec)
        kinds = []
        while "job_completed" not in kinds:
            kinds.append((await client.receive())["event"]["event_type"])
        assert kinds[0] == "job_queued"
    assert (await call(gateway, "GET", f"/jobs/{job['job_id']}"))[0] == 200


async def test_a_client_with_a_filter_resumes_after_what_pong_says(gateway: RunningHub) -> None:
    """Its newest event may be older than what is kept; where it was is told with each pong."""
    async with live(gateway) as client:
        await client.command("subscribe_events", event_type="node_down")
        for number in range(20):
            event = NewEvent(EventType.COMPONENT_FAILED, {"number": number})
            await gateway.hub.store.commit([], [event])
        _, pong = await until_pong(client)
    assert pong["last_seq"] == gateway.hub.store.last_seq
    await commit_a_mixture(gateway)
    async with live(gateway) as client:
        await client.command("subscribe_events", event_type="node_down", since=pong["last_seq"])
        assert (await client.receive())["event"]["event_type"] == "node_down"
