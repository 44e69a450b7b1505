"""`swarm-hub map`: the lines of README, of docs/coming-from.md, and what goes wrong."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from tests.helpers.command_line import Done
from tests.helpers.runtimes import running_python

pytestmark = pytest.mark.slow

Beside = Callable[..., Awaitable[Done]]
JOB = """\
import sys
def clean(name):
    return name.upper()
def size(body):
    return len(body)
def inverse(x):
    return 1 / int(x)
def counted(line):
    return {word: 1 for word in line.split()}
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSwarm]:
    with running_python(tmp_path_factory.mktemp("swarm")) as swarm:
        gateway = swarm.hubs[0]
        (gateway.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(gateway.token)
        yield swarm


@pytest.fixture
def gateway(started: LocalSwarm) -> LocalHub:
    return started.hubs[0]


@pytest.fixture
def outliving(started: LocalSwarm) -> Sequence[LocalHub]:
    return started.hubs


async def test_lines_values_and_files_are_mapped_folded_and_printed_in_order(
    gateway: LocalHub, run_beside: Beside, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    text, job = tmp_path / "text.txt", tmp_path / "job.py"
    text.write_bytes("to be or not\nto be\r\n\nlé".encode())
    job.write_text(JOB)
    done = await run_beside("map", "len(x.split())", text, "--reduce", "sum", *here)
    assert (done.code, done.out) == (0, "7\n"), done.err
    done = await run_beside("map", "x.title()", text, "--shard-size", 1, *here)
    assert (done.code, done.out) == (0, "To Be Or Not\nTo Be\n\nLé\n")
    done = await run_beside("map", "--file", f"{job}:clean", "-", "--unordered", *here,
                            stdin=b"b.csv\na.csv\n")  # fmt: skip
    assert (done.code, sorted(done.out.split())) == (0, ["A.CSV", "B.CSV"]), done.err
    done = await run_beside("map", f"{job}:size", text, job, "--split", "files", *here)
    assert (done.code, done.out) == (0, f"24\n{len(JOB)}\n"), done.err
    done = await run_beside("map", "[x, math.sqrt(x['a'])]", "--split", "json", "--json", *here,
                            stdin=b'[{"a": 4}, {"a": 9}]')  # fmt: skip
    told = json.loads(done.out)
    assert told["results"] == [
        {"item": 0, "value": [{"a": 4}, 2.0]}, {"item": 1, "value": [{"a": 9}, 3.0]},
    ]  # fmt: skip
    again = await run_beside("map", "--job", told["job_id"], *here)
    assert (again.code, again.out) == (0, '[{"a": 4}, 2.0]\n[{"a": 9}, 3.0]\n'), again.err
    done = await run_beside("map", f"{job}:counted", text, "--reduce", "json", *here)
    assert json.loads(done.out)["to"] == 2


async def test_items_that_fail_are_told_logged_and_done_again(
    gateway: LocalHub, run_beside: Beside, tmp_path: Path
) -> None:
    here = ("-c", gateway.folder)
    job, log = tmp_path / "job.py", tmp_path / "log.tsv"
    job.write_text(JOB)
    given = b"1\n0\n2\n4\n"
    wanted = ("map", f"{job}:inverse", "--joblog", log, "--shard-size", 2, *here)
    done = await run_beside(*wanted, "--keep-going", "--parallel-exit", stdin=given)
    assert (done.code, done.out) == (1, "1.0\n0.5\n0.25\n")
    assert "item 1 ('0'): ZeroDivisionError: division by zero" in done.err
    assert 'File "job.py", line 7, in inverse\n    return 1 / int(x)' in done.err
    heading, *lines = [line.split("\t") for line in log.read_text().splitlines()]
    assert heading[:5] == ["FirstItem", "Items", "Node", "Seconds", "Exit"]
    assert sorted([*line[:3], line[4]] for line in lines) == [
        ["0", "1", "worker-0", "0"], ["1", "1", "worker-0", "1"], ["2", "2", "worker-0", "0"],
    ]  # fmt: skip
    # What failed is tried again, and nothing else is.
    done = await run_beside(*wanted, "--resume", stdin=given)
    assert (done.code, done.out) == (1, "")
    assert "item 1 ('0')" in done.err
    refused = await run_beside(*wanted, "--resume", stdin=b"5\n")
    assert (refused.code, refused.out) == (1, "")
    assert "is of another call or of other items" in refused.err
    log.unlink()
    assert (await run_beside(*wanted, stdin=b"1\n2\n")).code == 0
    done = await run_beside(*wanted, "--resume", stdin=b"1\n2\n")
    assert (done.code, done.out) == (0, "")
    assert "Nothing to do" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("map",), 2, "give an expression of x"),
        (("map", "x +"), 1, "the expression 'x +': invalid syntax"),
        (("map", "open(x)"), 1, "no files in a device's sandbox"),
        (("map", "nowhere.py:f"), 1, "nowhere.py: can't be read"),
        (("map", "--file", "job", "-"), 2, "expected FILE.py:FUNCTION"),
        (("map", "x", "--resume"), 2, "--resume needs the --joblog"),
        (("map", "x", "nowhere.txt"), 2, "there is no file nowhere.txt"),
        (("map", "x", "--reduce", "sum", "--unordered"), 2, "leave out --unordered"),
        (("map", "x", "--parallel-exit", "--url", "127.0.0.1:1"), 255, "no hub answers"),
        (("map", "x", "--url", "127.0.0.1:1"), 3, "no hub answers"),
    ],
)
def test_what_can_not_be_meant_is_said(
    arguments: tuple[str, ...], code: int, said: str, run: Callable[..., Done]
) -> None:
    done = run(*arguments, stdin=b"1\n")
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_a_dry_run_lists_what_would_leave(run: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    done = run("map", f"{tmp_path / 'job.py'}:clean", "-", "--dry-run", stdin=b"a\nb\n")
    assert (done.code, done.err) == (0, "")
    assert f"file     job.py, {len(JOB)} bytes\nitems    2, 8 bytes\n" in done.out
    done = run("map", f"{tmp_path / 'job.py'}:clea", "-", stdin=b"a\n")
    assert done.code == 1
    assert "has no function clea; those it has: clean, size" in done.err
