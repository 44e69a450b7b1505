"""The Python clients: what a script sees of a swarm."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from swarm_hub.client import (
    ApiError,
    BlockingSwarmClient,
    ClientError,
    JobFailedError,
    SwarmClient,
    UnreachableError,
    submission,
)
from swarm_hub.client.gateways import Gateways
from swarm_hub.client.submission import Submission
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import Swarm, until
from tests.helpers.wasm_bytes import custom

Modules = dict[str, bytes]
Start = Callable[..., Awaitable[SwarmClient]]


async def test_map_takes_ranges_lists_bytes_and_files(
    gateway_with_workers: Start, modules: Modules, tmp_path: Path
) -> None:
    swarm = await gateway_with_workers(1)
    for name, body in (("a.txt", b"one\n"), ("b.txt", b"two")):
        (tmp_path / name).write_bytes(body)
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    (tmp_path / "echo.wasm").write_bytes(modules["echo"])
    echo = tmp_path / "echo.wasm"
    assert await swarm.map(modules["primes"], range(10, 20), reduce="sum") == 4
    assert await swarm.map(modules["cat"], [1, 2], reduce="list", shard_size=1) == [1, 2]
    assert await swarm.map(echo, b"x\ny", reduce="concat") == b"x\ny"
    assert await swarm.map(str(echo), paths[0]) == b"one\n"
    assert await swarm.map(echo, paths, split="files", reduce="concat") == b"one\ntwo"


async def test_a_failed_job_raises_with_every_reason(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    with pytest.raises(JobFailedError, match="no such luck") as caught:
        await swarm.map(modules["says_no"], b"a\n")
    assert caught.value.status["state"] == "failed"
    assert (caught.value.item, caught.value.node) == (0, "worker-0")


async def test_failures_are_given_one_by_one_also_without_asyncio(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")

    def blocking() -> list[tuple[int, str]]:
        with BlockingSwarmClient(gateway.url, gateway.token) as client:
            job_id = client.submit(modules["cat_but_x"], b"a\nX\nX\n", on_error="skip")
            assert client.wait(job_id)["failed_items"] == 2
            return [(each["first_item"], each["state"]) for each in client.failures(job_id)]

    assert await asyncio.to_thread(blocking) == [(1, "skipped"), (2, "skipped")]


async def test_refusals_carry_status_and_code(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(0)
    with pytest.raises(ApiError, match="did you mean reduce") as caught:
        await swarm.submit(modules["echo"], b"a\n", redcue="sum")
    assert (caught.value.status, caught.value.code) == (422, "invalid_spec")
    with pytest.raises(ApiError) as caught:
        await swarm.status("01NONE")
    assert caught.value.status == 404


@pytest.mark.parametrize("items", [range(0, 10, 2), 5, None, {"a": 1}])
async def test_items_that_are_none_are_refused_here(items: Any) -> None:
    async with SwarmClient("http://127.0.0.1:1") as swarm:
        with pytest.raises(ClientError):
            await swarm.submit(b"", items)


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with SwarmClient("http://127.0.0.1:1") as swarm:
        with pytest.raises(ClientError, match="can't be read"):
            await swarm.submit(tmp_path / "none.wasm", range(5))


async def test_no_hub_is_unreachable() -> None:
    async with SwarmClient("http://127.0.0.1:1", "token") as swarm:
        for attempt in (swarm.health(), swarm.jobs(), swarm.result("x")):
            with pytest.raises(UnreachableError, match=r"no hub answers at http://127\.0\.0\.1:1"):
                await attempt
        with pytest.raises(UnreachableError):
            async for _ in swarm.events():
                pass


async def test_events_follow_a_job_and_resume_with_since(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    job_id = await swarm.submit(modules["primes"], range(100))
    await swarm.wait(job_id)

    async def read(since: int, last: str) -> list[dict[str, Any]]:
        found = []
        async for event in swarm.events(since):
            found.append(event)
            if event["event_type"] == last:
                return found
        return found

    first = await read(0, "job_running")
    rest = await read(first[-1]["seq"], "job_completed")
    seqs = [event["seq"] for event in (*first, *rest) if "seq" in event]
    assert seqs == sorted(set(seqs))
    assert rest[-1]["data"]["job_id"] == job_id


async def test_events_are_filtered_and_a_filter_that_is_none_is_refused(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    job_id = await swarm.submit(modules["primes"], range(100), labels={"team": "blue"})
    await swarm.wait(job_id)
    wanted = {"event_type": ["job_queued", "job_completed"], "label": {"team": "blue"}}
    kinds = []
    async for event in swarm.events(0, **wanted):
        kinds.append(event["event_type"])
        if len(kinds) == 2:
            break
    assert kinds == ["job_queued", "job_completed"]
    with pytest.raises(ApiError, match="unknown type of events"):
        async for _ in swarm.events(event_type="job_quued"):
            pass


async def test_lost_events_raise(gateway_with_workers: Start) -> None:
    swarm = await gateway_with_workers(0)
    with pytest.raises(ClientError, match="events were lost"):
        async for _ in swarm.events(since=10**9):
            pass


async def test_events_without_a_token_are_refused(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, "swh_wrong") as client:
        with pytest.raises(ApiError) as caught:
            async for _ in client.events():
                pass
        assert caught.value.status == 401


async def test_progress_is_told_while_waiting(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    seen: list[str] = []
    job_id = await swarm.submit(modules["spin"], range(300), shard_size=100)
    await swarm.wait(job_id, progress=lambda status: seen.append(status["state"]), every_s=1)
    assert seen[-1] == "completed"


async def test_the_blocking_twin_does_the_same(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")

    def script() -> None:
        with BlockingSwarmClient(gateway.url, gateway.token) as client:
            assert client.map(modules["primes"], range(1000), reduce="sum") == 168
            job_id = client.submit(modules["primes"], range(10), idempotency_key="one")
            assert client.wait(job_id)["result"] == 4
            assert client.result(job_id) == b"4"
            assert client.status(job_id)["state"] == "completed"
            assert {job["job_id"] for job in client.jobs()} >= {job_id}
            assert client.cancel(job_id)["state"] == "completed"
            assert [node["state"] for node in client.nodes()] == ["up"]
            assert client.health()["nodes"] == 1
            assert [shard["state"] for shard in client.shards(job_id)] == ["done"]
            story = client.story(job_id)
            told = client.events(story[0]["seq"] - 1)
            assert [next(told)["seq"] for _ in story] == [each["seq"] for each in story]
            told.close()
            (page,) = client.receipts(job_id)
            assert "redundant jobs only" in page["why_none"]
            invite = client.invite(60, ["/ip4/127.0.0.1/tcp/4001"], owner="me")
            assert [each["id"] for each in client.invites()] == [invite["id"]]
            client.revoke_invite(invite["id"])
            assert client.invites() == []

    await asyncio.to_thread(script)


async def test_a_node_is_banned_and_unbanned(gateway_with_workers: Start) -> None:
    swarm = await gateway_with_workers(1)
    ((node),) = await swarm.nodes()
    await swarm.node_action(node["node_id"], "ban", reason="test")

    async def state() -> str:
        return str((await swarm.nodes())[0]["state"])

    await until(state, lambda now: now == "banned")
    await swarm.node_action(node["node_id"], "unban")
    await until(state, lambda now: now == "up")


async def test_a_hub_that_dies_within_an_answer_is_unreachable() -> None:
    async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half_an_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, SwarmClient(f"http://127.0.0.1:{port}", patience_s=0) as client:
        with pytest.raises(UnreachableError):
            await client.status("a job")


async def test_a_large_module_is_sent_once_and_then_named(
    gateway_with_workers: Start, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = await gateway_with_workers(1)
    sent: list[bytes] = []
    as_cbor = Submission.as_cbor

    def noted(job: Submission, *, by_hash: bool) -> bytes:
        sent.append(as_cbor(job, by_hash=by_hash))
        return sent[-1]

    monkeypatch.setattr(Submission, "as_cbor", noted)
    large = modules["primes"] + custom(b"padding", bytes(50_000))
    for _ in range(2):
        assert await swarm.map(large, range(100), reduce="sum") == 25
    assert [len(body) > 50_000 for body in sent] == [True, False]
    # A hub that does not have it is sent it.
    larger = modules["primes"] + custom(b"padding", bytes(60_000))
    swarm._modules_there.add(sha256_hex(larger))
    assert await swarm.map(larger, range(100), reduce="sum") == 25
    assert [len(body) > 50_000 for body in sent] == [True, False, False, True]


async def test_a_hub_that_takes_no_cbor_is_sent_a_form(
    gateway_with_workers: Start, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    swarm = await gateway_with_workers(1)
    forms = []
    as_form = Submission.as_form

    def noted(job: Submission, named: Any) -> aiohttp.FormData:
        forms.append(job)
        return as_form(job, named)

    monkeypatch.setattr(Submission, "as_form", noted)
    monkeypatch.setattr(submission, "CBOR", "application/unheard-of")
    for _ in range(2):
        assert await swarm.map(modules["primes"], range(100), reduce="sum") == 25
    assert len(forms) == 2


async def test_a_hub_that_answers_at_once_is_asked_for_the_end(
    gateway_with_workers: Start, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateways, "hold_s", 0)
    swarm = await gateway_with_workers(1)
    status = await swarm.run(modules["primes"], range(100), reduce="sum")
    assert (status["state"], status["result"]) == ("completed", 25)
