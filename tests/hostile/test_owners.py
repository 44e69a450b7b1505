"""A child that a job took over gets at nobody else's: real hubs, several owners and gateways."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit

SETUP = """
from pathlib import Path

from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({}, dict)


async def async_setup(hub, config):
    await hub.services[SANDBOX].sandbox.add_abi(Path(__file__).parent / "abi_trace.py")
    return True
"""
# Code of the child's own stands for what a defect in the compiler would let a module do: it keeps
# what it sees and tells the next one.
ABI = """
import sys


class _Trace:
    name = "trace"
    rank = 1
    wants = "anything"
    uses_files = False

    def entries(self, shape):
        return ("anything",)

    def run(self, session, body):
        found = getattr(sys, "trace", b"nothing")
        sys.trace = body.strip()
        return found


ABI = _Trace()
"""
SPEC = {"abi": "trace", "reduce": "concat", "split": "lines", "shard_size": 1}


def component(hub: Path) -> None:
    home = hub / "custom_components" / "trace"
    home.mkdir(parents=True)
    manifest = {
        "domain": "trace", "name": "Trace", "documentation": "none", "version": "1.0.0",
        "dependencies": ["sandbox"],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(SETUP)
    (home / "abi_trace.py").write_text(ABI)


def another_owner(hub: RunningHub) -> str:
    file = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    return file.create("another", "submit", time.time())[1]


async def leave(hub: RunningHub, line: bytes, token: str | None = "") -> str:
    """Run a job of one shard that leaves its line; returns what it found."""
    wasm = await hub.hub.services[SANDBOX].sandbox.assemble("(module)")
    _, body = await submit(hub, wasm, line + b"\n", SPEC, token=token)
    status = await finished(hub, body["job_id"])
    assert status["state"] == "completed", status
    return await _result(hub, body["job_id"])


async def _result(hub: RunningHub, job_id: str) -> str:
    _, found = await call(hub, "GET", f"/jobs/{job_id}/result")
    return found.decode() if isinstance(found, bytes) else str(found)


@pytest.mark.parametrize(
    ("reuse", "again"), [("owner", "alice"), ("job", "nothing"), ("never", "nothing")]
)
async def test_a_job_never_runs_where_another_owners_ran(
    swarm: Swarm, tmp_path: Path, reuse: str, again: str
) -> None:
    for name in ("gateway", "worker"):
        component(tmp_path / name)
    gateway = await swarm.gateway(extra="trace:\n")
    await swarm.worker("worker", extra=f"trace:\nsandbox: {{reuse: {reuse}}}\n")
    bob = another_owner(gateway)
    assert await leave(gateway, b"alice") == "nothing"
    assert await leave(gateway, b"bob", bob) == "nothing"
    assert await leave(gateway, b"alice") == again
    found = await leave(gateway, b"bob", bob)
    assert found == ("bob" if reuse == "owner" else "nothing")


async def test_the_owners_of_two_gateways_are_never_one(swarm: Swarm, tmp_path: Path) -> None:
    for name in ("gateway", "other", "worker"):
        component(tmp_path / name)
    gateways = [await swarm.gateway(name, extra="trace:\n") for name in ("gateway", "other")]
    worker = await swarm.worker("worker", "gateway", "other", extra="trace:\n")
    assert [await leave(each, b"mine") for each in gateways] == ["nothing", "nothing"]
    assert [await leave(each, b"mine") for each in gateways] == ["mine", "mine"]
    # Nor do the children's names say who that is.
    scopes: list[Any] = [
        child.scope for child in worker.hub.services[SANDBOX].sandbox._children if child.scope
    ]
    assert len({scope.rpartition("/")[0] for scope in scopes}) == 2
    assert len({scope.rpartition("/")[2] for scope in scopes}) == 2


async def test_two_owners_at_once_both_get_on(swarm: Swarm, tmp_path: Path) -> None:
    for name in ("gateway", "worker"):
        component(tmp_path / name)
    gateway = await swarm.gateway(extra="trace:\n")
    await swarm.worker("worker", extra="trace:\n")
    bob = another_owner(gateway)
    wasm = await gateway.hub.services[SANDBOX].sandbox.assemble("(module)")

    async def run(name: bytes, token: str) -> None:
        _, body = await submit(gateway, wasm, (name + b"\n") * 300, SPEC, token=token)
        status = await finished(gateway, body["job_id"])
        assert status["state"] == "completed", status
        found = (await _result(gateway, body["job_id"])).replace("nothing", "")
        assert found.replace(name.decode(), "") == ""

    async with asyncio.timeout(30):
        await asyncio.gather(run(b"alice", ""), run(b"bob", bob))
