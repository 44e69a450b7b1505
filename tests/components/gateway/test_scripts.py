"""Jobs that are an interpreter and a script."""

import base64
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import ApiError, JobFailedError, SwarmClient
from swarm_hub.components.mesh import MESH
from tests.conftest import Swarm
from tests.helpers.rest import call, finished

Modules = dict[str, bytes]

ECHO = ("echo.bf", b",[.,]")
ADD_ONE = ("add one.bf", b",[+.,]")
ENDLESS = ("endless.bf", b"+[]")


async def test_an_interpreter_runs_a_script_over_the_items(
    swarm: Swarm, modules: Modules, tmp_path: Path
) -> None:
    gateway = await swarm.gateway()
    for number in range(2):
        await swarm.worker(f"worker-{number}")
    path = tmp_path / ECHO[0]
    path.write_bytes(ECHO[1])
    lines = b"".join(b"%d\n" % number for number in range(60))
    brainfuck = modules["brainfuck"]
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.map(brainfuck, lines, script=path, shard_size=7) == lines
        # The interpreter is compiled already, the script is another.
        more = await client.map(brainfuck, b"HAL\n", script=ADD_ONE)
        assert more == b"IBM\v"


async def test_a_script_is_sent_to_a_worker_once(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("one")
    fetched: list[str] = []
    mesh = worker.hub.services[MESH]
    fetch = mesh.fetch

    async def counted(peer: str, sha: str, size_bytes: int) -> bytes:
        fetched.append(sha)
        return await fetch(peer, sha, size_bytes)

    monkeypatch.setattr(mesh, "fetch", counted)
    async with SwarmClient(gateway.url, gateway.token) as client:
        for _ in range(2):
            await client.map(modules["brainfuck"], b"a\nb\nc\n", script=ECHO, shard_size=1)
    # The interpreter and the script.
    assert len(fetched) == len(set(fetched)) == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "/script/a.txt"),
        (("{script}", "x"), "/script/a.txt"),
        (("{script_text}",), "it says üx"),
        (("-x{script}",), "/script/a.txt"),
    ],
)
async def test_the_script_reaches_the_interpreter_as_path_or_as_text(
    swarm: Swarm, modules: Modules, args: tuple[str, ...], said: str
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    async with SwarmClient(gateway.url, gateway.token) as client:
        found = await client.map(
            modules["says_argument"], b"a\n", script=("a.txt", "it says üx".encode()),
            args=list(args),
        )  # fmt: skip
    assert found.decode() == said


async def test_a_script_job_survives_the_restart_of_both_sides(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(modules["brainfuck"], b"HAL", script=ADD_ONE)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    await swarm.worker("one")
    assert (await finished(gateway, job_id))["state"] == "completed"
    _, result = await call(gateway, "GET", f"/jobs/{job_id}/result")
    assert result == b"IBM"


async def test_an_endless_script_ends_at_the_wall(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(JobFailedError, match="it does not end: 3 attempts took all of"):
            await client.map(
                modules["brainfuck"], b"a\n", script=ENDLESS, limits={"wall_time": 0.3}
            )


async def test_the_json_form_takes_a_script_too(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    wanted: dict[str, Any] = {
        "wasm_base64": base64.b64encode(modules["brainfuck"]).decode(),
        "dataset": ["HAL"],
        "spec": {"split": "lines"},
        "script": {"name": "add.bf", "text": ADD_ONE[1].decode()},
    }
    status, body = await call(gateway, "POST", "/jobs", json=wanted)
    assert status == 202, body
    await finished(gateway, body["job_id"])
    _, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert result == b"IBM\v"
    status, body = await call(gateway, "POST", "/jobs", json={**wanted, "script": {"name": "a"}})
    assert (status, body["code"]) == (422, "no_script")


@pytest.mark.parametrize(
    ("module", "script", "code"),
    [
        ("sum", ECHO, "no_script"),
        ("count", ECHO, "no_script"),
        ("brainfuck", ("a/b", b""), "bad_file_name"),
        ("brainfuck", ("", b""), "bad_file_name"),
        ("brainfuck", ("big", bytes(256 * 1024 + 1)), "script_too_large"),
    ],
)
async def test_a_script_that_can_not_run_is_refused(
    swarm: Swarm, modules: Modules, module: str, script: tuple[str, bytes], code: str
) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(ApiError) as refused:
            await client.submit(modules[module], b"abcd", script=script)
        assert refused.value.code == code
        assert await client.jobs() == []


async def test_one_key_for_two_scripts_is_a_conflict(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        first = await client.submit(modules["brainfuck"], b"a", script=ECHO, idempotency_key="once")
        again = await client.submit(modules["brainfuck"], b"a", script=ECHO, idempotency_key="once")
        assert again == first
        with pytest.raises(ApiError, match="used for another request"):
            await client.submit(modules["brainfuck"], b"a", script=ADD_ONE, idempotency_key="once")


async def test_a_largest_script_fits_into_a_frame(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    # What is no command is a comment.
    script = ("big.bf", ECHO[1].ljust(256 * 1024))
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(JobFailedError):
            await client.map(modules["says_no"], b"a\n", script=script)
        assert await client.map(modules["brainfuck"], b"a\n", script=script) == b"a\n"
