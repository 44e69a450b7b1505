"""Waiting for a job with its progress on stderr, and its result on stdout."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

from swarm_hub.cli.following import is_away, job_events
from swarm_hub.cli.options import note, print_json
from swarm_hub.cli.progress import JobView, bar_line, below_lines, gone, node_lines, plain_line
from swarm_hub.cli.selection import node_names
from swarm_hub.client import ApiError, ClientError, JobFailedError, SwarmClient
from swarm_hub.util.printable import printable

_POLL_S: Final = 1
_NOT_ALLOWED: Final = (401, 403)
_RETRY_S: Final = 0.5
# In a file or a pipe, how often it is told how far the job is.
_LINE_EVERY_S: Final = 10.0
_LAST_SEEN_S: Final = 1.0


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
    with shown(with_nodes) as screen:
        status = await follow(swarm, job_id, screen)
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


class Listener(Protocol):
    """Who wants to know more of a job that is watched."""

    async def on_event(self, event: dict[str, Any], view: JobView) -> None:
        """Take in a durable event; all of them come, in their order."""

    async def on_status(self, view: JobView) -> None:
        """Take in what is known now, every second or so; a gateway may be away meanwhile."""


async def follow(
    swarm: SwarmClient,
    job_id: str,
    screen: "Screen",
    listener: Listener | None = None,
    again: str = "swarm-hub job watch {}",
) -> dict[str, Any]:
    """Wait for a job; returns its last status. A gateway that goes away is waited for.

    `again` is the command that goes on with it.
    """
    view = JobView(time.monotonic())
    try:
        view.see_status(await swarm.status(job_id), time.monotonic())
        async with _events(swarm, job_id, view, listener) as seeing:
            while view.status["finished_at"] is None:
                screen.show(view)
                await _look(swarm, job_id, view)
                if listener is not None:
                    await listener.on_status(view)
                    if seeing.done():
                        await seeing
        screen.end(view)
    except asyncio.CancelledError:
        # Nothing may be drawn over what is said last.
        screen.leave()
        if view.status.get("finished_at") is None:
            note(
                f"Job {job_id} goes on\n"
                f"To watch it again: {again.format(job_id)}\n"
                f"To cancel it: swarm-hub job cancel {job_id}"
            )
        raise
    except ApiError as error:
        if error.status in _NOT_ALLOWED:
            screen.leave()
            note(f"Job {job_id} goes on; with a valid token: {again.format(job_id)}")
        raise
    return view.status


async def _look(swarm: SwarmClient, job_id: str, view: JobView) -> None:
    """Ask for the status once; it is held for up to a second until its state changes."""
    try:
        status = await swarm.status(job_id, wait_s=_POLL_S)
        view.see_status(status, time.monotonic())
        if view.nodes.keys() - view.names.keys():
            view.names = await node_names(swarm)
    except ClientError as error:
        if not is_away(error):
            raise
        view.lost_at = view.lost_at or time.monotonic()
        await asyncio.sleep(_RETRY_S)


@asynccontextmanager
async def _events(
    swarm: SwarmClient, job_id: str, view: JobView, listener: Listener | None
) -> AsyncIterator[asyncio.Task[None]]:
    """Have the view see the job's events meanwhile; at the end all that there were."""

    async def see() -> None:
        async for event in job_events(swarm, job_id):
            view.see_event(event)
            if listener is not None:
                await listener.on_event(event, view)

    seeing = asyncio.create_task(see())
    try:
        yield seeing
        # The last ones are on their way.
        await asyncio.wait([seeing], timeout=_LAST_SEEN_S if listener is None else None)
    finally:
        seeing.cancel()
        (outcome,) = await asyncio.gather(seeing, return_exceptions=True)
    if isinstance(outcome, Exception):
        if listener is not None:
            raise outcome
        note(f"What the nodes did can't be told: {outcome}")


class Screen(Protocol):
    """Where progress is told."""

    def show(self, view: JobView) -> None:
        """Tell how far the job is."""

    def end(self, view: JobView) -> None:
        """Tell how it ended."""

    def leave(self) -> None:
        """Show nothing more."""


class _Lines:
    """Progress as lines of a log, each time that there is something new to say."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {"lost": False, "at": 0.0}

    def show(self, view: JobView) -> None:
        self.tell_problems(view)
        now = time.monotonic()
        is_new = view.status["state"] != self._told.get("state")
        if view.lost_at is None and (is_new or now - self._told["at"] >= _LINE_EVERY_S):
            self._told |= {"state": view.status["state"], "at": now}
            note(plain_line(view))

    def end(self, view: JobView) -> None:
        self.tell_problems(view)
        note(plain_line(view))

    def leave(self) -> None:
        pass

    def tell_problems(self, view: JobView) -> None:
        """Tell what keeps the job from going on, each reason once."""
        is_lost = view.lost_at is not None
        if is_lost != self._told["lost"]:
            self._told["lost"] = is_lost
            note(gone(0) if is_lost else "The gateway is back")
        if is_lost or view.status["finished_at"] is not None:
            return
        for words, text in (("It waits", view.status.get("waits")),
                            ("Problem", view.status.get("problem")),
                            ("Retried", view.retried)):  # fmt: skip
            if text and text != self._told.get(words):
                self._told[words] = text
                note(f"{words}: {text}")


class _Live:
    """Progress as a bar on a terminal, drawn anew in its place."""

    def __init__(self, live: Any, with_nodes: bool) -> None:
        self._live = live
        self._with_nodes = with_nodes

    def show(self, view: JobView) -> None:
        self._draw(view)

    def end(self, view: JobView) -> None:
        self._draw(view)

    def leave(self) -> None:
        self._live.stop()

    def _draw(self, view: JobView) -> None:
        from rich.text import Text

        now, width = time.monotonic(), shutil.get_terminal_size().columns
        lines = [bar_line(view, now, width), *below_lines(view, now)]
        if self._with_nodes:
            lines += node_lines(view, width)
        self._live.update(Text("\n".join(map(printable, lines))), refresh=True)


class _Silence:
    """No progress: stdout is the same terminal, or nobody asked for it; what is wrong is told."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def show(self, view: JobView) -> None:
        self._lines.tell_problems(view)

    def end(self, view: JobView) -> None:
        self._lines.tell_problems(view)

    def leave(self) -> None:
        pass


@contextmanager
def shown(
    with_nodes: bool = False, *, beside_output: bool = False, eta: bool = False
) -> Iterator[Screen]:
    """Give a screen for progress; a bar only where nothing else is written on the terminal."""
    if beside_output and sys.stdout.isatty():
        yield _Lines() if eta else _Silence()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield _Live(live, with_nodes)
