"""Automations of a hub: what triggers them, what they do, and what is said of it."""

import json
from typing import Any

from aiohttp import web

from swarm_hub.client import SwarmClient
from tests.components.automation.receiver import receiver
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call


async def traces(hub: RunningHub, automation: str) -> list[dict[str, Any]]:
    status, answer = await call(hub, "GET", f"/automations/{automation}/traces")
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["traces"]
    return found


async def ended(hub: RunningHub, automation: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the traces of an automation once so many of its runs have ended."""

    async def read() -> list[dict[str, Any]]:
        return [each for each in await traces(hub, automation) if each["state"] != "open"]

    found: list[dict[str, Any]] = await until(read, lambda found: len(found) >= count)
    return found


async def manual(hub: RunningHub, automation: str, **body: Any) -> dict[str, Any]:
    status, answer = await call(hub, "POST", f"/automations/{automation}/trigger", json=body)
    assert status == 202, answer
    made: dict[str, Any] = answer
    return made


def section(*entries: dict[str, Any]) -> str:
    """Return the YAML of a list of automations: JSON is YAML, too."""
    return f"automation: {json.dumps(entries)}\n"


CHAIN = {
    "alias": "Reduce what was mapped",
    "id": "reduce",
    "trigger": {"event": "job_completed", "labels": {"stage": "map"}},
    "action": {
        "submit": {
            "module": "cat.wasm", "dataset": "result", "labels": {"stage": "reduce"},
            "name": "reduce of {{ job.name }}", "reduce": "concat",
        }
    },
}  # fmt: skip


async def test_a_job_is_chained_to_another_with_its_result(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    swarm.keys("gateway")
    hub = await swarm.gateway(extra=section(CHAIN))
    (hub.folder / "cat.wasm").write_bytes(modules["cat"])
    await swarm.worker("worker")
    async with SwarmClient(hub.url, hub.token) as client:
        other = await client.submit(modules["cat"], b"no\n", reduce="concat")
        await client.wait(other)
        first = await client.submit(
            modules["cat"], b"a\nb\n", reduce="concat", labels={"stage": "map"}, name="letters"
        )
        await client.wait(first)
        (trace,) = await ended(hub, "reduce")
        assert trace["state"] == "done", trace
        assert trace["trigger"]["job_id"] == first
        second = trace["steps"][0]["said"].removeprefix("submitted job ")
        status = await client.wait(second)
        assert (status["state"], status["name"]) == ("completed", "reduce of letters")
        assert status["labels"] == {
            "stage": "reduce", "automation": "reduce", "automation_depth": "1",
        }  # fmt: skip
        assert await client.result(second) == b"a\nb\n"


async def test_a_webhook_is_tried_again_with_its_key_until_it_is_taken(swarm: Swarm) -> None:
    async with receiver() as server:
        refusals = [503, 429]
        server.answer = lambda: web.Response(status=refusals.pop() if refusals else 204)
        hub = await swarm.gateway(
            extra=section(
                {"allow": {"hosts": [f"127.0.0.1:{server.port}"]}},
                {
                    "alias": "Tell",
                    "trigger": {"event": "node_drained"},
                    "action": {
                        "webhook": {
                            "url": f"http://127.0.0.1:{server.port}/a?id={{{{ trigger.id }}}}",
                            "body": '{"kind": {{ trigger.kind | tojson }}}',
                        }
                    },
                },
            )
        )
        made = await manual(hub, "tell")
        assert (made["state"], made["trigger"]["kind"]) == ("open", "manual")
        (trace,) = await ended(hub, "tell")
    assert trace["state"] == "done"
    assert trace["steps"] == [
        {"kind": "webhook", "state": "done", "tries": 2, "said": "127.0.0.1 answered 204"}
    ]
    key = f"{made['trigger_id']}:0"
    path = f"/a?id={made['trigger_id']}"
    assert server.got == [(key, path, '{"kind": "manual"}')] * 3
