"""Gateways that are only their stores: a process each, on one PostgreSQL.

Each commits what a gateway commits for a shard, and looks at its store as often as the others
commit, as gateways do. What else a gateway does for a job is simulated by waiting, one job at a
time: two cores can't run ten gateways, but they can run the stores of ten slow ones.
"""

import asyncio
import itertools
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transitions import shards_of

from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases
from swarm_hub.util.clock import Clock
from swarm_hub.util.within import within

_SHARDS_A_JOB: Final = 4
_LOOK_EVERY_S: Final = 1.0
_LEASE_S: Final = 10.0
_READY_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many stores there are, and what each does."""

    url: str
    gateways: int
    callers: int  # of each
    # What a job takes of its gateway besides the store; 0 commits shards by themselves.
    work_s: float
    seconds: float


def rate(fleet: Fleet) -> float:
    """Return the jobs (without work: the commits) a second of all gateways together."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["many_stores"])
    ready = context.Barrier(fleet.gateways, timeout=_READY_WITHIN_S)
    with ProcessPoolExecutor(fleet.gateways, context, _know, (ready,)) as pool:
        done = pool.map(_run, [fleet] * fleet.gateways, range(fleet.gateways))
        return sum(done)


def _know(ready: "multiprocessing.synchronize.Barrier") -> None:
    global _ready
    _ready = ready


def _run(fleet: Fleet, number: int) -> float:
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        return asyncio.run(_gateway(fleet, number, Path(folder)))


async def _gateway(fleet: Fleet, number: int, folder: Path) -> float:
    store = Store.at(fleet.url, folder, Clock())
    await store.open()
    try:
        name = f"gateway-{number}"
        await store.introduce(name)
        now = await store.read(leases.store_now)
        await store.commit([leases.register(name, now + _LEASE_S + fleet.seconds)])
        heard = asyncio.Event()
        store.listen(heard.set)
        await asyncio.to_thread(_ready.wait)
        began = time.monotonic()
        deadline = began + fleet.seconds
        looking = asyncio.create_task(_look(store, name, heard) if fleet.work_s else _rest())
        turn = asyncio.Lock()
        first = number * fleet.callers
        callers = [
            _call(fleet, store, turn, caller, deadline)
            for caller in range(first, first + fleet.callers)
        ]
        done = sum(await asyncio.gather(*callers))
        # On a busy machine the last of them ends long after the deadline.
        took_s = time.monotonic() - began
        looking.cancel()
        await asyncio.wait([looking])
        return done / took_s
    finally:
        await store.close()


async def _call(
    fleet: Fleet, store: Store, turn: asyncio.Lock, caller: int, deadline: float
) -> int:
    all_callers = fleet.gateways * fleet.callers
    steps = shards_of(caller, all_callers, all_callers)
    done = 0
    while time.monotonic() < deadline:
        if not fleet.work_s:
            await store.commit(*next(steps))
        else:
            async with turn:
                await asyncio.sleep(fleet.work_s)
            made = list(itertools.islice(steps, 2 * _SHARDS_A_JOB))
            # All shards of a job are offered together, and counted together.
            for half in (made[::2], made[1::2]):
                await store.commit(
                    [write for writes, _ in half for write in writes],
                    [event for _, events in half for event in events],
                )
        done += 1
    return done


async def _rest() -> None:
    """Look at nothing: what commits alone cost is asked."""


async def _look(store: Store, name: str, heard: asyncio.Event) -> None:
    while True:
        await store.catch_up()
        await store.read(leases.look, name)
        await within(_LOOK_EVERY_S, heard.wait())
        heard.clear()
