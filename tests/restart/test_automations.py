"""Automations of a gateway that is killed at any moment: a pipeline that ends in webhooks."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from aiohttp import web

from swarm_hub.cli.swarm import LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from tests.components.automation.receiver import Receiver, receiver
from tests.conftest import until
from tests.restart.swarms import started

pytestmark = pytest.mark.usefixtures("warm_hubs")


def submit_next(stage: str, following: str) -> dict[str, Any]:
    return {
        "alias": f"{stage} to {following}",
        "trigger": {"event": "job_completed", "labels": {"stage": stage}},
        "max_per_hour": 10_000,
        "action": {
            "submit": {
                "module": "cat.wasm", "dataset": "result", "reduce": "concat",
                "labels": {"stage": following, "first": "{{ job.labels.first }}"},
                "args": ["{{ trigger.id }}"],
            }
        },
    }  # fmt: skip


def pipeline(port: int) -> str:
    tell = {
        "alias": "Tell",
        "trigger": {"event": "job_completed", "labels": {"stage": "c"}},
        "max_per_hour": 10_000,
        "action": [
            {
                "webhook": {
                    "url": f"http://127.0.0.1:{port}/{{{{ job.labels.first }}}}",
                    "body": "{{ trigger.id }} {{ job.id }} {{ result }}",
                }
            },
            {"notify": "{{ job.labels.first }}"},
        ],
    }
    allow = {"allow": {"hosts": ["127.0.0.1"]}}
    listed = [allow, submit_next("a", "b"), submit_next("b", "c"), tell]
    return f"automation: {json.dumps(listed)}\n"


@pytest.mark.parametrize(
    ("kills", "n_jobs"),
    [(3, 6), pytest.param(80, 150, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])],
)
async def test_each_job_is_followed_by_one_of_each_stage_and_told_with_one_key(
    local: LocalSwarm, modules: dict[str, bytes], kills: int, n_jobs: int
) -> None:
    rng = random.Random(97)
    async with receiver() as server:
        # Now and then it is in trouble itself.
        server.answer = lambda: web.Response(status=503 if rng.random() < 0.2 else 200)
        gateway, _, client = await started(local, 1, pipeline(server.port))
        (gateway.folder / "cat.wasm").write_bytes(modules["cat"])
        async with client:
            submitting = asyncio.create_task(submit_all(client, modules["cat"], n_jobs))
            for _ in range(kills):
                await asyncio.sleep(rng.uniform(0.05, 0.6))
                gateway.kill()
                gateway.start()
            await submitting
            expected = {f"j{number}" for number in range(n_jobs)}
            await until(lambda: told(server), lambda found: found == expected, 60 + kills)
            await until(lambda: noticed(client), lambda found: set(found) == expected, 60)
            assert_each_once(await all_jobs(client), n_jobs)
            assert set((await noticed(client)).values()) == {1}
        assert_one_key_each(server, n_jobs)


async def submit_all(client: SwarmClient, module: bytes, n_jobs: int) -> None:
    for number in range(n_jobs):
        await when_up(
            lambda number=number: client.submit(
                module,
                b"%d\n" % number,
                reduce="concat",
                idempotency_key=f"j{number}",
                labels={"stage": "a", "first": f"j{number}"},
            )
        )


async def when_up(work: Any) -> Any:
    async def tried() -> Any:
        try:
            return await work()
        except UnreachableError:
            return None

    return await until(tried, lambda found: found is not None, 60)


async def told(server: Receiver) -> set[str]:
    return {path.removeprefix("/") for _, path, _ in server.got}


async def noticed(client: SwarmClient) -> Counter[str]:
    """Count the notices of each first job."""

    async def read() -> Counter[str]:
        last_seq = (await client.health())["last_seq"]
        found: Counter[str] = Counter()
        events = client.events(since=0)
        async for event in events:
            if event["event_type"] == "automation_notified":
                found[event["data"]["message"]] += 1
            if event["seq"] >= last_seq:
                break
        await events.aclose()  # type: ignore[attr-defined]
        return found

    counted: Counter[str] = await when_up(read)
    return counted


async def all_jobs(client: SwarmClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await when_up(lambda: client.jobs(limit=1000))
    return found


def assert_each_once(jobs: list[dict[str, Any]], n_jobs: int) -> None:
    stages: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        assert job["state"] == "completed", job
        stages[job["labels"]["first"]].append(job["labels"]["stage"])
    assert len(stages) == n_jobs
    assert {tuple(sorted(each)) for each in stages.values()} == {("a", "b", "c")}


def assert_one_key_each(server: Receiver, n_jobs: int) -> None:
    keys: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for key, path, body in server.got:
        keys[key].add((path, body))
        assert key == f"{body.split()[0]}:0"
    assert len(keys) == n_jobs
    # The same request under the same key, however often.
    assert all(len(each) == 1 for each in keys.values())
    for ((path, body),) in keys.values():
        assert body.split()[2] == path.removeprefix("/j")


async def test_a_run_goes_on_where_it_was_after_a_kill(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    """Its webhook was heard and not answered: it comes again, what was done before it does not."""
    async with receiver() as server:
        entries = [
            {"allow": {"hosts": ["127.0.0.1"]}},
            {
                "alias": "Two",
                "trigger": {"cron": "0 0 1 1 *"},
                "action": [
                    {"notify": "begun"},
                    {"webhook": {"url": f"http://127.0.0.1:{server.port}/x", "body": "b"}},
                ],
            },
        ]
        gateway = local.start_gateway(extra=f"automation: {json.dumps(entries)}\n")
        server.answer = lambda: web.Response(status=503)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await when_up(client.health)
            run = await client.trigger_automation("two")
            await until(lambda: told(server), bool)
            gateway.kill()
            server.answer = lambda: web.Response(status=200)
            gateway.start()
            done = await until(lambda: newest(client), lambda found: found["state"] == "done", 60)
            assert done["trigger_id"] == run["trigger_id"]
            assert [step["state"] for step in done["steps"]] == ["done", "done"]
            assert (await noticed(client)) == {"begun": 1}
        assert {(key, body) for key, _, body in server.got} == {(f"{run['trigger_id']}:1", "b")}
        assert len(server.got) >= 2


async def newest(client: SwarmClient) -> dict[str, Any]:
    found: list[dict[str, Any]] = await when_up(lambda: client.automation_traces("two"))
    return found[0]
