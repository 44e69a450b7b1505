"""A command whose disk is full, or whose token is revoked, says so and can be gone on with."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.gateway.service import JobService
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from tests.conftest import EXAMPLES, RunningHub, Swarm
from tests.helpers.command_line import Done

Beside = Callable[..., Awaitable[Done]]
PRIMES = EXAMPLES / "primes" / "primes.wat"
# As the shell counts them.
BLOCK_BYTES = 512


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    """A gateway whose directory holds the admin token that `init` would have written."""
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def run_with_room_for(blocks: int, *arguments: object) -> Done:
    """Run a command that can write no file larger than this; the hub it talks to can."""
    told = [sys.executable, "-m", "swarm_hub", *map(str, arguments)]
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *told],
        capture_output=True, check=False, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


async def test_results_that_find_no_room_are_there_after_the_next_try(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, modules: dict[str, bytes], tmp_path: Path
) -> None:
    await swarm.worker("kitchen")
    cat = tmp_path / "cat.wasm"
    cat.write_bytes(modules["cat_but_x"])
    bodies = {name: b"%d\n" % at * 600 for at, name in enumerate(("a", "b", "c"))}
    bodies["b"] *= 20
    for name, body in bodies.items():
        (tmp_path / name).write_bytes(body)
    results, log = tmp_path / "results", tmp_path / "log"
    wanted = (
        "submit", cat, *(tmp_path / name for name in bodies),
        "--results", results, "--joblog", log, "-c", gateway.folder,
    )  # fmt: skip
    full = await run_with_room_for(8192 // BLOCK_BYTES, *wanted)
    assert full.code == 1, full.err
    assert f"--results {results / 'b'}: can't be written: File too large" in full.err
    assert "Traceback" not in full.err
    found = re.search(r"^Job (\w+) goes on, and nothing is lost of it", full.err, re.MULTILINE)
    assert found is not None, full.err
    # What is there is whole.
    for path in results.iterdir():
        assert path.read_bytes() == bodies[path.name]
    assert not (results / "b").exists()
    done = await run_beside(*wanted, "--job", found[1], "--resume", "--json")
    assert (done.code, json.loads(done.out)["job_ids"]) == (0, [found[1]]), done.err
    assert {path.name: path.read_bytes() for path in results.iterdir()} == bodies
    assert sorted(line.split("\t")[0] for line in log.read_text().splitlines()[1:]) == list("123")


async def test_a_joblog_that_finds_no_room_is_gone_on_with(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    await swarm.worker("kitchen")
    log = tmp_path / "log"
    wanted = ("submit", PRIMES, "--range", "0:40", "--joblog", log, "-k", "-c", gateway.folder)
    full = await run_with_room_for(1, *wanted)
    assert (full.code, "Traceback" in full.err) == (1, False), full.err
    assert f"--joblog {log}: can't be written: File too large" in full.err
    n_before = log.read_text().count("\n") - 1
    assert 0 < n_before < 40
    found = re.search(r"^Job (\w+) goes on, and nothing is lost of it", full.err, re.MULTILINE)
    assert found is not None, full.err
    done = await run_beside(*wanted, "--job", found[1], "--resume")
    assert done.code == 0, done.err
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    assert sorted(int(line[0]) for line in lines[1:]) == list(range(1, 41))
    assert {len(line) for line in lines} == {9}


async def test_a_token_that_is_revoked_while_a_job_is_watched_is_told_from_none(
    gateway: RunningHub, run_beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    status = JobService.status

    async def noted(self: JobService, job_id: str, wait_s: float) -> Any:
        if wait_s:
            asked.set()
        return await status(self, job_id, wait_s)

    monkeypatch.setattr(JobService, "status", noted)
    here = ("-c", gateway.folder)
    made = json.loads(
        (await run_beside("token", "create", "phone", "--scope", "admin", *here, "--json")).out
    )
    job = (await run_beside("submit", PRIMES, "--range", "0:100", *here)).out.strip()
    watching = asyncio.create_task(
        run_beside("job", "watch", job, "--url", gateway.url, "--token", made["token"])
    )

    await asked.wait()
    assert (await run_beside("token", "revoke", made["id"], *here)).code == 0
    done = await watching
    assert done.code == 4, done.err
    assert f"Job {job} goes on; with a valid token: swarm-hub job watch {job}" in done.err
    assert "this token is not known here; it may be revoked or have expired" in done.err
    without = await run_beside(
        "job", "watch", job, "--url", gateway.url, "-c", gateway.folder / "nowhere"
    )
    assert (without.code, "wants a token, and none is found" in without.err) == (4, True)
