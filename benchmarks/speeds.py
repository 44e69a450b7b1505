"""One job on nine workers of unlike speed, of which one dies, one freezes and one comes late.

Real hub processes over libp2p. Workers of one slot do 100 to 800 items a second (8^(k/7) apart):
an abi of their own sleeps for each item, as CPU-bound ones would share this machine's cores. One
is killed, one stopped with SIGSTOP and one started during the job; hubs beat every second, so
silence is noticed after 3 s. The job is cold: no rate is known and no module compiled before it.

The ratio is makespan / fluid lower bound: the T with Σ rate_w · (part of [0, T] that worker w was
there) = items. The killed worker is there until its kill, the frozen one until its freeze, the
added one from when the gateway calls it up; 0 is when the job is handed in.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any, Final

from figures import Figures, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

_SLOWEST: Final = 100.0  # items a second
_RATES: Final = tuple(_SLOWEST * 8 ** (k / 7) for k in range(8))
_KILLED: Final = 5
_FROZEN: Final = 3
_ADDED_RATE: Final = _RATES[6]
# What happens when, in parts of the time that the eight would need undisturbed.
_KILL_AT, _ADD_AT, _FREEZE_AT = 0.3, 0.35, 0.45
_IDEAL_S: Final = 25.0
# Strategy: that time with --quick, and what the ratio should be at most.
_STRATEGIES: Final = {"adaptive": (6.0, 1.35), "weighted": (4.0, None)}
# No run is waited for longer than this many times its ideal time.
_PATIENCE: Final = 10.0
_HEARTBEAT: Final = {"heartbeat": "1"}

# The sum of a range's own numbers, so that an item lost or counted twice is seen.
_SUM_OF_RANGE: Final = """
(module
  (func $below (param i64) (result i64)
    (i64.div_s (i64.mul (local.get 0) (i64.sub (local.get 0) (i64.const 1))) (i64.const 2)))
  (func (export "map") (param i64 i64) (result i64)
    (i64.sub (call $below (local.get 1)) (call $below (local.get 0)))))
"""
_ABI: Final = '''"""Abi paced: abi range at this worker's own pace."""

import time

from .abi import Session
from .shape import Shape

ITEM_S = {item_s!r}


class _Paced:
    name = "paced"
    rank = 60
    wants = "a function (i64, i64) -> i64"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        return shape.functions("(i64, i64) -> i64")

    def run(self, session: Session, body: bytes) -> bytes:
        lo, hi = (int(word) for word in body.split())
        time.sleep((hi - lo) * ITEM_S)
        return b"%d" % session.call(session.entry, lo, hi)


ABI = _Paced()
'''
_COMPONENT: Final = '''"""Brings the abi."""

from pathlib import Path

from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({}, dict)


async def async_setup(hub, config):
    await hub.services[SANDBOX].sandbox.add_abi(Path(__file__).parent / "abi_paced.py")
    return True
'''
_MANIFEST: Final = {
    "domain": "paced", "name": "Paced", "documentation": "none", "version": "1.0.0",
    "dependencies": ["sandbox"],
}  # fmt: skip


@dataclass(slots=True)
class _Presence:
    """A worker's items a second, and when it was there, in seconds of the job."""

    rate: float
    since_s: float = 0.0
    until_s: float = inf


async def main() -> int:
    """Run the job with both strategies; returns the exit code."""
    figures, arguments = start(__doc__ or "")
    module = await with_sandbox(lambda sandbox: sandbox.assemble(_SUM_OF_RANGE))
    right = True
    for platform, (quick_s, target) in _STRATEGIES.items():
        ideal_s = quick_s if arguments.quick else _IDEAL_S
        with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
            fleet = _Fleet(Path(folder))
            try:
                right &= await _measure(fleet, figures, module, platform, ideal_s, target)
            finally:
                fleet.stop()
    return 0 if right else 1


async def _measure(
    fleet: "_Fleet",
    figures: Figures,
    module: bytes,
    platform: str,
    ideal_s: float,
    target: float | None,
) -> bool:
    """Run the job once; returns whether its result was right."""
    gateway = fleet.start_gateway(platform)
    workers = [fleet.start_worker(f"worker-{k}", rate) for k, rate in enumerate(_RATES)]
    n_items = round(ideal_s * sum(_RATES))
    there = [_Presence(rate) for rate in _RATES]
    async with SwarmClient(gateway.url, gateway.token) as client:
        await fleet.swarm.wait_for_workers(client, len(workers))
        began = time.monotonic()
        events = asyncio.create_task(_disturb(fleet, client, workers, there, began, ideal_s))
        try:
            async with asyncio.timeout(_PATIENCE * ideal_s):
                job_id = await client.submit(module, range(n_items), abi="paced", reduce="sum")
                status = await client.wait(job_id)
                makespan_s = time.monotonic() - began
                # A job that was over before the last of them was not disturbed as it should be.
                frozen_at = await events
        finally:
            events.cancel()
        shards, story = await client.shards(job_id), await client.story(job_id)
    noticed_s, noticed_by = _noticed(shards, story, workers[_FROZEN].peer_id, frozen_at)
    bound_s = _fluid_bound_s(n_items, there)
    figures.add(
        f"real_makespan_ratio_{platform}", makespan_s / bound_s, "ratio", target=target,
        makespan_s=round(makespan_s, 2), bound_s=round(bound_s, 2), items=n_items,
        shards=len(shards), attempts=sum(len(shard["attempts"]) for shard in shards),
        frozen_noticed_s=noticed_s, noticed_by=noticed_by,
    )  # fmt: skip
    return _is_right(platform, status, n_items)


async def _disturb(
    fleet: "_Fleet",
    client: SwarmClient,
    workers: Sequence[LocalHub],
    there: list[_Presence],
    began: float,
    ideal_s: float,
) -> float:
    """Kill, add and freeze a worker each, and note when; returns the wall time of the freeze."""

    async def until(part: float) -> None:
        await asyncio.sleep(began + part * ideal_s - time.monotonic())

    await until(_KILL_AT)
    workers[_KILLED].kill()
    there[_KILLED].until_s = time.monotonic() - began
    await until(_ADD_AT)
    adding = asyncio.create_task(_add(fleet, client, there, began))
    await until(_FREEZE_AT)
    fleet.freeze(workers[_FROZEN])
    there[_FROZEN].until_s, frozen_at = time.monotonic() - began, time.time()
    await adding
    return frozen_at


async def _add(fleet: "_Fleet", client: SwarmClient, there: list[_Presence], began: float) -> None:
    added = fleet.start_worker("worker-late", _ADDED_RATE)
    while True:
        states = {node["node_id"]: node["state"] for node in await client.nodes()}
        if states.get(added.peer_id) == "up":
            break
        await asyncio.sleep(0.05)
    there.append(_Presence(_ADDED_RATE, since_s=time.monotonic() - began))


def _fluid_bound_s(n_items: int, there: Sequence[_Presence]) -> float:
    """Return the time in which workers that waste nothing do all items."""
    done, now = 0.0, 0.0
    for edge in sorted({each.since_s for each in there} | {each.until_s for each in there} | {inf}):
        rate = sum(each.rate for each in there if each.since_s <= now < each.until_s)
        if rate and done + rate * (edge - now) >= n_items:
            return now + (n_items - done) / rate
        done += rate * (edge - now)
        now = edge
    raise ValueError("nobody was left to do the items")


def _noticed(
    shards: Sequence[dict[str, Any]], story: Sequence[dict[str, Any]], node_id: str, since: float
) -> tuple[float | None, str]:
    """Return how long a node's shard was waited for since then, and why no longer."""
    assignment_id = {
        shard["index"]
        for shard in shards
        for each in shard["attempts"]
        if each["node_id"] == node_id and each["state"] != "finished"
    }
    for event in story:
        if event["event_type"] == "shard_returned" and event["data"]["index"] in assignment_id:
            at = datetime.fromisoformat(event["time_fired"]).timestamp()
            if at > since:
                return round(at - since, 1), event["data"]["reason"]
    return None, "its shard was not given back"


def _is_right(platform: str, status: dict[str, Any], n_items: int) -> bool:
    if (status["state"], status["result"]) == ("completed", n_items * (n_items - 1) // 2):
        return True
    print(
        f"{platform}: the job is {status['state']} with {status['result']} instead of "
        f"{n_items * (n_items - 1) // 2}: {status.get('failures')}",
        file=sys.stderr,
    )
    return False


class _Fleet:
    """A gateway and workers that know the abi, each at its own pace."""

    def __init__(self, folder: Path) -> None:
        self.swarm = LocalSwarm(folder)
        self._folder = folder
        self._gateway: LocalHub | None = None
        self._frozen: list[LocalHub] = []

    def start_gateway(self, platform: str) -> LocalHub:
        self._bring_abi("gateway", 0.0)
        extra = f"scheduler: {{platform: {platform}}}\npaced:\n"
        self._gateway = self.swarm.start_gateway(extra=extra, mesh=_HEARTBEAT)
        return self._gateway

    def start_worker(self, name: str, rate: float) -> LocalHub:
        assert self._gateway is not None
        self._bring_abi(name, 1 / rate)
        # With shares of the whole job a slow worker is busy for minutes; that is no failure.
        extra = "worker: {slots: 1, charging_only: false}\nsandbox: {wall_time: 600}\npaced:\n"
        return self.swarm.start_worker(name, self._gateway, extra=extra, mesh=_HEARTBEAT)

    def freeze(self, hub: LocalHub) -> None:
        os.kill(hub.pid, signal.SIGSTOP)
        self._frozen.append(hub)

    def stop(self) -> None:
        """End every hub at once: what is left of a share nobody wants may take minutes."""
        for hub in self._frozen:
            os.kill(hub.pid, signal.SIGCONT)
        for hub in self.swarm.hubs:
            if hub.process is not None:
                hub.kill()

    def _bring_abi(self, name: str, item_s: float) -> None:
        home = self._folder / name / "custom_components" / "paced"
        home.mkdir(parents=True)
        (home / "manifest.json").write_text(json.dumps(_MANIFEST))
        (home / "__init__.py").write_text(_COMPONENT)
        (home / "abi_paced.py").write_text(_ABI.format(item_s=item_s))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
