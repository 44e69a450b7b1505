"""`top`: what it shows at which width, what its keys do, and that it ends in a pipe."""

import asyncio
import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swarm_hub.cli import overview
from swarm_hub.cli.overview import Overview, overview_lines
from tests.conftest import EXAMPLES, Swarm, until
from tests.helpers import warm
from tests.helpers.command_line import Done
from tests.helpers.rest import call

Beside = Callable[..., Awaitable[Done]]
PRIMES = EXAMPLES / "primes" / "primes.wat"


def node(name: str, state: str, slots: int | None, busy: int, **more: Any) -> dict[str, Any]:
    telemetry = {"cpu_percent": 12.0 if slots else None, "battery_percent": None}
    return {
        "node_id": f"12D3KooW{name}", "name": name, "state": state, "slots": slots,
        "assignments": busy, "ban_reason": None, "drain_reason": None, "refuses": None,
        "telemetry": telemetry, **more,
    }  # fmt: skip


def job(number: int, state: str, done: int, **more: Any) -> dict[str, Any]:
    ended = state not in ("queued", "running")
    return {
        "job_id": f"01M8MVX07FGHB7RS5HPN3DK4{number:02}", "state": state, "name": None,
        "owner": "ada", "created_at": "2001-01-01T00:00:00+00:00",
        "finished_at": "2001-01-01T00:00:00+00:00" if ended else None,
        "progress": {"items": 4000, "items_done": done}, **more,
    }  # fmt: skip


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> Overview:
    """A swarm of three nodes and three jobs, one of which does 100 items a second."""
    monkeypatch.setattr(overview, "age", lambda text: "5 min")
    found = Overview("http://127.0.0.1:8470")
    nodes = [
        node("attic", "down", None, 0, refuses=None),
        node("cellar", "up", 2, 0, refuses="not charging"),
        node("kitchen", "up", 4, 3),
    ]
    for at in (0.0, 10.0):
        jobs = [
            job(1, "completed", 4000),
            job(2, "running", int(at * 100), name="nightly"),
            job(3, "queued", 0),
        ]
        found.see(nodes, jobs, at)
    return found


AT_80 = """\
2 of 3 nodes up, 3 of 6 slots busy; jobs: 1 running, 1 queued

NODE     STATE  BUSY  CPU  TAKES NO WORK
kitchen  up      3/4  12%
cellar   up      0/2  12%  not charging
attic    down

JOB                   STATE      NAME     DONE  ITEMS   RATE   ETA    AGE  OWNER
01M8MVX07FGHB7RS5HP…  running    nightly   25%  4,000  100/s  30 s  5 min  ada
01M8MVX07FGHB7RS5HP…  queued                0%  4,000               5 min  ada
01M8MVX07FGHB7RS5HP…  completed           100%  4,000               5 min  ada

q quits, s sorts by state, ↑ ↓ choose a job, c cancels it"""
AT_40 = """\
2/3 up, 3/6 busy, 1 run, 1 queued

NODE     STATE  BUSY  CPU  TAKES NO WORK
kitchen  up      3/4  12%
cellar   up      0/2  12%  not charging
attic    down

JOB                STATE      DONE   ETA
01M8MVX07FGHB7RS…  running     25%  30 s
01M8MVX07FGHB7RS…  queued       0%
01M8MVX07FGHB7RS…  completed  100%

q quit  s sort:state  ↑↓ c cancel"""


@pytest.mark.parametrize(("width", "shown"), [(80, AT_80), (40, AT_40)])
def test_it_fits_the_terminal(view: Overview, width: int, shown: str) -> None:
    lines = [line.text for line in overview_lines(view, 10.0, width, 30)]
    assert "\n".join(lines) == shown
    assert max(map(len, lines)) <= width


def test_a_low_terminal_shows_the_chosen_job(view: Overview) -> None:
    for _ in range(5):
        view.choose(1)
    lines = overview_lines(view, 10.0, 80, 10)
    assert len(lines) <= 10
    (chosen,) = [line.text for line in lines if line.kind == "chosen"]
    assert "completed" in chosen
    assert view.chosen == "01M8MVX07FGHB7RS5HPN3DK401"
    for _ in range(5):
        view.choose(-1)
    assert view.chosen == "01M8MVX07FGHB7RS5HPN3DK402"
    view.asked = view.chosen
    assert overview_lines(view, 10.0, 40, 10)[-1].text == f"Cancel {view.chosen}? y/n"


def test_jobs_are_sorted_as_chosen(view: Overview) -> None:
    orders = {}
    for sort in overview.SORTS:
        view.sort = sort
        orders[sort] = [each["job_id"][-1] for each in view.sorted_jobs()]
    assert orders == {
        "state": ["2", "3", "1"], "age": ["3", "2", "1"], "items": ["3", "2", "1"],
        "name": ["2", "3", "1"],
    }  # fmt: skip


def test_a_gateway_that_is_gone_is_told(view: Overview) -> None:
    view.lost_at = 10.0
    assert "The gateway does not answer for 5.0 s" in overview_lines(view, 15.0, 200)[1].text


async def test_in_a_pipe_it_prints_one_table_and_ends(
    swarm: Swarm, gateway_with_workers: Callable[..., Any], run_beside: Beside
) -> None:
    client = await gateway_with_workers(1)
    hub = client._hub.of(0)
    here = {"SWARM_HUB_URL": hub.reach.url, "SWARM_HUB_TOKEN": hub.token}
    done = await run_beside("top", **here)
    assert done.code == 0, done.err
    assert done.out.startswith("1 of 1 nodes up, 0 of ")
    assert "worker-0  up" in done.out
    told = json.loads((await run_beside("top", "--json", **here)).out)
    assert ([each["name"] for each in told["nodes"]], told["jobs"]) == (["worker-0"], [])


async def test_keys_choose_a_job_cancel_it_after_asking_and_quit(
    swarm: Swarm, run_beside: Beside
) -> None:
    gateway = await swarm.gateway()
    here = {"SWARM_HUB_URL": gateway.url, "SWARM_HUB_TOKEN": gateway.token}
    job = (await run_beside("submit", PRIMES, "--range", "0:9", **here)).out.strip()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = b""

    async def until_seen(text: str) -> None:
        nonlocal seen
        while text.encode() not in seen:
            seen += await asyncio.to_thread(os.read, ours, 65536)
        seen = b""

    with os.fdopen(theirs, "r+b", buffering=0) as terminal:
        clean = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        process = await asyncio.to_thread(
            warm.start, "swarm_hub", ["top"], stdin=terminal, stdout=terminal, stderr=terminal,
            env={**clean, **here, "TERM": "xterm"},
        )  # fmt: skip
        try:
            await until_seen("q quits, s sorts by state")
            os.write(ours, b"s")
            await until_seen("s sorts by age")
            os.write(ours, b"\x1b[Bc")
            await until_seen(f"Cancel {job}? y/n")
            os.write(ours, b"n")
            await until_seen("s sorts by age")
            os.write(ours, b"cy")
            await until_seen(f"{job} is cancelled")

            async def state() -> Any:
                return (await call(gateway, "GET", f"/jobs/{job}"))[1]["state"]

            await until(state, lambda found: found == "cancelled")
            os.write(ours, b"q")
            assert await asyncio.to_thread(process.wait, 30) == 0
        finally:
            process.kill()
    os.close(ours)
