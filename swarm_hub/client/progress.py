"""Telling how far a job is: to a callback, or as a bar on a terminal or in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from swarm_hub.client.records import JobStatus

Tell = Callable[[JobStatus], None]
# True for a bar.
Progress = Tell | bool | None


@contextmanager
def telling(progress: Progress) -> Iterator[Tell | None]:
    """Give what is to be called with each new status, None where nobody wants to know."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar() as tell:
            yield tell
    else:
        yield None


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # A notebook has no stderr of its own.
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console() if console.is_jupyter else console,
        # It is drawn when there is something new, by whoever waits.
        auto_refresh=False,
    )  # fmt: skip
    task: Any = None
    # Several jobs are one bar: items, and how many of them are done, of each that runs and of those
    # that have ended.
    running: dict[str, tuple[int | None, int]] = {}
    ended = (0, 0)

    def tell(status: JobStatus) -> None:
        nonlocal task, ended
        name = status.name or f"job {status.job_id[-6:]}"
        if task is None:
            task = bar.add_task(name, total=None)
        progress = status.progress
        running[status.job_id] = progress.n_items, progress.items_done
        totals, dones = zip(ended, *running.values(), strict=True)
        bar.update(
            task, completed=sum(dones), total=None if None in totals else sum(totals),
            description=f"{name}: {status.state}", refresh=True,
        )  # fmt: skip
        if status.ended:
            n_items, n_done = running.pop(status.job_id)
            ended = ended[0] + (n_items or 0), ended[1] + n_done

    with bar:
        yield tell
