"""Jobs that no node of this gateway may run are given up to a gateway that has idle ones."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.scheduler import JobPlan, NodeChange, NodeEntry, StateMachine, unfit
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models.node import READY, Telemetry
from swarm_hub.models.presence import NodeKind, Presence
from swarm_hub.storage.queries.takeover import BATCH

_LOOK_EVERY_S: Final = 1.0
# Of so many jobs, chosen at random, it is looked up whether a node may run them.
_JOBS_A_LOOK: Final = 256
# How long a job that nobody here may run stays at first; each time that it changed hands, also by a
# takeover, makes it twice as long, so that none goes round and round.
_STAY_S: Final = 1.0
_DOUBLED_MAX: Final = 8
# From then on it need not be idle nodes that it goes to.
_LONGEST_S: Final = 10.0


class HandOver:
    """Looks every second which jobs another gateway should have; `living` tells which there are."""

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        machine: StateMachine,
        living: Callable[[], Sequence[Presence]],
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._machine = machine
        self._living = living
        # Since when no node here may run a job.
        self._since: dict[str, float] = {}

    async def look(self) -> None:
        """Give up what another gateway can run and this one can't."""
        others = [
            each
            for each in self._living()
            if each.kinds and each.peer_id != self._dispatcher.gateway_id
        ]
        job_ids = sorted(self._machine.job_ids())
        if not others or not job_ids:
            self._since.clear()
            return
        now = self._hub.clock.monotonic()
        if now >= self._dispatcher.leased_until:
            return
        given: dict[str, list[str]] = {}
        left = {each.peer_id: each.idle for each in others}
        for job_id in random.sample(job_ids, min(len(job_ids), _JOBS_A_LOOK)):
            plan = self._machine.stranded(job_id, now)
            if plan is None:
                self._since.pop(job_id, None)
                continue
            waited_s = now - self._since.setdefault(job_id, now)
            if waited_s < self._stay_s(job_id):
                continue
            to = _best(plan, others, left, now, any_fit=waited_s >= _LONGEST_S)
            if to is not None:
                left[to] -= 1
                given.setdefault(to, []).append(job_id)
            # Each is looked up at every node, and the loop has others to serve.
            await asyncio.sleep(0)
        self._since = {each: at for each, at in self._since.items() if self._machine.job(each)}
        for to, chosen in given.items():
            await self._dispatcher.offer_to(to, chosen[:BATCH])

    def _stay_s(self, job_id: str) -> float:
        doubled = min(self._dispatcher.epoch(job_id) - 1, _DOUBLED_MAX)
        return _STAY_S * 2.0**doubled


def watch(hub: Hub, hand_over: HandOver) -> None:
    """Have it look from now on."""

    async def look() -> None:
        try:
            await hand_over.look()
        except StoreError:
            # Whatever was not given up is still here.
            return

    hub.tasks.every(_LOOK_EVERY_S, look, "hand-over of jobs")


def _best(
    plan: JobPlan, others: Sequence[Presence], left: dict[str, int], now: float, *, any_fit: bool
) -> str | None:
    """Return the gateway with the most idle slots that a job's shards may run on."""
    best, most = None, -1 if any_fit else 0
    for each in others:
        fit = [kind for kind in each.kinds if unfit(_as_node(kind), plan, now) is None]
        if not fit:
            continue
        idle = min(sum(kind.idle for kind in fit), left[each.peer_id])
        if max(idle, 0) > most:
            best, most = each.peer_id, max(idle, 0)
    return best


def _as_node(kind: NodeKind) -> NodeEntry:
    """Return a node of a kind; what is unknown of it is no reason against it."""
    telemetry = Telemetry(runtimes=dict.fromkeys(kind.runtimes, READY))
    return NodeEntry(
        NodeChange(
            "",
            max(kind.slots, 1),
            telemetry,
            labels=kind.labels,
            memory_bytes=kind.memory_bytes,
            features=kind.features,
            wall_time_s=kind.wall_time_s,
        )
    )
