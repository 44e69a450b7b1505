"""Requests that are too large or no JSON, and what a hub tells of itself."""

import json

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.const import __version__
from tests.conftest import Swarm, until
from tests.helpers.rest import call, submit

DEEP = "[" * 100_000 + "]" * 100_000


async def test_a_request_beyond_the_limit_is_413(swarm: Swarm, modules: dict[str, bytes]) -> None:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, request: 64KiB}}\n"
    gateway = await swarm.start("gateway", yaml, port)
    code, body = await submit(gateway, modules["echo"], bytes(100_000))
    assert (code, body["code"]) == (413, "request_too_large")
    text = json.dumps({"wasm_base64": "A" * 100_000})
    headers = {"Content-Type": "application/json"}
    code, body = await call(gateway, "POST", "/jobs", data=text, headers=headers)
    assert (code, body["code"]) == (413, "request_too_large")
    assert "api: request" in body["message"]
    code, _ = await submit(gateway, modules["echo"], bytes(10_000))
    assert code == 202


@pytest.mark.parametrize("content", ["{", "NaN", '{"reason": 1e999}', DEEP, "\ud800", "[1,]"])
async def test_json_that_is_none_is_400(swarm: Swarm, content: str) -> None:
    gateway = await swarm.gateway()
    data = content.encode(errors="surrogatepass")
    for path in ("/jobs", "/nodes/x/ban"):
        headers = {"Content-Type": "application/json"}
        code, body = await call(gateway, "POST", path, data=data, headers=headers)
        assert (code, body["code"]) == (400, "invalid_json"), path


async def test_a_hub_that_is_no_gateway_says_so(swarm: Swarm) -> None:
    port = free_port()
    peer = "worker: {charging_only: false}\n"
    hub = await swarm.start("worker", f"{peer}api: {{port: {port}}}\n", port)
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/nodes")):
        code, body = await call(hub, method, path)
        assert (code, body["code"]) == (503, "no_gateway")
    assert (await call(hub, "GET", "/health"))[0] == 200


async def test_health_tells_what_runs(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker", extra="worker: {slots: 3, charging_only: false}\n")

    async def health() -> dict[str, object]:
        return (await call(gateway, "GET", "/health"))[1]  # type: ignore[no-any-return]

    found = await until(health, lambda health: health["nodes"] == 1)
    assert found["name"] == "gateway"
    assert found["version"] == __version__
    assert found["state"] == "running"
    assert "gateway" in found["roles"]
    assert found["slots"] == 3
    assert found["sandbox"] is None


async def test_health_tells_what_the_kernel_holds_the_sandbox_to(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    sandbox = gateway.hub.services[SANDBOX].sandbox
    await sandbox.warm()
    found = (await call(gateway, "GET", "/health"))[1]["sandbox"]
    assert "no_new_privs" in found["in_force"]
    assert {*found["in_force"], *found["absent"]} == {
        "no_new_privs", "capabilities", "landlock", "seccomp",
    }  # fmt: skip
