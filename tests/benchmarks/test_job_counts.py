"""What a job of four shards asks of disks and mesh, in counts that are the same on every machine.

A gateway and four workers of one process run jobs one after the other. Chance is taken out: time
stands still for their loop, so that what waits to share a commit or an envelope shares those of the
next job, and the results of a job reach the gateway together. Then time goes on, and what still
waited is written and sent. The bounds are what was reached; whoever lowers a count lowers its
bound.
"""

import asyncio
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from calls import Calls

from swarm_hub.client import SwarmClient
from swarm_hub.components.mesh import Message
from swarm_hub.components.mesh.transports.loopback import LoopbackSession
from swarm_hub.components.mesh.transports.session import CREDIT
from tests.conftest import Swarm, until, up_nodes
from tests.helpers import faults

# The most that a job may take, on average, at the gateway and at each worker. Pages hang on where
# the ids of its rows fall in their indexes: means of 27.5 to 28 were seen at the gateway. Frames
# are those with more in them than credit.
BOUNDS: Final[Mapping[str, Mapping[str, float]]] = {
    "gateway": {"commits": 2, "syncs": 2, "statements": 44, "pages": 30, "frames": 4},
    # Outcomes that are taken at once are not written down.
    "worker": {"commits": 0, "syncs": 0, "statements": 0, "pages": 0, "frames": 1},
}
# The most that all of them together may leave for later: two rows for each, in one commit, and two
# commits that come round at that time by chance. It was 3 statements at the gateway, 4 at a worker.
LATER: Final[Mapping[str, Mapping[str, float]]] = {
    "gateway": {"commits": 3, "syncs": 3, "statements": 26, "pages": 16},
    "worker": {"commits": 3, "syncs": 3, "statements": 26, "pages": 16},
}
WORKERS: Final = 4
WARM_UP_JOBS: Final = 3
# Too few to fill SQLite's log, which goes into the database every 1,000 pages.
JOBS: Final = 12
# Nothing waits longer to share than a step; the answer to it may wait as long.
STEPS: Final = 2
STEP_S: Final = 0.6
# Turns of the loop in which no store has anything to write.
QUIET_TURNS: Final = 100

Counts = dict[str, dict[str, int]]


class _Post:
    """Between hubs: counts frames by sender; while it `gathers`, the gateway gets all at once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._held: list[tuple[LoopbackSession, Sequence[Message], int]] = []
        self.frames = dict.fromkeys(names.values(), 0)
        self.gathers = True

    def begin(self) -> None:
        """Stand between them from now on."""
        give = LoopbackSession.received

        def received(session: LoopbackSession, messages: Sequence[Message], size: int) -> None:
            if {kind for kind, _ in messages} == {CREDIT}:
                give(session, messages, size)
                return
            sender = self._names[session.peer_id]
            self.frames[sender] += 1
            if sender == "gateway" or not self.gathers:
                give(session, messages, size)
                return
            self._held.append((session, messages, size))
            if len({held.peer_id for held, _, _ in self._held}) == WORKERS:
                arrived, self._held = self._held, []
                for each in arrived:
                    give(*each)

        LoopbackSession.received = received  # type: ignore[method-assign]


async def jobs_in_a_settled_order(folder: Path, wasm: str) -> tuple[Counts, Counts]:
    """Return by hub what the jobs took, and what came later."""
    module, values = bytes.fromhex(wasm), range(4000)
    data = struct.pack("<4000i", *values)
    swarm = Swarm(folder)
    names = [f"worker-{number}" for number in range(WORKERS)]
    settings = "worker: {slots: 1, charging_only: false, min_battery: 0}\n"
    gateway = await swarm.gateway()
    workers = [await swarm.worker(name, extra=settings) for name in names]
    stores = [each.hub.store for each in (gateway, *workers)]
    post = _Post({swarm.keys(name)[0]: name for name in ("gateway", *names)})
    calls, loop = Calls.here(), asyncio.get_running_loop()

    def counts() -> Counts:
        return {
            name: {
                "commits": counted.commits, "syncs": counted.syncs,
                "statements": counted.statements, "pages": counted.pages,
                "frames": post.frames[name],
            }
            for name, counted in calls.by_hub(os.getpid()).items()
        }  # fmt: skip

    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda nodes: nodes == WORKERS)
        standing_s = loop.time()
        loop.time = lambda: standing_s  # type: ignore[method-assign]
        post.begin()
        for number in range(WARM_UP_JOBS + JOBS):
            if number == WARM_UP_JOBS:
                before = counts()
            status = await client.run(module, data, split="i32", shard_size=1000)
            assert status["result"] == sum(values)
        between = counts()
        post.gathers = False
        for _ in range(STEPS):
            standing_s += STEP_S
            turns = 0
            while turns < QUIET_TURNS:
                await asyncio.sleep(0)
                turns = turns + 1 if all(store.idle for store in stores) else 0
    return _more(before, between), _more(between, counts())


def _more(before: Counts, after: Counts) -> Counts:
    return {
        name: {what: count - before[name][what] for what, count in counted.items()}
        for name, counted in after.items()
    }


def _above(bounds: Mapping[str, Mapping[str, float]], found: Counts, jobs: int) -> dict[str, float]:
    """Return what of a hub, by the job, is more than its bound."""
    return {
        f"{what} of {hub}": counts[what] / jobs
        for hub, counts in found.items()
        for what, most in bounds[hub.partition("-")[0]].items()
        if counts[what] / jobs > most
    }


@pytest.mark.slow
def test_what_a_job_takes(
    tmp_path: Path, modules: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs = tmp_path / "hubs"
    hubs.mkdir()
    # The child imports this module, and with it those of benchmarks/.
    monkeypatch.setenv("PYTHONPATH", str(faults.ROOT / "benchmarks"), prepend=os.pathsep)
    env = {**os.environ, **Calls.build(tmp_path).environment(hubs)}
    found: tuple[Counts, Counts] = faults.run(
        jobs_in_a_settled_order, hubs, modules["sum"].hex(), env=env
    )
    by_job, later = found
    assert len(by_job) == 1 + WORKERS
    assert by_job["gateway"]["statements"] > 0, "the SQLite of this Python can't be counted"
    assert not (above := _above(BOUNDS, by_job, JOBS)), above
    assert not (above := _above(LATER, later, 1)), above
