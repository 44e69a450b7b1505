"""The clients of Swarm Runtime, byte for byte: v0.16.1's README and the command lines after it."""

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished

Modules = dict[str, bytes]

# As the README has it: it sums the numbers at its address.
README_BODY = (
    b'{\n    "wasm_base64": "AGFzbQEAAAABBwFgAn9/AX8DAgEABQMBAAEHFAIGbWVtb3J5AgAHZXhlY3V0ZQAACi4B'
    b"LAECfwJAA0AgAyABTw0BIAIgACADQQRsaigCAGohAiADQQFqIQMMAAsLIAILADIEbmFtZQIXAQAEAANwdHIBA2xlbg"
    b'IDc3VtAwNpZHgDEgEAAgAEZG9uZQEHbXlfbG9vcA==", \n    "dataset": [10, 20, 30, 40]\n  }'
)
# What make_final_wasm.py writes: no memory, and a function that gives 42.
FINAL_SUM = bytes.fromhex(
    "0061736d01000000 010701 60027f7f017f 03020100 070b0107657865637574650000 0a0601040041 2a0b"
)
MULTIPART = (
    b'--%b\r\nContent-Disposition: form-data; name="wasm"; filename="runtimes/calculator.wasm"\r\n'
    b"Content-Type: application/wasm\r\n\r\n%b\r\n"
    b'--%b\r\nContent-Disposition: form-data; name="metadata"\r\n'
    b"Content-Type: application/json\r\n\r\n%b\r\n--%b--\r\n"
)
BOUNDARY = b"7d6e2a8c11f0c3a5-0b9d4f6e8a7c2d10-53f1e0b7a9c8d642-e4a6b8c0d2f41357"


async def exchange(hub: RunningHub, head: str, body: bytes = b"") -> tuple[int, Any]:
    """Send a request as it is and return the status and the JSON of the answer."""
    port = int(hub.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lines = answer.decode().lower().split("\r\n")
        (length,) = [line.partition(":")[2] for line in lines if line.startswith("content-length:")]
        return int(lines[0].split()[1]), json.loads(await reader.readexactly(int(length)))
    finally:
        writer.close()
        await writer.wait_closed()


def curl(hub: RunningHub, body: bytes, more: str = "") -> str:
    host = hub.url.partition("//")[2]
    return (
        f"POST /api/v1/jobs HTTP/1.1\nHost: {host}\nUser-Agent: curl/8.5.0\nAccept: */*\n"
        f"Content-Type: application/json\n{more}Content-Length: {len(body)}\n\n"
    )


def deploy(hub: RunningHub, body: bytes, token: str | None) -> str:
    """Return how `swarm-node deploy --gateways http://any:TOKEN@HOST` begins its request."""
    return (
        "POST /api/v1/jobs HTTP/1.1\n"
        f"content-type: multipart/form-data; boundary={BOUNDARY.decode()}\n"
        f"content-length: {len(body)}\n{basic(token)}accept: */*\n"
        f"host: {hub.url.partition('//')[2]}\n\n"
    )


def basic(token: str | None) -> str:
    if token is None:
        return ""
    return f"authorization: Basic {base64.b64encode(f'any:{token}'.encode()).decode()}\n"


def form(wasm: bytes, dataset: list[str]) -> bytes:
    metadata = json.dumps({"dataset": dataset}, separators=(",", ":"), ensure_ascii=False)
    return MULTIPART % (BOUNDARY, wasm, BOUNDARY, metadata.encode(), BOUNDARY)


async def status(hub: RunningHub, job_id: str) -> tuple[int, dict[str, Any]]:
    """Return what its `status` command reads, once the job has ended."""
    await finished(hub, job_id)
    host = hub.url.partition("//")[2]
    code, said = await exchange(
        hub,
        f"GET /api/v1/jobs/{job_id} HTTP/1.1\n{basic(hub.token)}accept: */*\nhost: {host}\n\n",
    )
    return code, deserialised(said)


def deserialised(said: dict[str, Any]) -> dict[str, Any]:
    """Check what its JobStatusResponse takes, which is no null and nothing beyond 32 bits."""

    def is_int(value: Any, low: int, high: int) -> bool:
        return type(value) is int and low <= value < high

    assert isinstance(said["status"], str)
    assert is_int(said["total_sum"], -(2**31), 2**31)
    for index, value in said["breakdown"]:
        assert is_int(index, 0, 2**32)
        assert is_int(value, -(2**31), 2**31)
    assert said["hashes"] == []
    assert all(is_int(index, 0, 2**32) for index in said["missing_shards"])
    return said


async def test_the_readme_of_v0_16_1_works_with_a_token(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    with_token = f"Authorization: Bearer {gateway.token}\n"
    code, taken = await exchange(gateway, curl(gateway, README_BODY, with_token), README_BODY)
    assert (code, taken["status"]) == (202, "pending_scheduler")
    code, waiting = await call(gateway, "GET", f"/jobs/{taken['job_id']}")
    assert (code, deserialised(waiting)["status"]) == (202, "awaiting_telemetry")
    await swarm.worker("worker")
    code, said = await status(gateway, taken["job_id"])
    assert (code, said["status"], said["total_sum"]) == (200, "completed", 100)
    assert sum(value for _, value in said["breakdown"]) == 100
    assert said["missing_shards"] == []


async def test_its_module_without_a_memory_runs_with_the_length_alone(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    plain = {"wasm_base64": base64.b64encode(FINAL_SUM).decode(), "dataset": [1, 2, 3]}
    body = json.dumps(plain).encode()
    with_token = f"Authorization: Bearer {gateway.token}\n"
    code, taken = await exchange(gateway, curl(gateway, body, with_token), body)
    assert code == 202, taken
    code, said = await status(gateway, taken["job_id"])
    assert (code, said["status"]) == (200, "completed")
    assert said["total_sum"] == 42 * len(said["breakdown"]) > 0


async def test_its_deploy_gives_a_command_its_items_as_arguments(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    items = ["EXECUTE_NATIVE_WASM", "--sum 1 2", "grüße\n"]
    body = form(modules["says_argument"], items)
    code, taken = await exchange(gateway, deploy(gateway, body, gateway.token), body)
    assert (code, taken["status"]) == (202, "pending_scheduler"), taken
    code, said = await status(gateway, taken["job_id"])
    assert (code, said["status"], said["total_sum"]) == (200, "completed", 0)
    code, result = await call(gateway, "GET", f"/jobs/{taken['job_id']}/result")
    assert result.decode() == "".join(items)


async def test_without_a_token_it_is_told_what_is_missing(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    body = form(modules["says_argument"], ["x"])
    for head, sent in (
        (deploy(gateway, body, None), body),
        (curl(gateway, README_BODY), README_BODY),
    ):
        code, said = await exchange(gateway, head, sent)
        assert (code, said["code"]) == (401, "unauthorized")
        assert "a token is needed" in said["message"]
        assert "swarm-hub token create" in said["message"]
    for wrong in ("nobody's", "ä"):
        code, said = await exchange(gateway, deploy(gateway, body, wrong), body)
        assert (code, said["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_program_for_an_interpreter_of_the_gateway_is_refused_with_the_way_out(
    swarm: Swarm, as_json: bool
) -> None:
    gateway = await swarm.gateway()
    if as_json:
        body = json.dumps({"wasm_base64": "POLYGLOT:LUA", "dataset": ["print(1)"]}).encode()
        head = curl(gateway, body, f"Authorization: Bearer {gateway.token}\n")
    else:
        body = form(b"POLYGLOT:LUA", ["print(1)"])
        head = deploy(gateway, body, gateway.token)
    code, said = await exchange(gateway, head, body)
    assert (code, said["code"]) == (422, "no_interpreter")
    assert "swarm-hub submit --with" in said["message"]


async def test_a_job_that_it_does_not_know_is_no_success_to_it(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    code, said = await call(gateway, "GET", "/jobs/2b6a8f1e-6f0c-4a53-9d7e-1f2a3b4c5d6e")
    assert (code, said["code"]) == (404, "not_found")
