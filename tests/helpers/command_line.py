"""Commands as a user types them, in a process of their own."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from tests.helpers import warm

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
