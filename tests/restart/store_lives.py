"""Lives of a store that end with SIGKILL: the program that tests/restart/test_store_kills.py runs.

    python -m tests.restart.store_lives DIRECTORY KILLS SEED [early]

One process with one thread imports everything once and forks a child for each life, which costs
milliseconds instead of a start of Python. The children tell through a pipe what they were
acknowledged; this process kills them, listens to what the pipe still holds, and checks.
Prints one line of JSON. With `early` the store breaks its word, to see that this is noticed.
"""

import asyncio
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NoReturn

from swarm_hub.models.event import NewEvent
from swarm_hub.storage import Fence, Store, Write
from swarm_hub.util.clock import Clock
from tests.helpers.promises import Promises, damaged_blobs, look, twice_or_torn
from tests.helpers.transitions import live

LIFE_S_MAX: Final = 0.25
# On a machine so busy that lives would end before their first word they are longer.
_FIRST_WORDS: Final = 4
_BUSY_LIFE_S_MAX: Final = 1.5
_FIRST_WORD_S_MAX: Final = 30.0
# Reading the whole database after each life would take longer than the lives.
_WHOLE_EVERY: Final = 10
_READ_BYTES: Final = 1 << 16


class EarlyStore(Store):
    """A store that acknowledges before its commit."""

    def commit(
        self,
        writes: Sequence[Write],
        events: Sequence[NewEvent] = (),
        fence: Fence | None = None,
    ) -> Awaitable[None]:
        super().commit(writes, events, fence)
        return asyncio.sleep(0)


def main(folder: Path, kills: int, seed: int, kind: type[Store]) -> None:
    """Kill `kills` lives of the store in `folder` and print what was found."""
    rng = random.Random(seed)
    started = time.monotonic()
    database = folder / "swarm_hub.db"
    promises = Promises()
    first_word_s = _first_word_s(kind.on_file(folder / "trial" / "swarm_hub.db", Clock()))
    life_s_max = min(max(LIFE_S_MAX, _FIRST_WORDS * first_word_s), _BUSY_LIFE_S_MAX)
    broken: list[str] = []
    for life in range(kills):
        store = kind.on_file(database, Clock())
        for line in _killed_life(store, f"{life:04}", rng.random(), rng.uniform(0, life_s_max)):
            promises.hear(*json.loads(line))
        if _has_tables(database):
            found = promises.broken_by_news(database)
            if life % _WHOLE_EVERY == 0:
                found += twice_or_torn(database)
            broken += [f"life {life}: {what}" for what in found]
        elif promises.acknowledged:
            broken.append(f"life {life}: the tables are gone")
        if broken:
            break
    if not broken:
        broken = promises.broken(database) + twice_or_torn(database) + damaged_blobs(database)
    summary = {
        "seed": seed,
        "kills": life + 1,
        "acknowledged": promises.acknowledged,
        "files": len(list((folder / "blobs").rglob("??/*"))),
        "seconds": round(time.monotonic() - started, 1),
        "broken": broken[:20],
    }
    print(json.dumps(summary))


def _killed_life(store: Store, name: str, seed: float, life_s: float) -> list[bytes]:
    """Fork a life, kill it after `life_s` seconds, return the lines it could say."""
    child, hears = _born(store, name, seed)
    heard = bytearray()
    deadline = time.monotonic() + life_s
    while (left_s := deadline - time.monotonic()) > 0:
        if select.select([hears], [], [], left_s)[0]:
            heard += (read := os.read(hears, _READ_BYTES))
            if not read:
                break
    os.kill(child, signal.SIGKILL)
    while read := os.read(hears, _READ_BYTES):
        heard += read
    os.close(hears)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"life {name} ended by itself with status {status}")
    return bytes(heard).splitlines()


def _first_word_s(store: Store) -> float:
    """Return how long a life takes until it was acknowledged something."""
    child, hears = _born(store, "trial", 0.0)
    began = time.monotonic()
    select.select([hears], [], [], _FIRST_WORD_S_MAX)
    took_s = time.monotonic() - began
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(hears)
    return took_s


def _born(store: Store, name: str, seed: float) -> tuple[int, int]:
    """Fork a life; returns its process and where it is heard."""
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        _life(store, name, seed, says)
    os.close(says)
    return child, hears


def _life(store: Store, name: str, seed: float, says: int) -> NoReturn:
    def say(*words: str) -> None:
        # Less than PIPE_BUF, so a kill can't cut it.
        os.write(says, json.dumps(words).encode() + b"\n")

    async def run() -> None:
        await store.open()
        await live(store, say, name, random.Random(seed))

    try:
        asyncio.run(run())
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _has_tables(database: Path) -> bool:
    """Return whether a life came far enough to make the tables, which come all at once."""
    # With a rollback journal the kill came before WAL mode, and so before the tables; a reader
    # that must not write can't roll it back.
    if not database.is_file() or database.with_name(f"{database.name}-journal").exists():
        return False
    with closing(look(database)) as connection:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables)


if __name__ == "__main__":
    kind = EarlyStore if sys.argv[4:] == ["early"] else Store
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kind)
