"""One part of a soak: hubs that share a store, the wires between them, and what was counted."""

import asyncio
import dataclasses
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.client import ApiError, SwarmClient, UnreachableError
from tests.helpers.lying import Lie, start_liar
from tests.helpers.moved_clock import give_moved_clock
from tests.soak.stores import kept
from tests.soak.wire import Link

_T = TypeVar("_T")

HONEST = 3
# One more, which lies about half of what it is asked.
WORKERS = HONEST + 1
_LIE = Lie(share=0.5)
# Jobs without redundancy ask for it: nothing but another node can tell a lie.
HONEST_LABEL = {"honest": "yes"}
# Nothing is pruned, so that the end finds every row that was ever counted.
_GATEWAY = "gc: {platform: ttl, completed_after: 7d, unread_after: 7d}\n"
_WORKER = "worker: {slots: 2, charging_only: false, min_battery: 0%s}\n"
# A frozen gateway takes the connection and says nothing; a client then asks the next one.
_ASK_S = 12.0
_ASK_AGAIN_S = 0.3


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a small job took, and how much of that a gateway was killed, starting or frozen."""

    took_s: float
    away_s: float


@dataclass(slots=True)
class Part:
    """Gateways on one store with workers that know all of them."""

    name: str
    swarm: LocalSwarm
    folder: Path
    gateways: list[LocalHub] = field(default_factory=list)
    workers: list[LocalHub] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    clients: list[SwarmClient] = field(default_factory=list)
    # Hubs that a fault keeps down or frozen now.
    struck: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    # When a gateway went away and, unless it has not yet answered again, when it came back.
    away: list[tuple[float, float]] = field(default_factory=list)
    # A gateway that starts without the server of its store tries for a while, then gives up, and is
    # started again by its service manager.
    store_away_until: float = 0.0
    _away_since: dict[str, float] = field(default_factory=dict)

    @property
    def hubs(self) -> list[LocalHub]:
        """Every hub of the part."""
        return [*self.gateways, *self.workers]

    async def start(
        self, n_gateways: int, storage: str, rng: random.Random, stack: AsyncExitStack
    ) -> None:
        """Start the hubs; returns when every worker is at every gateway."""
        bulk_ports: list[int] = []
        for number in range(n_gateways):
            name = f"gateway-{number}"
            clock = give_moved_clock(self.folder / name)
            bulk_port = free_port()
            hub = self.swarm.start_gateway(
                name,
                f"{storage}{_GATEWAY}{clock}",
                mesh={"bulk": f"/ip4/127.0.0.1/tcp/{bulk_port}"},
            )
            self.gateways.append(hub)
            bulk_ports.append(bulk_port)
            # It asks the other gateways itself.
            client = SwarmClient(hub.url, hub.token, patience_s=0)
            self.clients.append(await stack.enter_async_context(client))
        # On a busy machine workers that dial too early pause for longer than a gateway takes.
        for client in self.clients:
            await self.swarm.wait_for_workers(client, 0)
        for number in range(WORKERS):
            dialled = []
            for gateway, bulk_port in zip(self.gateways, bulk_ports, strict=True):
                link = Link(gateway.mesh_port, bulk_port, rng)
                await link.open()
                stack.push_async_callback(link.close)
                self.links.append(link)
                dialled.append(dataclasses.replace(gateway, host=link.host))
            name = f"worker-{number}"
            clock = give_moved_clock(self.folder / name)
            if number < HONEST:
                extra = _WORKER % ", node_labels: {honest: 'yes'}" + clock
                worker = self.swarm.start_worker(name, *dialled, extra=extra)
            else:
                worker = start_liar(
                    self.swarm, self.folder, name, *dialled,
                    lie=_LIE, extra=_WORKER % "" + clock,
                )  # fmt: skip
            self.workers.append(worker)
        for client in self.clients:
            await self.swarm.wait_for_workers(client, WORKERS)

    async def ask(self, what: str, call: Callable[[SwarmClient], Awaitable[_T]]) -> _T:
        """Ask one gateway after the other until one answers, as a client with retries does."""
        turn = random.randrange(len(self.clients))
        while True:
            number = turn % len(self.clients)
            turn += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(_ASK_S):
                    answer = await call(self.clients[number])
                self._answered(self.gateways[number].name, began)
                return answer
            except ApiError as error:
                if error.status < 500 and error.status != 429:
                    raise
                if error.status not in (503, 507):
                    self.problem(f"{what}: {error.status} {error.code}: {error}")
                self.counts["refused"] += 1
            except (UnreachableError, TimeoutError):
                self.counts["unanswered"] += 1
            except aiohttp.ClientError as error:
                self.problem(f"{what}: the client let {error!r} through")
            await asyncio.sleep(_ASK_AGAIN_S)

    def problem(self, text: str) -> None:
        """Note something that must not be; the same text is noted once."""
        if text not in self.problems:
            self.problems.append(text)

    def went_away(self, hub: LocalHub) -> None:
        """Note that a gateway is killed or frozen."""
        if hub in self.gateways:
            self._away_since.setdefault(hub.name, time.monotonic())

    def waited(self, began: float, ended: float) -> None:
        """Note how long a small job took."""
        away = [*self.away, *((since, ended) for since in self._away_since.values())]
        away_s, at = 0.0, began
        for since, until in sorted(away):
            away_s += max(0.0, min(until, ended) - max(since, at))
            at = max(at, until)
        self.waits.append(Wait(ended - began, away_s))

    def _answered(self, name: str, asked_at: float) -> None:
        since = self._away_since.get(name)
        # An answer from before may arrive after.
        if since is not None and name not in self.struck and asked_at > since:
            self.away.append((since, time.monotonic()))
            del self._away_since[name]

    def look_for_dead(self) -> None:
        """Note hubs that ended without a fault of ours, and start them again."""
        for hub in self.hubs:
            process = hub.process
            if hub.name in self.struck or process is None or process.poll() is None:
                continue
            if process.returncode == 1 and time.monotonic() < self.store_away_until:
                self.counts["gave_up"] += 1
            else:
                self.problem(f"{hub.name} ended by itself with {process.returncode}")
            hub.start()

    async def settle(self, timeout_s: float) -> None:
        """Wait, without faults, until every worker is back and has delivered everything."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.look_for_dead()
            left = await self._unsettled()
            if not left:
                return
            if time.monotonic() > deadline:
                self.problem(f"not settled after {timeout_s:.0f} s: {', '.join(left)}")
                return
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """End every process; each must end in order."""
        for hub in self.hubs:
            if hub.process is not None and hub.process.poll() is None:
                os.kill(hub.pid, signal.SIGCONT)
        await asyncio.to_thread(self.swarm.stop)
        for hub in self.hubs:
            if hub.process is not None and hub.process.returncode != 0:
                self.problem(
                    f"{hub.name} was asked to stop and ended with {hub.process.returncode}"
                )

    async def _unsettled(self) -> list[str]:
        left = []
        for hub, client in zip(self.gateways, self.clients, strict=True):
            found: list[dict[str, Any]] = []
            with suppress(UnreachableError, ApiError, TimeoutError):
                async with asyncio.timeout(_ASK_S):
                    found = await client.nodes()
            up = sum(node["state"] == "up" for node in found)
            left += [] if up == WORKERS else [f"{hub.name} sees {up} of {WORKERS} workers"]
            banned = [node["name"] for node in found if node["state"] == "banned"]
            left += [f"{hub.name} banned {name}" for name in banned]
        for worker in self.workers:
            rows = await asyncio.to_thread(kept, worker.folder / "swarm_hub.db")
            left += [f"{worker.name} keeps {rows}"] if rows else []
        return left
