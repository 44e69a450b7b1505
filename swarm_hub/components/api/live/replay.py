"""What a subscription missed: durable events from the store, until it catches up with the bus."""

from typing import Final

from swarm_hub.components.api.live.event import LiveEvent
from swarm_hub.components.api.live.fanout import Subscription
from swarm_hub.components.api.live.outbox import Outbox
from swarm_hub.core import Hub
from swarm_hub.endpoints import JobFacts
from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.storage.queries import events

_PAGE: Final = 1000


async def are_lost(hub: Hub, job_id: str | None, since: int) -> bool:
    """Return whether durable events after `since` are no longer kept, or were of another store.

    With `job_id` those of that job alone count.
    """
    if since > hub.store.last_seq:
        return True
    if since >= await hub.store.read(events.complete_after):
        return False
    if job_id is not None:
        # The events of a job go from the first on, so those of one that has it are all there.
        story = await hub.store.read(events.story, job_id, 0, 1)
        return not (story and story[0].event_type is EventType.JOB_QUEUED)
    return True


async def catch_up(hub: Hub, subscription: Subscription, outbox: Outbox) -> None:
    """Give a subscription all that was stored after its `sent`, until it is live."""
    while subscription.sent < hub.store.last_seq and outbox.open:
        newest = hub.store.last_seq
        page = await _page(hub, subscription)
        found = await _facts(hub, subscription, page)
        for event in page:
            if subscription.over.is_set():
                return
            subscription.sent = event.seq
            facts = None if event.job_id is None else found.get(event.job_id)
            candidate = LiveEvent.durable(event)
            if subscription.audience.hears(candidate, facts):
                subscription.give(candidate)
                if outbox.is_long:
                    await outbox.sent()
        if len(page) < _PAGE:
            # Of what is in between some was removed, and some is not of its job.
            subscription.sent = max(subscription.sent, newest)
        if page:
            await outbox.sent()
    # Since the last look at the newest nothing else has run.
    subscription.live = True


async def _page(hub: Hub, subscription: Subscription) -> list[DurableEvent]:
    job_id = subscription.audience.wanted.job_id
    if job_id is None:
        return await hub.store.read(events.since, subscription.sent, _PAGE)
    return await hub.store.read(events.story, job_id, subscription.sent, _PAGE)


async def _facts(
    hub: Hub, subscription: Subscription, page: list[DurableEvent]
) -> dict[str, JobFacts]:
    """Return the facts of a page's jobs, as far as anybody knows them."""
    if not subscription.audience.needs_facts:
        return {}
    job_ids = {event.job_id for event in page if event.job_id is not None}
    known = {
        job_id: facts
        for job_id in job_ids
        if (facts := hub.endpoints.job_facts(job_id)) is not None
    }
    rest = sorted(job_ids - known.keys())
    return known | dict(await hub.endpoints.find_job_facts(rest)) if rest else known
