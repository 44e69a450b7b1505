"""Gives each event to the subscriptions that want it; a filter is asked once, not once a client."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from swarm_hub.components.api.live.event import LiveEvent
from swarm_hub.core import Hub
from swarm_hub.endpoints import EventFilter, JobFacts
from swarm_hub.models.event import DurableEvent, EphemeralEvent

_LOGGER = logging.getLogger(__name__)

_WAITING_MAX: Final = 16_384
_FOUND_AT_ONCE_MAX: Final = 500
_CANNOT_TELL: Final = "the hub can't tell whose jobs some events are of; resume"


class Audience:
    """Those who want, and may see, the same events; `account` is whose jobs alone."""

    def __init__(self, wanted: EventFilter, account: str | None) -> None:
        self.wanted = wanted
        self.account = account
        # Whether it depends on its job who hears of an event.
        self.needs_facts = account is not None or bool(wanted.labels)
        self.members: dict[Subscription, None] = {}

    def hears(self, event: LiveEvent, facts: JobFacts | None) -> bool:
        """Whether an event is for it; `facts` are those of the event's job."""
        if (
            self.account is not None
            and event.job_id is not None
            and (facts is None or facts.owner != self.account)
        ):
            return False
        return self.wanted.accepts(event.event_type, event.job_id, event.node_id, facts)

    def offer(self, event: LiveEvent, facts: JobFacts | None) -> None:
        """Give it an event, if that is for it."""
        if self.hears(event, facts):
            for subscription in tuple(self.members):
                subscription.offer(event)


class Subscription:
    """One client's wish to follow events.

    `sent` is the newest durable event that it had its chance to get. It catches up from there until
    it is `live`, and is given no other events until then; once it is `over`, it is given none.
    """

    __slots__ = ("audience", "give", "let_go", "live", "over", "sent")

    def __init__(
        self,
        audience: Audience,
        give: Callable[[LiveEvent], None],
        let_go: Callable[[str], None],
    ) -> None:
        self.audience = audience
        self.give = give
        self.let_go = let_go
        self.sent = 0
        self.live = False
        self.over = asyncio.Event()

    def offer(self, event: LiveEvent) -> None:
        """Give it an event that is for it, unless it has that already or catches up."""
        if not self.live or self.over.is_set():
            return
        if event.seq is not None:
            if event.seq <= self.sent:
                return
            self.sent = event.seq
        self.give(event)


class Fanout:
    """Every subscription, by its audience: a filter is asked once an event, not once a client."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # By the job they are bound to, None for those of all jobs.
        self._audiences: dict[str | None, dict[tuple[EventFilter, str | None], Audience]] = {}
        self._n_needing_facts = 0
        # Events whose jobs have to be looked up, and all that came after the first of these, for
        # those alone who need to know: so the order stays.
        self._waiting: deque[LiveEvent] = deque()
        self._finding: asyncio.Task[None] | None = None
        self._offered_seq = 0
        self._judged_seq = 0
        hub.bus.listen(DurableEvent, self._on_durable)
        hub.bus.listen(EphemeralEvent, self._on_passing)
        hub.store.follow_while(lambda: bool(self._audiences))

    def add(self, subscription: Subscription) -> None:
        """Offer it events from now on, together with those that want the same."""
        own = subscription.audience
        of_job = self._audiences.setdefault(own.wanted.job_id, {})
        subscription.audience = of_job.setdefault((own.wanted, own.account), own)
        subscription.audience.members[subscription] = None
        self._n_needing_facts += own.needs_facts

    def discard(self, subscription: Subscription) -> None:
        """Offer it nothing more."""
        audience = subscription.audience
        if subscription not in audience.members:
            return
        del audience.members[subscription]
        self._n_needing_facts -= audience.needs_facts
        if not audience.members:
            of_job = self._audiences[audience.wanted.job_id]
            del of_job[audience.wanted, audience.account]
            if not of_job:
                del self._audiences[audience.wanted.job_id]

    def seen(self, subscription: Subscription) -> int:
        """Return the newest durable event that a subscription had its chance to get."""
        if not subscription.live:
            return subscription.sent
        seq = self._judged_seq if subscription.audience.needs_facts else self._offered_seq
        return max(seq, subscription.sent)

    def _on_durable(self, event: DurableEvent) -> None:
        if self._audiences:
            self._spread(LiveEvent.durable(event))

    def _on_passing(self, event: EphemeralEvent) -> None:
        if self._audiences:
            self._spread(LiveEvent.passing(event, self._hub.clock.time()))

    def _spread(self, event: LiveEvent) -> None:
        facts = None
        waits = False
        if self._n_needing_facts:
            if event.job_id is not None:
                facts = self._hub.endpoints.job_facts(event.job_id)
            waits = bool(self._waiting) or (event.job_id is not None and facts is None)
        if waits:
            self._wait(event)
        self._note(event, judged=not waits)
        for audience in self._of(event.job_id):
            if not (waits and audience.needs_facts):
                audience.offer(event, facts)

    def _note(self, event: LiveEvent, *, judged: bool) -> None:
        if event.seq is not None:
            self._offered_seq = max(self._offered_seq, event.seq)
            if judged:
                self._judged_seq = event.seq

    def _of(self, job_id: str | None) -> tuple[Audience, ...]:
        """Return the audiences that an event of a job may be for."""
        found = tuple(self._audiences.get(None, {}).values())
        return found if job_id is None else (*found, *self._audiences.get(job_id, {}).values())

    def _wait(self, event: LiveEvent) -> None:
        if len(self._waiting) >= _WAITING_MAX:
            self._give_up()
        self._waiting.append(event)
        if self._finding is None or self._finding.done():
            self._finding = self._hub.tasks.spawn(self._find(), "jobs of events")

    async def _find(self) -> None:
        while self._waiting:
            # They stay in the queue meanwhile: what comes now has to wait behind them.
            batch = tuple(itertools.islice(self._waiting, _FOUND_AT_ONCE_MAX))
            job_ids = {event.job_id for event in batch if event.job_id is not None}
            try:
                found = await self._hub.endpoints.find_job_facts(sorted(job_ids))
            except Exception as error:
                _LOGGER.warning("Can't tell whose jobs %d events are of: %s", len(batch), error)
                self._give_up()
                return
            if not self._waiting or self._waiting[0] is not batch[0]:
                # Too many came meanwhile.
                continue
            for event in batch:
                self._waiting.popleft()
                self._note(event, judged=True)
                facts = None if event.job_id is None else found.get(event.job_id)
                for audience in self._of(event.job_id):
                    if audience.needs_facts:
                        audience.offer(event, facts)

    def _give_up(self) -> None:
        """Disconnect who would miss events without a way to tell; they can resume."""
        self._waiting.clear()
        for of_job in self._audiences.values():
            for audience in of_job.values():
                if audience.needs_facts:
                    for subscription in audience.members:
                        subscription.let_go(_CANNOT_TELL)
