"""The faults of a soak: each strikes, waits and heals; all heal at once when the soak is over."""

import asyncio
import math
import os
import random
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg

from swarm_hub.cli.swarm import LocalHub
from tests.helpers.moved_clock import move_clock
from tests.helpers.postgres import PostgresServer
from tests.soak.part import Part

_PAUSE_S = (0.5, 4.0)
_FROZEN_S = (1.0, 25.0)
# Now and then a gateway stays away for longer than its lease.
_DOWN_S = (0.0, 3.0)
_DOWN_LONG_S = (11.0, 16.0)
_LONG_SHARE = 0.2
_DELAYED_S = (2.0, 15.0)
_DELAY_UP_TO_S = (0.02, 1.5)
# Before NTP, after a long sleep, a wrong day; all within what a store keeps of finished jobs.
_JUMPS_S = (-86_400, -600, -90, 90, 600, 86_400)
_JUMPED_S = (3.0, 20.0)
# How long after its server is back a gateway may end that had given it up.
_NOTICED_WITHIN_S = 15.0
_BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'swarm\\_hub%%' AND datname = %s
"""


class Faults:
    """Strikes at one part at random, from a seed."""

    def __init__(
        self,
        part: Part,
        rng: random.Random,
        over: asyncio.Event,
        server: PostgresServer | None,
        database: str,
    ) -> None:
        self._part = part
        self._rng = rng
        self._over = over
        self._server = server
        self._database = database
        self._kinds: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (4, self._kill_gateway),
            (6, self._kill_worker),
            (3, self._freeze_gateway),
            (4, self._freeze_worker),
            (6, self._cut),
            (6, self._cut_after_words),
            (6, self._cut_express),
            (4, self._delay),
            (4, self._jump),
        ]
        if server is not None:
            self._kinds += [
                (6, self._kill_backend),
                (2, self._kill_all_backends),
                (1, self._crash),
                (1, self._restart),
            ]
        # One fault of the server at a time; a crash is over when it has recovered.
        self._server_is_free = asyncio.Lock()

    async def run(self) -> None:
        """Strike until the soak is over, several faults at a time."""
        weights = [weight for weight, _ in self._kinds]
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                ((_, strike),) = self._rng.choices(self._kinds, weights)
                group.create_task(strike())
                await self._wait(_PAUSE_S)

    async def _kill_gateway(self) -> None:
        away_s = _DOWN_LONG_S if self._rng.random() < _LONG_SHARE else _DOWN_S
        await self._kill(self._part.gateways, away_s, "gateway_kills")

    async def _kill_worker(self) -> None:
        await self._kill(self._part.workers, _DOWN_S, "worker_kills")

    async def _freeze_gateway(self) -> None:
        await self._freeze(self._part.gateways)

    async def _freeze_worker(self) -> None:
        await self._freeze(self._part.workers)

    async def _kill(self, hubs: list[LocalHub], away_s: tuple[float, float], kind: str) -> None:
        hub = self._choose(hubs)
        if hub is None:
            return
        hub.kill()
        self._part.went_away(hub)
        self._part.counts[kind] += 1
        await self._wait(away_s)
        hub.start()
        self._part.struck.discard(hub.name)

    async def _freeze(self, hubs: list[LocalHub]) -> None:
        hub = self._choose(hubs)
        if hub is None:
            return
        os.kill(hub.pid, signal.SIGSTOP)
        self._part.went_away(hub)
        self._part.counts["freezes"] += 1
        await self._wait(_FROZEN_S)
        os.kill(hub.pid, signal.SIGCONT)
        self._part.struck.discard(hub.name)

    async def _cut(self) -> None:
        self._rng.choice(self._part.links).cut()
        self._part.counts["cuts"] += 1

    async def _cut_after_words(self) -> None:
        self._rng.choice(self._part.links).cut_after_words()
        self._part.counts["cuts"] += 1

    async def _cut_express(self) -> None:
        links = self._part.links
        for link in self._rng.sample(links, len(links)):
            if count := link.cut_express():
                self._part.counts["express_cuts"] += count
                return

    async def _delay(self) -> None:
        link = self._rng.choice(self._part.links)
        link.delay(self._rng.uniform(*_DELAY_UP_TO_S))
        self._part.counts["delays"] += 1
        await self._wait(_DELAYED_S)
        link.delay(0)

    async def _jump(self) -> None:
        hub = self._rng.choice(self._part.hubs)
        move_clock(hub.folder, self._rng.choice(_JUMPS_S))
        self._part.counts["jumps"] += 1
        await self._wait(_JUMPED_S)
        move_clock(hub.folder, 0)

    async def stay_away(self, after_s: float, away_s: float) -> None:
        """After a while, stop the server for that long."""
        await self._wait((after_s, after_s))
        await self._stop_server((away_s, away_s), "away")

    async def _kill_backend(self) -> None:
        if await asyncio.to_thread(self._kill_backends, 1):
            self._part.counts["backend_kills"] += 1

    async def _kill_all_backends(self) -> None:
        if await asyncio.to_thread(self._kill_backends, None):
            self._part.counts["all_backends_kills"] += 1

    def _kill_backends(self, at_most: int | None) -> bool:
        assert self._server is not None
        try:
            with self._server.connect("postgres") as connection:
                rows: list[Any] = connection.execute(_BACKENDS, [self._database]).fetchall()
            self._rng.shuffle(rows)
            for (pid,) in rows[:at_most]:
                self._server.kill_backend(pid)
        except psycopg.OperationalError:
            return False  # it is away, or recovers from a crash
        return bool(rows)

    async def _restart(self) -> None:
        await self._stop_server((0.0, 2.0), "restarts")

    async def _stop_server(self, away_s: tuple[float, float], kind: str) -> None:
        assert self._server is not None
        async with self._server_is_free:
            if self._over.is_set():
                return
            self._part.store_away_until = math.inf
            await asyncio.to_thread(self._server.stop)
            self._part.counts[kind] += 1
            try:
                await self._wait(away_s)
            finally:
                await asyncio.to_thread(self._server.start)
                self._part.store_away_until = time.monotonic() + _NOTICED_WITHIN_S

    async def _crash(self) -> None:
        assert self._server is not None
        async with self._server_is_free:
            try:
                await asyncio.to_thread(self._server.crash)
            except psycopg.OperationalError:
                return  # it recovers from the last one
            except AssertionError as error:
                self._part.problem(f"PostgreSQL: {error}")
        self._part.counts["crashes"] += 1

    def _choose(self, hubs: list[LocalHub]) -> LocalHub | None:
        free = [hub for hub in hubs if hub.name not in self._part.struck]
        if not free:
            return None
        hub = self._rng.choice(free)
        self._part.look_for_dead()
        self._part.struck.add(hub.name)
        return hub

    async def _wait(self, between_s: tuple[float, float]) -> None:
        try:
            async with asyncio.timeout(self._rng.uniform(*between_s)):
                await self._over.wait()
        except TimeoutError:
            pass
