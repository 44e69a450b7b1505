"""Waiting for a job with its progress on stderr, and its result on stdout."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

from swarm_hub.cli.following import job_events
from swarm_hub.cli.options import note, print_json
from swarm_hub.cli.progress import JobView, bar_line, below_lines, gone, node_lines, plain_line
from swarm_hub.cli.selection import node_names
from swarm_hub.client import ApiError, JobFailedError, SwarmClient, UnreachableError
from swarm_hub.util.printable import printable

_POLL_S: Final = 1
_RETRY_S: Final = 0.5
# In a file or a pipe, how often it is told how far the job is.
_LINE_EVERY_S: Final = 10.0
_LAST_SEEN_S: Final = 1.0
_LAST_EVENTS_S: Final = 30.0
# What a proxy or a hub that starts says.
_AWAY: Final = (502, 503, 504)


def note_of_result(status: dict[str, Any]) -> None:
    """Print what the hub has to say of a job's result, if anything."""
    if status.get("note"):
        note(f"Note: {status['note']}")


def note_of_failed_items(status: dict[str, Any]) -> None:
    """Print how many items are left out of a job's result, if any."""
    if status.get("failed_items"):
        note(
            f"{status['failed_items']:,} of {status['progress']['items']:,} items failed; see: "
            f"swarm-hub job failures {status['job_id']}"
        )


async def watched(
    swarm: SwarmClient, job_id: str, as_json: bool = False, with_nodes: bool = False
) -> int:
    """Wait for a job and print its result; returns 1 if it failed or items are left out of it."""
    status = await follow(swarm, job_id, with_nodes)
    note_of_result(status)
    if as_json:
        print_json(status)
    elif status["state"] == "completed":
        print_result(await result_of(swarm, status))
    else:
        note(str(JobFailedError(status)))
    note_of_failed_items(status)
    return 0 if is_whole(status) else 1


def is_whole(status: dict[str, Any]) -> bool:
    """Whether a job ended with a result of all its items."""
    return status["state"] == "completed" and not status.get("failed_items")


async def result_of(swarm: SwarmClient, status: dict[str, Any]) -> bytes:
    """Return the bytes of a completed job's result, without asking for what its status tells."""
    if "result" in status:
        # As the gateway itself writes it.
        text = json.dumps(status["result"], separators=(",", ":"), ensure_ascii=False)
        return text.encode()
    return await swarm.result(status["job_id"])


def print_result(body: bytes) -> None:
    """Write a result to stdout unchanged; a terminal also gets a final newline."""
    sys.stdout.buffer.write(body)
    if sys.stdout.isatty() and not body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


async def follow(
    swarm: SwarmClient,
    job_id: str,
    with_nodes: bool = False,
    each: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Wait for a job with its progress on stderr; returns its last status.

    A gateway that goes away is waited for. `each` is called with every event of the job.
    """
    view = JobView(time.monotonic())
    try:
        view.see_status(await swarm.status(job_id), time.monotonic())
        with _shown(with_nodes) as screen:
            async with _events(swarm, job_id, view, each):
                while view.status["finished_at"] is None:
                    screen.show(view)
                    await _look(swarm, job_id, view)
            screen.end(view)
    except asyncio.CancelledError:
        if view.status.get("finished_at") is None:
            note(
                f"Job {job_id} goes on. To watch it again: swarm-hub job watch {job_id}; "
                f"to cancel it: swarm-hub job cancel {job_id}"
            )
        raise
    return view.status


async def _look(swarm: SwarmClient, job_id: str, view: JobView) -> None:
    """Ask for the status once; it is held for up to a second until its state changes."""
    try:
        status = await swarm.status(job_id, wait_s=_POLL_S)
        view.see_status(status, time.monotonic())
        if view.nodes.keys() - view.names.keys():
            view.names = await node_names(swarm)
    except (UnreachableError, ApiError) as error:
        if isinstance(error, ApiError) and error.status not in _AWAY:
            raise
        view.lost_at = view.lost_at or time.monotonic()
        await asyncio.sleep(_RETRY_S)


@asynccontextmanager
async def _events(
    swarm: SwarmClient, job_id: str, view: JobView, each: Callable[[dict[str, Any]], None] | None
) -> AsyncIterator[None]:
    """Have the view see the job's events meanwhile; at the end all that there were."""

    async def see() -> None:
        async for event in job_events(swarm, job_id):
            view.see_event(event)
            if each is not None:
                each(event)

    seeing = asyncio.create_task(see())
    try:
        yield
        # The last ones are on their way.
        await asyncio.wait([seeing], timeout=_LAST_EVENTS_S if each else _LAST_SEEN_S)
    finally:
        seeing.cancel()
        (outcome,) = await asyncio.gather(seeing, return_exceptions=True)
        if isinstance(outcome, Exception):
            note(f"What the nodes did can't be told: {outcome}")


class _Screen(Protocol):
    def show(self, view: JobView) -> None:
        """Tell how far the job is."""

    def end(self, view: JobView) -> None:
        """Tell how it ended."""


class _Lines:
    """Progress as lines of a log, each time that there is something new to say."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {"lost": False, "at": 0.0}

    def show(self, view: JobView) -> None:
        now = time.monotonic()
        self._tell_whether_lost(view)
        if view.lost_at is not None:
            return
        for words, text in (("It waits", view.status.get("waits")),
                            ("Problem", view.status.get("problem")),
                            ("Retried", view.retried)):  # fmt: skip
            if text and text != self._told.get(words):
                self._told[words] = text
                note(f"{words}: {text}")
        is_new = view.status["state"] != self._told.get("state")
        if is_new or now - self._told["at"] >= _LINE_EVERY_S:
            self._told |= {"state": view.status["state"], "at": now}
            note(plain_line(view))

    def end(self, view: JobView) -> None:
        self._tell_whether_lost(view)
        note(plain_line(view))

    def _tell_whether_lost(self, view: JobView) -> None:
        is_lost = view.lost_at is not None
        if is_lost != self._told["lost"]:
            self._told["lost"] = is_lost
            note(gone(0) if is_lost else "The gateway is back")


class _Live:
    """Progress as a bar on a terminal, drawn anew in its place."""

    def __init__(self, live: Any, with_nodes: bool) -> None:
        self._live = live
        self._with_nodes = with_nodes

    def show(self, view: JobView) -> None:
        self._draw(view)

    def end(self, view: JobView) -> None:
        self._draw(view)

    def _draw(self, view: JobView) -> None:
        from rich.text import Text

        now, width = time.monotonic(), shutil.get_terminal_size().columns
        lines = [bar_line(view, now, width), *below_lines(view, now)]
        if self._with_nodes:
            lines += node_lines(view, width)
        self._live.update(Text("\n".join(map(printable, lines))), refresh=True)


@contextmanager
def _shown(with_nodes: bool) -> Iterator[_Screen]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield _Live(live, with_nodes)
