"""Waiting for a job with its progress on stderr, and its result on stdout."""

import sys
from collections.abc import Iterable
from typing import Any, Final

from swarm_hub.cli.options import note, print_json
from swarm_hub.client import JobFailedError, SwarmClient
from swarm_hub.util.printable import printable

_WATCH_EVERY_S: Final = 1.0
_BAR_CHARS: Final = 40


def progress_bar(done: int, of: int | None) -> str:
    """Return a bar that tells what is done by its characters: colours get lost in a log."""
    full = 0 if not of else _BAR_CHARS * done // of
    return "━" * full + "·" * (_BAR_CHARS - full)


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


async def follow(swarm: SwarmClient, job_id: str) -> dict[str, Any]:
    """Wait for a job with its progress on stderr; returns its last status."""
    from rich.console import Console, RenderableType
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Bar(Progress):
        """A bar with the newest problem under it."""

        problem = ""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if self.problem:
                yield Text(self.problem)

    columns = (
        TextColumn("{task.description}"), TextColumn("{task.fields[bar]}"), MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    told = {"waits": "", "problem": ""}
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("items", total=None, note="", bar=progress_bar(0, None))

        def tell(status: dict[str, Any], name: str, words: str) -> str:
            text = printable(status.get(name) or "")
            if text and text != told[name] and not console.is_terminal:
                # In a file or a pipe the bar is drawn at the end only.
                note(f"{words}: {text}")
                told[name] = text
            return text

        def show_progress(status: dict[str, Any]) -> None:
            progress = status["progress"]
            waits = tell(status, "waits", "It waits")
            problem = tell(status, "problem", "Problem")
            bar.problem = problem if console.is_terminal else ""
            retries = f"{progress['retries']} retries" if progress["retries"] else ""
            bar.update(
                task,
                description=status["state"],
                completed=progress["items_done"],
                total=progress["items"],
                bar=progress_bar(progress["items_done"], progress["items"]),
                note=waits or retries,
            )

        return await swarm.wait(job_id, progress=show_progress, every_s=_WATCH_EVERY_S)


async def watched(swarm: SwarmClient, job_id: str, as_json: bool) -> int:
    """Wait for a job and print its result; returns 1 if it failed or items are left out of it."""
    status = await follow(swarm, job_id)
    note_of_result(status)
    whole = status["state"] == "completed" and not status.get("failed_items")
    if as_json:
        print_json(status)
    elif status["state"] == "completed":
        print_result(await swarm.result(job_id))
    else:
        note(str(JobFailedError(status)))
    note_of_failed_items(status)
    return 0 if whole else 1


def print_result(body: bytes) -> None:
    """Write a result to stdout unchanged; a terminal also gets a final newline."""
    sys.stdout.buffer.write(body)
    if sys.stdout.isatty() and not body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
