"""This gateway among others on one store: its lease, jobs to take over, others' requests."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models.job_change import JobChange
from swarm_hub.models.presence import Presence
from swarm_hub.storage.queries import leases, presence
from swarm_hub.storage.queries.takeover import BATCH
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

# A gateway that has not renewed its lease for this long loses its jobs to the others; sooner, if
# its session with the store has ended, too.
LEASE_S: Final = 10.0
_QUIET_S: Final = 3.0
_RENEW_EVERY_S: Final = 1.5
_ANSWERED_WITHIN_S: Final = LEASE_S - _RENEW_EVERY_S
_LOOK_EVERY_S: Final = 1.0
# Others' events are handed over within a second.
_LAG_MAX_S: Final = 10.0
# Before each look. After a batch of jobs was taken over the other gateways take theirs meanwhile.
_PAUSE_S: Final = 0.02


class LeaseKeeper:
    """Keeps this gateway's lease on a shared store; its own store needs it only at the start."""

    def __init__(
        self,
        hub: Hub,
        gateway_id: str,
        dispatcher: Dispatcher,
        describe: Callable[[], Presence],
    ) -> None:
        self._hub = hub
        self._gateway_id = gateway_id
        self._dispatcher = dispatcher
        self._describe = describe
        # The gateways that lived when the lease was last renewed, this one among them.
        self.living: list[Presence] = []
        self._heard = asyncio.Event()
        self._keeping: list[asyncio.Task[None]] = []
        self._taken = 0
        # When all events of others had last been handed over.
        self._caught_up_at = hub.clock.monotonic()
        # What others asked for and is about to be on disk.
        self._answering: set[str] = set()

    async def start(self) -> None:
        """Announce that this gateway is alive, and continue its unfinished jobs."""
        store = self._hub.store
        if not store.shared:
            await self._dispatcher.adopt(starting=True)
            return
        await store.introduce(self._gateway_id)
        now = await store.read(leases.store_now)
        await store.commit([leases.register(self._gateway_id, now + LEASE_S)])
        await self._renew()
        # Many jobs take longer than the lease, and the dispatcher does not run yet.
        renewing = self._hub.tasks.spawn(self._keep(), "lease at the start")
        try:
            await self._dispatcher.adopt(starting=True)
        finally:
            renewing.cancel()
        store.listen(self._heard.set)
        self._keeping = [
            self._hub.tasks.supervise(lambda: self._keep(self._dispatcher.sign), "lease"),
            self._hub.tasks.supervise(self._look_after, "lease_keeper"),
        ]
        self._hub.not_ready.append(self._not_ready)

    async def _keep(self, sign: Callable[[], Awaitable[None]] | None = None) -> None:
        """Renew the lease, each time after a sign of the dispatcher: one that is stuck loses it."""
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            if sign is not None:
                await sign()
            try:
                async with asyncio.timeout(_ANSWERED_WITHIN_S):
                    await self._renew()
            except TimeoutError:
                # The lease has run out by now, and nobody knows when an answer comes.
                self._hub.store.is_unanswered(_ANSWERED_WITHIN_S)
            except StoreError as error:
                # Failing commits are logged elsewhere; the lease runs out, and others take over.
                _LOGGER.debug("The lease can't be renewed: %s", error)

    async def _renew(self) -> None:
        store = self._hub.store
        # By our clock the lease ends a little before it does by the store's.
        began = self._hub.clock.monotonic()
        kept = await store.change(presence.keep, self._describe(), LEASE_S, _QUIET_S)
        self.living = kept.living
        # Another one may have found this one's session gone.
        if not kept.held or self._hub.clock.monotonic() >= self._dispatcher.sure_until:
            await self._dispatcher.let_go_of_lost()
        self._dispatcher.sure_until = began + _QUIET_S
        self._dispatcher.leased_until = began + LEASE_S
        if kept.quiet:
            gone = await store.change(presence.end_leases, self._gateway_id, kept.quiet, LEASE_S)
            if gone:
                self._heard.set()

    async def _look_after(self) -> None:
        while True:
            more = False
            try:
                more = await self._look()
            except StoreError as error:
                _LOGGER.debug("The shared store can't be asked: %s", error)
            if not more:
                await within(_LOOK_EVERY_S, self._heard.wait())
            # What others ask for meanwhile is found together.
            await asyncio.sleep(_PAUSE_S)
            self._heard.clear()

    async def _look(self) -> bool:
        """Do what others left for this gateway; returns whether there may be more to take over."""
        store = self._hub.store
        began = self._hub.clock.monotonic()
        seen = await store.ask(leases.look, self._gateway_id)
        if seen.queued:
            # They may be those of a gateway that is gone.
            await store.catch_up()
        elif seen.newest_seq > store.last_seq:
            await store.hand_over()
        self._caught_up_at = began
        for job_id in seen.to_cancel:
            self._dispatcher.cancel(job_id)
        for job_id, asked in seen.to_change:
            self._change(job_id, asked)
        taken = 0
        # A gateway whose own lease ran out leaves them to those that are well.
        if seen.orphaned and self._hub.clock.monotonic() < self._dispatcher.leased_until:
            await store.change(leases.end_sessions)
            taken = await self._dispatcher.adopt(starting=False, limit=BATCH)
        self._taken += taken
        if self._taken and taken < BATCH:
            _LOGGER.warning(
                "Took over %d jobs of a gateway that is gone or has no worker for them", self._taken
            )
            self._taken = 0
        return taken == BATCH

    def _change(self, job_id: str, asked: str) -> None:
        if asked in self._answering:
            return
        change = JobChange.from_json(leases.asked_change(asked))
        answered = self._dispatcher.change(job_id, change, asked)
        if answered is not None:
            self._answering.add(asked)
            answered.add_done_callback(lambda done: self._answered(asked, done))

    def _answered(self, asked: str, done: "asyncio.Future[None]") -> None:
        # What failed is found again at the next look.
        self._answering.discard(asked)
        if not done.cancelled() and (error := done.exception()) is not None:
            _LOGGER.debug("What another gateway asked for was not done: %s", error)

    async def resign(self) -> None:
        """Give the lease up, so that others need not wait for it to run out, and adopt no more."""
        for task in self._keeping:
            task.cancel()
        if self._keeping:
            self._dispatcher.leased_until = self._dispatcher.sure_until = -math.inf
            try:
                await self._hub.store.commit([leases.resign(self._gateway_id)])
            except StoreError as error:
                _LOGGER.warning("The lease is not given up, and runs out by itself: %s", error)

    def _not_ready(self) -> Iterator[str]:
        """Yield what keeps this gateway from its work, by what was last seen of the store."""
        late_s = self._hub.clock.monotonic() - self._dispatcher.leased_until
        if late_s >= 0:
            yield "its lease" if math.isinf(late_s) else f"its lease, for {late_s:.0f} s"
        if (lag_s := self._hub.clock.monotonic() - self._caught_up_at) > _LAG_MAX_S:
            yield f"events of the last {lag_s:.0f} s"
