"""Follows the events, the clock and the values, and writes down each run that they start.

A run is written with all that it is to do, in the transaction that moves the position in the
events: whatever happens then, it is done, and the event starts nothing again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from swarm_hub.components.automation.measured import measure
from swarm_hub.components.automation.model import AutomationConfig, Threshold
from swarm_hub.components.automation.runs import Maker
from swarm_hub.components.automation.watch import Firing, Watch
from swarm_hub.core import Hub
from swarm_hub.exceptions import PASSING_ERRORS
from swarm_hub.models.event import DurableEvent
from swarm_hub.storage.queries import automations as queries
from swarm_hub.storage.queries import events
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_EVENTS_AT_ONCE: Final = 200
_MEASURE_EVERY_S: Final = 2.0
# What sleeps does not count the time that the device slept, and other gateways wake nobody.
_LOOK_EVERY_S: Final = 5.0
# Events that mean nothing to any automation are read again after a kill, but no more than these.
_UNWRITTEN_MAX: Final = 1000
_WRITE_EVERY_S: Final = 60.0


class Engine:
    """Knows the automations of one hub, and whether it is the one that acts."""

    def __init__(self, hub: Hub, gateway: str, config: AutomationConfig, maker: Maker) -> None:
        self._hub = hub
        self._gateway = gateway
        self._maker = maker
        self.config = config
        self._taken: AutomationConfig | None = None
        self._watches: dict[str, Watch] = {}
        self.enabled: dict[str, bool] = {}
        self._kinds: list[str] = []
        self._seq = self._written_seq = 0
        self._write_at = self._measure_at = float("-inf")
        # Of the gateways that share a store one acts.
        self.leads = False
        self._sign = asyncio.Event()
        self._started: Callable[[], None] = lambda: None
        hub.bus.listen(DurableEvent, self._on_event)
        hub.store.follow_while(lambda: self.leads and bool(self._kinds))

    def on_run(self, started: Callable[[], None]) -> None:
        """Have `started` called when a run was written, or this hub has begun to act."""
        self._started = started

    def take(self, config: AutomationConfig) -> None:
        """Take another list of automations from the next look on."""
        self.config = config
        self._sign.set()

    async def enable(self, automation: str, *, enabled: bool) -> None:
        """Enable an automation, or disable it until it is enabled again."""
        await self._hub.store.change(queries.enable, automation, enabled=enabled)
        self.enabled[automation] = enabled
        self._sign.set()

    async def start(self) -> None:
        """Take up the position in the events, before any of this start comes."""
        with contextlib.suppress(*PASSING_ERRORS):
            await self._begin()

    async def follow(self) -> None:
        """Look whenever there may be something to see."""
        while True:
            self._sign.clear()
            try:
                await self._look()
            except PASSING_ERRORS as error:
                _LOGGER.debug("Automations look again later: %s", error)
            await within(self._left_s(), self._sign.wait())

    async def settle(self) -> None:
        """Write at the stop how far the events were followed."""
        if self.leads and self._taken is not None:
            await self._write(self._seq, ())

    def _on_event(self, event: DurableEvent) -> None:
        if event.event_type in self._kinds:
            self._sign.set()

    async def _look(self) -> None:
        store = self._hub.store
        if self.leads and store.shared:
            self.leads = await store.read(queries.leader) == self._gateway
        if not self.leads or self._taken is not self.config:
            await self._begin()
        if not self.leads:
            return
        if store.shared:
            self._know(await store.read(queries.known))
        if await self._read_events() and await self._read_clock():
            unwritten = self._seq - self._written_seq > _UNWRITTEN_MAX
            changed = any(watch.changed for watch in self._watches.values())
            due = changed and self._hub.clock.monotonic() >= self._write_at
            if unwritten or due:
                await self._write(self._seq, ())

    async def _begin(self) -> None:
        """Become the gateway that acts, if no other one does, with the automations there are."""
        store, config = self._hub.store, self.config
        if self.leads:
            # What the watches know by now goes on with the next list.
            await self._write(self._seq, ())
        claimed = await store.change(queries.claim, self._gateway, shared=store.shared)
        self.leads = claimed is not None
        ids = [each.id for each in config.automations]
        if claimed is not None:
            await store.change(queries.forget, ids)
        known = await store.read(queries.known)
        now = self._hub.clock.time()
        memories = {each: kept.memory for each, kept in known.items()}
        self._watches = {
            each.id: Watch(each, memories.get(each.id, {}), now) for each in config.automations
        }
        self._know(known)
        wanted = [each for watch in self._watches.values() for each in watch.filters()]
        self._kinds = sorted({each.event_type for each in wanted})
        self._taken = config
        if claimed is None:
            return
        if claimed < await store.read(events.complete_after):
            _LOGGER.warning(
                "Some events were removed before the automations could look at them (gc); they go "
                "on with those that are left"
            )
        self._seq = self._written_seq = claimed
        await self._write(self._seq, ())
        self._started()

    def _know(self, known: Mapping[str, queries.Known]) -> None:
        self.enabled = {each: kept.enabled for each, kept in known.items()}

    async def _read_events(self) -> bool:
        """Hear of all new events; returns whether this gateway still acts."""
        store = self._hub.store
        while True:
            found, upto = await store.read(queries.after, self._seq, self._kinds, _EVENTS_AT_ONCE)
            job_ids = list(dict.fromkeys(each.job_id for each in found if each.job_id))
            facts = await self._hub.endpoints.find_job_facts(job_ids) if job_ids else {}
            for event in found:
                of_job = facts.get(event.job_id or "")
                labels = {} if of_job is None else dict(of_job.labels)
                firings = [
                    (watch, firing)
                    for watch in self._watches.values()
                    if (firing := watch.on_event(event, labels)) is not None
                ]
                if firings and not await self._write(event.seq, firings):
                    return False
                self._seq = event.seq
            self._seq = upto
            if len(found) < _EVENTS_AT_ONCE:
                return True

    async def _read_clock(self) -> bool:
        now, monotonic = self._hub.clock.time(), self._hub.clock.monotonic()
        measured = None
        if self._measures and monotonic >= self._measure_at:
            measured = await measure(self._hub)
            self._measure_at = monotonic + _MEASURE_EVERY_S * 0.9
        firings = [
            (watch, firing)
            for watch in self._watches.values()
            for firing in watch.on_time(now, monotonic, measured)
        ]
        return await self._write(self._seq, firings) if firings else True

    @property
    def _measures(self) -> bool:
        return any(watch.measures for watch in self._watches.values())

    async def _write(self, seq: int, firings: Sequence[tuple[Watch, Firing]]) -> bool:
        """Write the position and the runs that start; returns whether this gateway still acts."""
        store = self._hub.store
        # What the clock or a value triggered is not found out again: it waits for the store.
        runs = await store.when_possible(lambda: self._runs(firings))
        changed = [watch for watch in self._watches.values() if watch.changed]
        memories: dict[str, Any] = {watch.automation.id: dict(watch.memory) for watch in changed}
        self.leads = await store.when_possible(
            lambda: store.change(queries.advance, self._gateway, seq, runs, memories)
        )
        if self.leads:
            for watch in changed:
                watch.changed = False
            self._written_seq = seq
            self._write_at = self._hub.clock.monotonic() + _WRITE_EVERY_S
            if runs:
                self._started()
        return self.leads

    async def _runs(self, firings: Sequence[tuple[Watch, Firing]]) -> list[queries.Run]:
        measured: Mapping[str, float] = {}
        conditions = [each for watch, _ in firings for each in watch.automation.conditions]
        if any(isinstance(each, Threshold) for each in conditions):
            measured = await measure(self._hub)
        now = self._hub.clock.time()
        runs = []
        for watch, firing in firings:
            if self.enabled.get(watch.automation.id, True) and watch.holds(now, measured):
                run = await self._maker.make(watch, firing)
                runs += [] if run is None else [run]
        return runs

    def _left_s(self) -> float | None:
        """Return in how many seconds to look even without an event."""
        if not self.leads or self._hub.store.shared:
            return _LOOK_EVERY_S
        now = self._hub.clock.time()
        left = [watch.next_at(now) for watch in self._watches.values()]
        times = [max(0.05, min(at - now, _LOOK_EVERY_S)) for at in left if at is not None]
        if self._measures:
            times.append(_MEASURE_EVERY_S)
        if any(watch.changed for watch in self._watches.values()):
            times.append(_WRITE_EVERY_S)
        return min(times, default=None)
