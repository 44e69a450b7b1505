"""Tasks on Huey with a SQLite file that is synced at each commit, and four worker processes.

`on_huey.py FOLDER` is a client with its consumer, `on_huey.py FOLDER consumer` is the consumer. It
looks for tasks every 1 to 10 ms; by its defaults, 0.1 to 10 s, a job would take as long as those.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huey import SqliteHuey
from serving import FUNCTIONS, WORKERS, serve

_HUEY = SqliteHuey(filename=str(Path(sys.argv[1]) / "huey.db"), fsync=True, timeout=30)
_TASKS = {name: _HUEY.task(name=name)(function) for name, function in FUNCTIONS.items()}
_FIRST_DELAY_S, _MOST_DELAY_S = 0.001, 0.01


class Huey:
    """A client of the queue and its consumer."""

    def __init__(self) -> None:
        self._consumer = subprocess.Popen([sys.executable, __file__, sys.argv[1], "consumer"])

    def map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        """Queue a task for each shard and wait for each result."""
        results = [_TASKS[name](shard) for shard in shards]
        return [
            result.get(blocking=True, backoff=1.15, max_delay=_MOST_DELAY_S) for result in results
        ]

    def stop(self) -> None:
        """End the consumer."""
        self._consumer.terminate()
        self._consumer.wait()


if __name__ == "__main__":
    if sys.argv[2:] == ["consumer"]:
        _HUEY.create_consumer(
            workers=WORKERS, worker_type="process", periodic=False, backoff=1.1,
            initial_delay=_FIRST_DELAY_S, max_delay=_MOST_DELAY_S,
        ).run()  # fmt: skip
    else:
        serve(Huey)
