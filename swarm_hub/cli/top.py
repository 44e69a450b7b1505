"""`top`: the nodes and jobs of a swarm, live; in a pipe once."""

import asyncio
import os
import re
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.following import is_away
from swarm_hub.cli.options import Target, echo, hub_options, json_option, print_json
from swarm_hub.cli.overview import SORTS, Overview, overview_lines
from swarm_hub.client import ClientError, SwarmClient
from swarm_hub.util.printable import printable

_EVERY_S: Final = 1.0
_JOBS: Final = 50
_KEY_BYTES: Final = 64
# Those that have no character of their own come as a sequence.
_KEY: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO.|.", re.DOTALL)
_STEPS: Final = {"\x1b[A": -1, "\x1bOA": -1, "k": -1, "\x1b[B": 1, "\x1bOB": 1, "j": 1}
_STYLES: Final = {
    "title": "bold", "heading": "bold", "chosen": "reverse", "question": "bold yellow",
}  # fmt: skip


@click.command()
@hub_options
@json_option
@click.option(
    "--sort", type=click.Choice(SORTS), default=SORTS[0], show_default=True,
    help="The order of the jobs; s changes it.",
)  # fmt: skip
def top(hub: Target, as_json: bool, sort: str) -> None:
    """Show nodes and jobs, live on a terminal, once in a pipe.

    Keys: q quits, s sorts the jobs otherwise, the arrows choose a job, c cancels it after asking.
    """
    view = Overview(hub.url, sort=sort)
    if as_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        call(hub, lambda swarm: _once(swarm, view, as_json))
    else:
        call(hub, lambda swarm: _live(swarm, view))


async def _once(swarm: SwarmClient, view: Overview, as_json: bool) -> None:
    nodes, jobs = await _asked(swarm)
    if as_json:
        print_json({"nodes": nodes, "jobs": jobs})
        return
    view.see(nodes, jobs, time.monotonic())
    for line in overview_lines(view, time.monotonic(), _width_of_stdout()):
        echo(line.text)


def _width_of_stdout() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


async def _asked(swarm: SwarmClient) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the nodes, and the unfinished jobs with the newest others."""
    nodes = await swarm.nodes()
    unfinished = await swarm.jobs(_JOBS, {"state": "queued,running"})
    newest = await swarm.jobs(_JOBS)
    found = {each["job_id"]: each for each in (*newest, *unfinished)}
    return [*nodes], [*found.values()]


async def _live(swarm: SwarmClient, view: Overview) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    keys: asyncio.Queue[str] = asyncio.Queue()

    def draw() -> None:
        size = shutil.get_terminal_size()
        text = Text(no_wrap=True, overflow="crop")
        lines = overview_lines(view, time.monotonic(), size.columns, size.lines)
        for number, line in enumerate(lines[: size.lines]):
            text.append("\n" * bool(number) + printable(line.text), _STYLES.get(line.kind, ""))
        live.update(text, refresh=True)

    nodes, jobs = await _asked(swarm)
    view.see(nodes, jobs, time.monotonic())
    with (
        _key_by_key(keys),
        Live(console=Console(), screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        asks_at = time.monotonic() + _EVERY_S
        while True:
            draw()
            try:
                async with asyncio.timeout(max(0.0, asks_at - time.monotonic())):
                    key = await keys.get()
            except TimeoutError:
                await _ask_again(swarm, view)
                asks_at = time.monotonic() + _EVERY_S
                continue
            if not await _on_key(swarm, view, key):
                return


async def _ask_again(swarm: SwarmClient, view: Overview) -> None:
    try:
        nodes, jobs = await _asked(swarm)
    except ClientError as error:
        if not is_away(error):
            raise
        view.lost_at = view.lost_at or time.monotonic()
    else:
        view.see(nodes, jobs, time.monotonic())


async def _on_key(swarm: SwarmClient, view: Overview, key: str) -> bool:
    """Do what a key says; returns whether to go on."""
    view.said = ""
    if view.asked is not None:
        job_id, view.asked = view.asked, None
        if key in ("y", "Y"):
            try:
                status = await swarm.cancel(job_id)
                view.said = f"{job_id} is {status['state']}"
            except ClientError as error:
                view.said = str(error)
        return True
    if key in ("q", "Q", "\x04"):
        return False
    if key in ("s", "S"):
        view.sort = SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]
    elif key in _STEPS:
        view.choose(_STEPS[key])
    elif key in ("c", "C"):
        view.asked = view.chosen
        view.said = "" if view.chosen else "Choose a job with ↑ and ↓ first"
    return True


@contextmanager
def _key_by_key(keys: asyncio.Queue[str]) -> Iterator[None]:
    """Put each key into the queue as it is pressed, and show none."""
    stdin, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(stdin)

    def read() -> None:
        typed = os.read(stdin, _KEY_BYTES).decode(errors="ignore")
        for key in _KEY.findall(typed):
            keys.put_nowait(key)
        if not typed:
            # The terminal is gone.
            keys.put_nowait("q")

    tty.setcbreak(stdin)
    loop.add_reader(stdin, read)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
