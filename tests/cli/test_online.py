"""Commands that talk to a hub: results on stdout, everything else on stderr, exit codes."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import pytest

from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.scheduler import state_machine
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import EXAMPLES, RunningHub, Swarm, until
from tests.helpers.command_line import Done
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]
PRIMES = EXAMPLES / "primes" / "primes.wat"
ECHO = EXAMPLES / "echo" / "echo.wat"


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    """A gateway whose directory holds the admin token that `init` would have written."""
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def job_id(run: Beside, hub: RunningHub, *arguments: object) -> str:
    done = await run("submit", *arguments, "-c", hub.folder)
    assert done.code == 0, done.err
    return done.out.strip()


async def test_submit_watch_prints_the_result_alone_on_stdout(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    await swarm.worker("worker")
    done = await run_beside("submit", PRIMES, "--range", "0:1000", "--watch", "-c", gateway.folder)
    assert (done.code, done.out) == (0, "168")
    assert "Job 01" in done.err
    (tmp_path / "lines.txt").write_bytes(b"one\ntwo\n")
    arguments = ("submit", ECHO, tmp_path / "lines.txt", "--split", "lines", "--watch")
    done = await run_beside(*arguments, "-c", gateway.folder)
    assert (done.code, done.out) == (0, "one\ntwo\n")
    done = await run_beside(
        "submit", ECHO, "-", "--reduce", "concat", "--watch", "-c", gateway.folder, stdin=b"x\ny"
    )
    assert (done.code, done.out) == (0, "x\ny")
    done = await run_beside(
        "submit", PRIMES, "--range", "0:10", "--watch", "--json", "-c", gateway.folder
    )
    assert json.loads(done.out)["result"] == 4


async def test_submit_watch_asks_for_its_result_once(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    result, status = JobService.result, JobService.status

    async def noted_result(self: JobService, job_id: str, **options: Any) -> Any:
        asked.append("result")
        return await result(self, job_id, **options)

    async def noted_status(self: JobService, job_id: str, wait_s: float) -> Any:
        found = await status(self, job_id, wait_s)
        if "result" in found:
            asked.append("status")
        return found

    monkeypatch.setattr(JobService, "result", noted_result)
    monkeypatch.setattr(JobService, "status", noted_status)
    await swarm.worker("worker")
    here = ("--watch", "-c", gateway.folder)
    done = await run_beside("submit", PRIMES, "--range", "0:100", *here)
    assert (done.out, asked) == ("25", ["status"])
    asked.clear()
    done = await run_beside("submit", ECHO, "-", *here, stdin=b"x\n")
    assert (done.code, asked) == (0, ["result"])


def watcher(job: str, hub: RunningHub, said: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start `job watch` as a terminal does: what a shell runs in its background ignores Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "swarm_hub", "job", "watch", job, "-c", str(hub.folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


async def test_ctrl_c_ends_the_watching_and_says_that_the_job_goes_on(
    gateway: RunningHub, run_beside: Beside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = asyncio.Event()
    status = JobService.status

    async def noted(self: JobService, job_id: str, wait_s: float) -> Any:
        if wait_s:
            asked.set()
        return await status(self, job_id, wait_s)

    monkeypatch.setattr(JobService, "status", noted)
    job = await job_id(run_beside, gateway, PRIMES, "--range", "0:100")
    with (tmp_path / "said").open("wb") as said:
        process = watcher(job, gateway, said)
        await asyncio.wait_for(asked.wait(), 60)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 130
    text = (tmp_path / "said").read_text()
    assert text.endswith(
        f"Job {job} goes on\nTo watch it again: swarm-hub job watch {job}\n"
        f"To cancel it: swarm-hub job cancel {job}\n\n"
    )
    assert (await call(gateway, "GET", f"/jobs/{job}"))[1]["state"] == "queued"


async def test_submit_watch_in_a_pipe_says_why_the_job_waits(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    await swarm.worker("worker")
    done = await run_beside(
        "submit", PRIMES, "--range", "0:10", "--on", "room=attic", "--deadline", "3s", "--watch",
        "-c", gateway.folder,
    )  # fmt: skip
    assert (done.code, done.out) == (1, "")
    assert done.err.count("It waits: 1 node: 1 without the label room: attic") == 1


async def test_submit_on_unmetered_waits_for_another_network(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    metered = "worker: {charging_only: false, min_battery: 0, metered: true}\n"
    await swarm.worker("phone", extra=metered)

    async def heard() -> bool:
        _, found = await call(gateway, "GET", "/nodes")
        return any(node["telemetry"]["metered"] for node in found["nodes"])

    await until(heard, bool)
    submitted = await job_id(run_beside, gateway, PRIMES, "--range", "0:10", "--on", "unmetered")
    shown = await run_beside("job", "show", submitted, "-c", gateway.folder)
    assert "1 on a metered network" in shown.out
    listed = await run_beside("node", "list", "-c", gateway.folder)
    assert ", metered" in listed.out
    shown = await run_beside("node", "show", "phone", "-c", gateway.folder)
    assert re.search(r"^telemetry metered +True$", shown.out, re.MULTILINE)
    done = await run_beside(
        "submit", PRIMES, "--range", "0:10", "--on", "kitchen", "-c", gateway.folder
    )
    assert done.code == 2
    assert "expected NAME=TEXT or unmetered, got 'kitchen'" in done.err


async def test_a_failed_job_is_exit_code_1_with_its_reasons_on_stderr(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path,
    modules: dict[str, bytes],
) -> None:  # fmt: skip
    await swarm.worker("worker")
    (tmp_path / "trap.wasm").write_bytes(modules["trap"])
    done = await run_beside(
        "submit", tmp_path / "trap.wasm", "--range", "0:10", "--watch", "-c", gateway.folder
    )
    assert (done.code, done.out) == (1, "")
    assert "unreachable" in done.err
    assert "Traceback" not in done.err


async def test_a_job_is_listed_shown_watched_and_its_result_fetched(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    job = await job_id(run_beside, gateway, PRIMES, "--range", "0:100", "--shard-size", "50")
    assert job in (await run_beside("job", "list", *here)).out
    shown = await run_beside("job", "show", job, *here)
    assert "queued" in shown.out
    early = await run_beside("job", "result", job, *here)
    assert (early.code, early.out) == (1, "")
    assert "only a completed job has a result" in early.err
    await swarm.worker("worker")
    watched = await run_beside("job", "watch", job, *here)
    assert (watched.code, watched.out) == (0, "25")
    assert (await run_beside("job", "result", job, *here)).out == "25"
    saved = await run_beside("job", "result", job, "-o", tmp_path / "out", *here)
    assert (saved.code, saved.out, (tmp_path / "out").read_text()) == (0, "", "25")
    unwritable = await run_beside("job", "result", job, "-o", tmp_path / "no" / "out", *here)
    assert (unwritable.code, "can't be written: No such file" in unwritable.err) == (1, True)
    shown = await run_beside("job", "show", job, *here)
    assert "2 of 2 shards" in shown.out
    status = json.loads((await run_beside("job", "show", job, "--json", *here)).out)
    assert (status["state"], status["result"]) == ("completed", 25)
    (listed,) = json.loads((await run_beside("job", "list", "--json", *here)).out)
    assert listed["job_id"] == job


async def test_the_events_of_a_job_are_followed_to_its_end(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    job = await job_id(run_beside, gateway, PRIMES, "--range", "0:100", "--shard-size", "50")
    so_far = await run_beside("job", "events", job[:20], *here)
    assert re.fullmatch(r"20\d\d-\S+ \S+  job_queued      100 items\n", so_far.out)
    following = asyncio.create_task(run_beside("job", "events", "-f", job, "--json", *here))
    await swarm.worker("worker")
    events = [json.loads(line) for line in (await following).out.splitlines()]
    kinds = [each["event_type"] for each in events]
    assert (kinds[0], kinds[-1], kinds.count("shard_done")) == ("job_queued", "job_completed", 2)
    assert sorted({each["seq"] for each in events}) == [each["seq"] for each in events]
    told = await run_beside("job", "events", job, *here)
    assert len(told.out.splitlines()) == len(events)
    assert re.search(r"shard_assigned  shard 0, 50 items, on worker$", told.out, re.MULTILINE)


async def test_a_large_result_is_fetched_by_the_hash_in_the_status(
    swarm: Swarm, run_beside: Beside, tmp_path: Path
) -> None:
    hub = await swarm.gateway(extra="content:\n")
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    await swarm.worker("worker")
    (tmp_path / "lines.txt").write_bytes(b"line\n" * 60_000)
    done = await run_beside(
        "submit", ECHO, tmp_path / "lines.txt", "--split", "lines", "--watch", "--json",
        "-c", hub.folder,
    )  # fmt: skip
    sha = json.loads(done.out)["result_sha"]
    saved = tmp_path / "saved"
    done = await run_beside("data", sha, "-o", saved, "-c", hub.folder)
    assert (done.code, done.out) == (0, "")
    assert saved.read_bytes() == b"line\n" * 60_000
    done = await run_beside("data", "0" * 64, "-c", hub.folder)
    assert (done.code, done.out) == (1, "")
    assert "none of 0 hubs" in done.err


async def test_a_job_is_cancelled(gateway: RunningHub, run_beside: Beside) -> None:
    job = await job_id(run_beside, gateway, PRIMES, "--range", "0:100")
    done = await run_beside("job", "cancel", job, "-c", gateway.folder)
    assert (done.code, done.out) == (0, "")
    assert "is cancelled" in done.err
    watched = await run_beside("job", "watch", job, "-c", gateway.folder)
    assert (watched.code, watched.out) == (1, "")
    assert "cancelled: 0 of 100 items (0%), in " in watched.err
    unknown = await run_beside("job", "cancel", "01NONE", "-c", gateway.folder)
    assert (unknown.code, "there is no job 01NONE" in unknown.err) == (1, True)


async def test_a_failed_job_is_shown_with_what_was_done(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path,
    modules: dict[str, bytes],
) -> None:  # fmt: skip
    here = ("-c", gateway.folder)
    await swarm.worker("worker")
    (tmp_path / "unlucky.wasm").write_bytes(modules["unlucky"])
    ranged = ("--range", "0:8", "--shard-size", "1")
    job = await job_id(run_beside, gateway, tmp_path / "unlucky.wasm", *ranged)
    watched = await run_beside("job", "watch", job, *here)
    assert watched.code == 1
    assert re.search(
        r"^failed: 7 of 8 items \(87%\), in [^,]+, 2 retries$", watched.err, re.MULTILINE
    )
    assert "  7/8 87%  " in (await run_beside("job", "list", *here)).out
    shown = await run_beside("job", "show", job, *here)
    assert "7 of 8 items, 7 of 8 shards" in shown.out
    refused = await run_beside("job", "result", job, *here)
    assert (refused.code, refused.out) == (1, "")
    assert "--partial (?partial=true) gives that of the 7 of 8 items" in refused.err
    done = await run_beside("job", "result", job, "--partial", *here)
    assert (done.code, done.out) == (0, "7")
    assert "is failed: this is the result of 7 of 8 items" in done.err


async def test_a_job_that_wrote_no_file_is_noted_beside_its_result(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path,
    modules: dict[str, bytes],
) -> None:  # fmt: skip
    here = ("-c", gateway.folder)
    await swarm.worker("worker")
    (tmp_path / "talks.wasm").write_bytes(modules["talks"])
    arguments = ("submit", tmp_path / "talks.wasm", PRIMES, "--abi", "wasi-files", "--watch")
    said = "0 files were written to /out: a module of abi wasi-files writes there"
    done = await run_beside(*arguments, *here)
    assert (done.code, done.out) == (0, "\0" * 1024)
    assert f"Note: {said}" in done.err
    (listed,) = json.loads((await run_beside("job", "list", "--json", *here)).out)
    shown = await run_beside("job", "show", listed["job_id"], *here)
    assert re.search(rf"^note +{said}$", shown.out, re.MULTILINE)
    result = await run_beside("job", "result", listed["job_id"], *here)
    assert (result.out, result.err) == ("\0" * 1024, f"Note: {said}\n")


async def test_nodes_are_listed_banned_and_unbanned(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    here = ("-c", gateway.folder)
    empty = await run_beside("node", "list", *here)
    assert (empty.code, empty.out) == (0, "")
    await swarm.worker("kitchen-tablet")

    async def states() -> list[str]:
        _, body = await call(gateway, "GET", "/nodes")
        return [node["state"] for node in body["nodes"]]

    await until(states, lambda found: found == ["up"])
    listed = await run_beside("node", "list", *here)
    heading, row = listed.out.splitlines()
    assert heading.split()[:4] == ["NODE", "STATE", "NAME", "BUSY"]
    node_id, state, name = row.split()[:3]
    assert (state, name) == ("up", "kitchen-tablet")
    assert (await run_beside("node", "ban", node_id, "--reason", "too slow", *here)).code == 0
    listed = await run_beside("node", "list", *here)
    assert "banned" in listed.out
    assert "too slow" in listed.out
    assert (await run_beside("node", "unban", node_id, *here)).code == 0
    await until(states, lambda found: found == ["up"])
    unknown = await run_beside("node", "ban", "12D3KooWnobody", *here)
    assert (unknown.code, "there is no node" in unknown.err) == (1, True)


async def test_a_pending_node_is_listed_and_approved(swarm: Swarm, run_beside: Beside) -> None:
    gateway = await swarm.gateway(admission="manual")
    (gateway.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(gateway.token)
    here = ("-c", gateway.folder)
    await swarm.worker("kitchen-tablet")

    async def states() -> list[str]:
        _, body = await call(gateway, "GET", "/nodes")
        return [node["state"] for node in body["nodes"]]

    await until(states, lambda found: found == ["pending"])
    listed = await run_beside("node", "list", *here)
    node_id, state, name = listed.out.splitlines()[1].split()[:3]
    assert (state, name) == ("pending", "kitchen-tablet")
    assert (await run_beside("node", "approve", node_id, *here)).code == 0
    await until(states, lambda found: found == ["up"])
    unknown = await run_beside("node", "approve", "nobody", *here)
    assert (unknown.code, "there is no node" in unknown.err) == (1, True)


async def test_a_refused_submission_is_exit_code_1_and_says_what_to_do(
    gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    (tmp_path / "image.wasm").write_bytes(b"\x89PNG")
    here = ("-c", gateway.folder)
    done = await run_beside("submit", tmp_path / "image.wasm", "--range", "0:5", *here)
    assert (done.code, done.out) == (1, "")
    assert "not a Wasm module" in done.err
    (tmp_path / "words").write_text("some words\n")
    done = await run_beside("submit", PRIMES, tmp_path / "words", *here)
    assert "the module takes numbers, so it wants a range: LO:HI or" in done.err
    done = await run_beside("submit", PRIMES, tmp_path / "words", "--split", "lines", *here)
    assert "fit range (split range), which takes no split lines; leave out `split`" in done.err
    done = await run_beside("submit", "primes", "--range", "0:5", *here)
    assert done.code == 2
    assert (
        "the file primes does not exist; the example is printed by: swarm-hub example" in done.err
    )
    done = await run_beside("submit", PRIMES, "--range", "0:5", "--entry", "mapp", *here)
    assert "did you mean map?" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", PRIMES],
        ["submit", PRIMES, "--range", "5"],
        ["submit", PRIMES, "--range", "a:b"],
        ["submit", PRIMES, PRIMES, "--range", "0:5"],
        ["submit", PRIMES, "--range", "0:5", "--shard-size", "0"],
        ["submit", "no-such-file.wasm", "--range", "0:5"],
        ["job", "list", "--limit", "0"],
    ],
)
async def test_wrong_usage_is_exit_code_2(run_beside: Beside, arguments: list[Any]) -> None:
    done = await run_beside(*arguments)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err


async def test_no_hub_is_exit_code_3(run_beside: Beside, tmp_path: Path) -> None:
    for arguments in (["job", "list"], ["node", "list"], ["submit", PRIMES, "--range", "0:5"]):
        done = await run_beside(
            *arguments, "-c", tmp_path, "--url", "http://127.0.0.1:1", "--token", "x"
        )
        assert done.code == 3, done.err
        assert "no hub answers at http://127.0.0.1:1" in done.err
        assert "Traceback" not in done.err


async def test_what_a_token_may_not_do_is_exit_code_4(
    gateway: RunningHub, run_beside: Beside, tmp_path: Path
) -> None:
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    _, reader = tokens.create("reader", "read", 0.0)
    environ = {"SWARM_HUB_URL": gateway.url, "SWARM_HUB_TOKEN": reader}
    assert (await run_beside("job", "list", **environ)).code == 0
    done = await run_beside("submit", PRIMES, "--range", "0:5", **environ)
    assert done.code == 4
    assert "this needs submit" in done.err
    done = await run_beside("job", "list", **{**environ, "SWARM_HUB_TOKEN": "swh_wrong"})
    assert done.code == 4
    assert "this token is not known here; it may be revoked or have expired" in done.err
    done = await run_beside("job", "list", "-c", tmp_path, "--url", gateway.url)
    assert done.code == 4
    assert f"{gateway.url} wants a token, and none is found here for it" in done.err


async def test_tokens_are_made_and_revoked_beside_the_running_hub(
    gateway: RunningHub, run_beside: Beside
) -> None:
    made = await run_beside("token", "create", "phone", "-c", gateway.folder, "--json")
    token = json.loads(made.out)
    assert (await call(gateway, "GET", "/jobs", token=token["token"]))[0] == 200
    revoked = await run_beside("token", "revoke", token["id"], "-c", gateway.folder)
    assert revoked.code == 0
    assert (await call(gateway, "GET", "/jobs", token=token["token"]))[0] == 401


async def test_a_hub_that_goes_away_while_it_is_watched_is_waited_for(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await job_id(run_beside, gateway, PRIMES, "--range", "0:100")
    asked = asyncio.Event()
    status = JobService.status

    async def noted(self: JobService, job_id: str, wait_s: float) -> Any:
        if wait_s:
            asked.set()
        return await status(self, job_id, wait_s)

    monkeypatch.setattr(JobService, "status", noted)
    watching = asyncio.create_task(run_beside("job", "watch", job, "-c", gateway.folder))
    await asked.wait()
    await swarm.stop(gateway)
    again = await swarm.start(
        "gateway",
        f"gateway: {{admission: open}}\napi: {{port: {gateway.url.rpartition(':')[2]}}}\n",
    )
    (again.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(gateway.token)
    await swarm.worker("worker")
    done = await watching
    assert (done.code, done.out) == (0, "25"), done.err
    assert done.err.count("The gateway does not answer. The job is safe: ") == 1
    assert done.err.count("The gateway is back\n") == 1


async def test_items_that_are_left_out_are_exit_code_1_beside_the_result(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path,
    modules: dict[str, bytes],
) -> None:  # fmt: skip
    await swarm.worker("kitchen")
    (tmp_path / "cat.wasm").write_bytes(modules["cat_but_x"])
    (tmp_path / "prices.csv").write_bytes(b"a\nb\nX\nd\n")
    here = ("-c", gateway.folder)
    arguments = ("submit", tmp_path / "cat.wasm", tmp_path / "prices.csv", "--on-error", "skip")
    done = await run_beside(*arguments, "--watch", *here)
    assert (done.code, done.out) == (1, "a\nb\nd\n")
    job = re.search(r"^Job (\w+)$", done.err, re.MULTILINE)
    assert job is not None
    told = f"1 of 4 items failed; see: swarm-hub job failures {job[1]}\n"
    assert done.err.endswith(told)
    assert (await run_beside("job", "show", job[1], *here)).err == told
    watched = await run_beside("job", "watch", job[1], "--json", *here)
    assert (watched.code, json.loads(watched.out)["failed_items"]) == (1, 1)
    assert (await run_beside("job", "result", job[1], *here)).err == told
    listed = await run_beside("job", "failures", job[1], *here)
    line = "item 2 (prices.csv:3): exit 3: bad row: price is empty; on kitchen"
    assert (listed.code, listed.out) == (0, f"skipped    {line}\n")
    listed = await run_beside("job", "failures", job[1], "--json", *here)
    assert [each["message"] for each in json.loads(listed.out)] == [line]
    for most, code in (("0", 1), ("25%", 1), ("1", 1)):
        done = await run_beside(*arguments, "--max-failures", most, "--watch", "--json", *here)
        state = json.loads(done.out)["state"]
        assert (done.code, state) == (code, "failed" if most == "0" else "completed")


async def test_a_problem_is_told_while_it_is_tried_again(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, tmp_path: Path,
    modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(state_machine, "pause_s", lambda shard: 3600.0)
    answered: list[str | None] = []
    status = JobService.status

    async def noted(self: JobService, job_id: str, wait_s: float) -> Any:
        found = await status(self, job_id, wait_s)
        answered.append(found["problem"])
        return found

    monkeypatch.setattr(JobService, "status", noted)
    await swarm.worker("kitchen")
    (tmp_path / "cat.wasm").write_bytes(modules["cat_but_x"])
    (tmp_path / "prices.csv").write_bytes(b"X\n")
    here = ("-c", gateway.folder)
    job = await job_id(
        run_beside, gateway, tmp_path / "cat.wasm", tmp_path / "prices.csv", "--no-isolate"
    )
    told = "item 0 (prices.csv:1): exit 3: bad row: price is empty; on kitchen; tried once so far"

    async def shown() -> str:
        return str((await run_beside("job", "show", job, *here)).out)

    await until(shown, lambda text: f"problem      {told}\n" in text)
    answered.clear()
    watching = asyncio.create_task(run_beside("job", "watch", job, *here))

    async def polls() -> int:
        return answered.count(told)

    await until(polls, lambda count: count >= 3)
    await call(gateway, "DELETE", f"/jobs/{job}")
    assert (await watching).err.count(f"Problem: {told}\n") == 1
