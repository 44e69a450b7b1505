"""Jobs that are programs: what a gateway has a runtime for runs without naming an interpreter."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import ApiError, JobFailedError, SwarmClient
from swarm_hub.components.runtimes import RUNTIMES, Runtime
from swarm_hub.components.runtimes.catalog import find
from swarm_hub.control import client as control
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call
from tests.helpers.runtimes import with_python

JAVASCRIPT = "runtimes: {python: false}\n"
WORDS = b"import sys\nprint(sum(len(line.split()) for line in sys.stdin))\n"
LINES = b"one two\nthree\nfour five six\n" * 20


@pytest.fixture
async def python_swarm(
    swarm: Swarm, tmp_path: Path
) -> Callable[[int], Awaitable[tuple[RunningHub, list[RunningHub]]]]:
    """Start a gateway that has Python, and workers that have compiled it before."""

    async def start(n_workers: int) -> tuple[RunningHub, list[RunningHub]]:
        return await with_python(swarm, tmp_path, n_workers)

    return start


async def test_a_python_program_is_run_over_the_items(python_swarm: Any, tmp_path: Path) -> None:
    gateway, _ = await python_swarm(2)
    path = tmp_path / "words.py"
    path.write_bytes(WORDS)
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.map(path, LINES, reduce="sum", shard_size=5) == 120
        # By its ending too, where it is sent as the script of no module.
        assert await client.map(b"", LINES, script=("w.py", WORDS), reduce="sum") == 120
        (listed,) = [node for node in await client.nodes() if node["name"] == "worker-0"]
        assert list(listed["telemetry"]["runtimes"].values()) == ["ready"]


async def test_shards_of_a_job_share_an_interpreter_and_those_of_another_job_do_not(
    python_swarm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, _ = await python_swarm(1)
    reads: list[str] = []
    whole = Runtime.read

    async def noted(runtime: Runtime) -> bytes:
        reads.append(runtime.name)
        return await whole(runtime)

    monkeypatch.setattr(Runtime, "read", noted)
    # A module of the library is what all programs of an interpreter have in common.
    program = b"import json\njson.n = getattr(json, 'n', 0) + 1\nprint(json.n)\n"
    async with SwarmClient(gateway.url, gateway.token) as client:

        async def counts(**spec: Any) -> list[int]:
            text = await client.map(b"", b"x\n" * 6, script=("n.py", program), shard_size=1, **spec)
            return sorted(map(int, text.split()))

        first, second = await counts(), await counts()
        assert first == second
        assert max(first) > 1
        # Where results are compared each shard has an interpreter of its own.
        assert await counts(deterministic=True) == [1] * 6
    # It has 26 MB, which not every job reads anew.
    assert reads == ["python"]


async def test_random_numbers_are_the_same_at_each_run_of_a_shard_and_others_for_each_shard(
    python_swarm: Any,
) -> None:
    gateway, _ = await python_swarm(1)
    program = b"import random\nprint(random.random(), hash('a'))\n"
    async with SwarmClient(gateway.url, gateway.token) as client:
        text = await client.map(b"", b"x\n" * 8, script=("r.py", program), shard_size=1)
        lines = [line.split() for line in text.decode().splitlines()]
    assert len({number for number, _ in lines}) == 8
    assert len({hashed for _, hashed in lines}) == 1


async def test_a_program_that_fails_says_so_as_python_does(python_swarm: Any) -> None:
    gateway, _ = await python_swarm(3)
    program = b"def f(x):\n    return 1 / x\n\nprint(f(0))\n"
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(JobFailedError, match="ZeroDivisionError: division by zero"):
            await client.map(b"", b"x\n", script=("bad.py", program))
        (job,) = await client.jobs()
        _, page = await call(gateway, "GET", f"/jobs/{job['job_id']}/shards")
    said = page["shards"][0]["attempts"][0]["reason"]
    assert 'File "bad.py", line 2, in f\n    return 1 / x' in said
    assert "ZeroDivisionError: division by zero" in said
    assert "/script/" not in said


async def test_a_worker_gets_ready_for_the_runtimes_of_its_gateway(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra=JAVASCRIPT)
    program = ("sum.js", b"console.log(std.in.readAsString().trim().split('\\n').length)")
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(b"", LINES, script=program, reduce="sum", shard_size=7)
        await swarm.worker("worker", extra=JAVASCRIPT)
        status = await client.wait(job_id)
        assert status["result"] == 60
        (node,) = await client.nodes()
        runtime = find("javascript", True, {}, gateway.folder)
        assert runtime is not None
        assert node["telemetry"]["runtimes"][runtime.sha].startswith("ready")
        (shown,) = [each for each in await client.runtimes() if each["sha256"] == runtime.sha]
        assert shown["name"] == "javascript"


async def test_a_node_that_can_not_says_why_and_gets_no_such_shard(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra=JAVASCRIPT)
    await swarm.worker("small", extra=JAVASCRIPT + "sandbox: {memory: 1MiB}\n")
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(b"", b"x\n", script=("x.js", b"console.log(1)"))

        async def waits_for() -> str:
            return str((await client.status(job_id))["waits"])

        said = await until(waits_for, lambda said: "javascript needs 8.0 MiB" in said)
        assert "gives a shard 1.0 MiB of memory" in said
        await client.cancel(job_id)


async def test_a_runtime_waits_until_the_device_may_work(swarm: Swarm) -> None:
    worker = await swarm.worker("worker", extra=JAVASCRIPT)
    await asyncio.to_thread(control.ask, worker.folder, "pause")
    gateway = await swarm.gateway(extra=JAVASCRIPT)
    states = worker.hub.services[RUNTIMES].preparation.states

    async def said() -> list[str]:
        return list(states.values())

    assert await until(said, bool) == ["has not prepared javascript yet"]
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(b"", b"x\n", script=("x.js", b"console.log(1)"))
        await asyncio.to_thread(control.ask, worker.folder, "resume")
        assert (await client.wait(job_id))["state"] == "completed"
    await until(said, lambda found: found == ["ready"])


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        ({"script": {"name": "a.py", "text": "1"}}, "no_runtime", "(runtimes: python: false)"),
        ({"script": {"name": "a.lua", "text": "1"}}, "no_runtime", "nothing tells the language"),
        (
            {"script": {"name": "a", "text": "1"}, "spec": {"runtime": "lua"}},
            "no_runtime",
            "there is no runtime 'lua'; known: python, javascript",
        ),
        (
            {"wasm_base64": "AGFzbQEAAAA=", "spec": {"runtime": "python"}},
            "no_runtime",
            "leave one of them out",
        ),
        ({}, "no_module", "expected the module as base64 text"),
    ],
)
async def test_a_program_that_nothing_interprets_is_refused_with_what_to_do(
    swarm: Swarm, sent: dict[str, Any], code: str, said: str
) -> None:
    gateway = await swarm.gateway()
    status, answer = await call(gateway, "POST", "/jobs", json={"dataset": ["x"], **sent})
    assert (status, answer["code"]) == (422, code)
    assert said in answer["message"]


async def test_a_program_that_is_no_text_is_refused(python_swarm: Any) -> None:
    gateway, _ = await python_swarm(0)
    async with SwarmClient(gateway.url, gateway.token) as client:
        with pytest.raises(ApiError, match=r"bad\.py is not UTF-8 text") as refused:
            await client.submit(b"", b"x\n", script=("bad.py", b"\xff"))
    assert refused.value.status == 422
