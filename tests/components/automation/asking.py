"""What tests ask of the automations of a hub, and some of those that it has."""

import json
from typing import Any

from tests.conftest import RunningHub, until
from tests.helpers.rest import call

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


def notify(trigger: Any, alias: str = "Tell", **more: Any) -> dict[str, Any]:
    return {"alias": alias, "trigger": trigger, "action": {"notify": "{{ trigger.kind }}"}, **more}
