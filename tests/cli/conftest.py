"""Commands as a user types them, in this process or in one of their own."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests import warm

Run = Callable[..., "Done"]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str


def run_process(*arguments: object, stdin: bytes = b"", **environ: str) -> Done:
    """Run `swarm-hub` as a process."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SWARM_HUB")}
    env = {**clean, "COLUMNS": "200", **environ}
    done = warm.run("swarm_hub", arguments, stdin=stdin, env=env)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def run() -> Run:
    """Return a way to run a command and wait for it."""
    return run_process


@pytest.fixture
def run_beside() -> Callable[..., Any]:
    """Return a way to run a command while the hubs of this process go on."""

    async def start(*arguments: object, **options: Any) -> Done:
        return await asyncio.to_thread(run_process, *arguments, **options)

    return start
