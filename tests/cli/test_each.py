"""`submit` as GNU parallel's users know it: a result, a line and a file for each input."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from tests.conftest import EXAMPLES, RunningHub, Swarm, until
from tests.helpers.command_line import Done
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]
PRIMES = EXAMPLES / "primes" / "primes.wat"


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    """A gateway whose directory holds the admin token that `init` would have written."""
    hub = await swarm.gateway()
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


@pytest.fixture
def cat(tmp_path: Path, modules: dict[str, bytes]) -> Path:
    """A module that gives what it gets, and fails on an X."""
    path = tmp_path / "cat.wasm"
    path.write_bytes(modules["cat_but_x"])
    return path


def columns(log: Path, *names: str) -> list[tuple[str, ...]]:
    heading, *lines = (line.split("\t") for line in log.read_text().splitlines())
    return sorted(tuple(line[heading.index(name)] for name in names) for line in lines)


async def test_each_input_has_its_output_its_file_and_its_line(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, cat: Path, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    await swarm.worker("kitchen")
    files = []
    for name, body in (("a.txt", b"one\ntwo\n"), ("b.txt", b"X\n"), ("c.txt", b"three")):
        (tmp_path / name).write_bytes(body)
        files.append(tmp_path / name)
    log, results = tmp_path / "log", tmp_path / "results"
    wanted = ("submit", cat, *files, "--joblog", log, "--results", results)
    done = await run_beside(*wanted, "--tag", "--keep-order", *here)
    assert (done.code, done.out) == (1, "a.txt\tone\na.txt\ttwo\nc.txt\tthree\n")
    assert "b.txt: exit 3: bad row: price is empty\n" in done.err
    assert done.err.endswith("2 done, 1 failed, 0 not done\n")
    assert {path.name: path.read_bytes() for path in results.iterdir()} == {
        "a.txt": b"one\ntwo\n", "c.txt": b"three",
    }  # fmt: skip
    shown = columns(log, "Seq", "Host", "Receive", "Exitval", "Command")
    assert shown == [
        ("1", "kitchen", "8", "0", "cat.wasm a.txt"),
        ("2", "kitchen", "0", "3", "cat.wasm b.txt"),
        ("3", "kitchen", "5", "0", "cat.wasm c.txt"),
    ]
    # What is in the log is not done again, but what failed is with --resume-failed.
    done = await run_beside(*wanted, "--resume", *here)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("Nothing to do: ")
    files[1].write_bytes(b"mended\n")
    done = await run_beside(*wanted, "--resume-failed", "--json", *here)
    told = json.loads(done.out)
    assert (done.code, told["done"], len(told["job_ids"])) == (0, 1, 1)
    assert (results / "b.txt").read_bytes() == b"mended\n"
    other = await run_beside("submit", cat, *files[1:], "--joblog", log, "--resume", *here)
    assert other.code == 1
    assert "input 1 was 'cat.wasm a.txt' and is 'cat.wasm b.txt' now" in other.err


async def test_lines_and_numbers_are_inputs_and_failures_are_tried_again(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, cat: Path
) -> None:
    here = ("-c", gateway.folder)
    await swarm.worker("kitchen")
    done = await run_beside("submit", cat, "-a", "-", "-k", *here, stdin=b"one\ntwo\nthree")
    assert (done.code, done.out) == (0, "one\ntwo\nthree\n")
    done = await run_beside("submit", PRIMES, "--range", "10:14", "-k", "--tag", *here)
    assert (done.code, done.out) == (0, "10\t0\n11\t1\n12\t0\n13\t1\n")
    done = await run_beside("submit", cat, "-", "--retries", "1", *here, stdin=b"X\nok\n")
    assert (done.code, done.out) == (1, "ok\n")
    assert "1 input failed, to be tried again\n" in done.err
    assert len(re.findall(r"^Job \w+$", done.err, re.MULTILINE)) == 2


async def test_what_is_halted_leaves_the_rest_to_be_resumed(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, cat: Path, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    lines, log = tmp_path / "lines", tmp_path / "log"
    lines.write_bytes(b"X\n" + b"line\n" * 3000)
    await swarm.worker("kitchen")
    arguments = ("submit", cat, "-a", lines, "--joblog", log)
    done = await run_beside(*arguments, "--halt", "now,fail=1", *here)
    assert done.code == 1
    found = re.search(r"^Job (\w+)$", done.err, re.MULTILINE)
    assert found is not None
    assert "1 input failed of 3001: the job is cancelled (--halt)\n" in done.err
    _, status = await call(gateway, "GET", f"/jobs/{found[1]}")
    assert (status["state"], status["progress"]["items_done"] < 3000) == ("cancelled", True)
    n_logged = len(columns(log, "Seq"))
    assert n_logged == status["progress"]["items_done"] + 1


async def test_a_job_is_attached_to_again_and_gives_everything(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside, cat: Path, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    arguments = ("submit", cat, "-a", tmp_path / "lines", "-k")
    (tmp_path / "lines").write_bytes(b"one\ntwo\n")
    waiting = asyncio.create_task(run_beside(*arguments, *here))

    async def jobs() -> list[str]:
        _, page = await call(gateway, "GET", "/jobs")
        return [each["job_id"] for each in page["jobs"]]

    (job,) = await until(jobs, bool, timeout_s=60)
    other = await run_beside("submit", cat, "-", "-k", "--job", job, *here, stdin=b"one\n")
    assert other.code == 1
    assert "has 2 items in shards of 1, and these are 1 inputs" in other.err
    await swarm.worker("kitchen")
    assert (await waiting).out == "one\ntwo\n"
    done = await run_beside(*arguments, "--job", job, *here)
    assert (done.code, done.out) == (0, "one\ntwo\n")
    assert await jobs() == [job]
    # Without inputs it is watched as any job.
    watched = await run_beside("submit", "--job", job[:20], *here)
    assert (watched.code, watched.out) == (0, "2")


async def test_what_a_module_is_to_be_given_reaches_it(
    swarm: Swarm, gateway: RunningHub, run_beside: Beside
) -> None:
    done = await run_beside(
        "submit", PRIMES, "--range", "0:9", "--label", "kind=nightly", "--label", "room=attic",
        "--limits.memory", "16MiB", "--limits.wall-time", "5s", "--limits.output", "1MiB",
        "--limits.fuel", "1000000", "--env", "LANG=C", "--deterministic", "--priority", "-3",
        "-c", gateway.folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    _, status = await call(gateway, "GET", f"/jobs/{done.out.strip()}")
    spec = status["spec"]
    assert spec["labels"] == [["kind", "nightly"], ["room", "attic"]]
    assert spec["limits"] == {
        "memory": 2**24, "wall_time": 5.0, "output": 2**20, "fuel": 1_000_000,
    }  # fmt: skip
    assert (spec["env"], spec["deterministic"], spec["priority"]) == ([["LANG", "C"]], True, -3)


async def test_a_dry_run_submits_nothing(run_beside: Beside, tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"")
    nowhere = {"SWARM_HUB_URL": "127.0.0.1:1"}
    arguments = ("submit", PRIMES, tmp_path / "a b.txt", "--dry-run", "--arg=-n", "--name", "x")
    done = await run_beside(*arguments, "--tag", **nowhere)
    assert (done.code, done.out) == (0, "primes.wat -n 'a b.txt'\n")
    done = await run_beside(*arguments, **nowhere)
    assert done.code == 0
    assert done.out.endswith('spec     {"args": ["-n"], "name": "x"}\n')


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give a MODULE, or --job JOB to go on with one"),
        ((PRIMES, "--range", "0:9", "--tag", "--reduce", "sum"), "leave out --reduce"),
        ((PRIMES, "--range", "0:9", "--tag", "--shard-size", "2"), "leave out --shard-size"),
        ((PRIMES, "--range", "0:9", "--resume"), "--resume needs the --joblog"),
        ((PRIMES, PRIMES, "-a", PRIMES), "-a gives the inputs, each a line"),
        ((PRIMES, "0:9"), "there is no file 0:9; numbers are given with --range 0:9"),
        ((PRIMES, EXAMPLES), "is a directory; give its files: "),
        ((PRIMES, "-", PRIMES), "either - for stdin or files"),
        ((PRIMES, "--range", "0:9", "--halt", "1"), "expected now,fail=1, soon,fail=3"),
        ((PRIMES, "--range", "0:9", "--env", "LANG"), "expected NAME=TEXT, got 'LANG'"),
        ((PRIMES, "--range", "0:9", "--on", "attic"), "expected NAME=TEXT or unmetered"),
    ],
)  # fmt: skip
async def test_a_mistake_is_told(run_beside: Beside, options: tuple[str, ...], said: str) -> None:
    done = await run_beside("submit", *options, "--url", "127.0.0.1:1")
    assert done.code == 2, done.err
    assert said in done.err
