"""One event for many clients: turned into JSON once, each filter asked once, in order for all."""

import contextlib
import json
from collections import Counter
from typing import Any

import pytest

from swarm_hub.components.api.live import event as event_module
from swarm_hub.components.api.live.fanout import Audience, Fanout, Subscription
from swarm_hub.endpoints import EventFilter
from swarm_hub.models.event import EphemeralEvent, EventType, NewEvent
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import live

CLIENTS = 30
EVENTS = 20


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


async def test_thirty_clients_cost_one_serialisation_and_one_question_a_filter(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    dumps, accepts = json.dumps, EventFilter.accepts

    def counted_dumps(*given: Any, **options: Any) -> str:
        counts["serialised"] += 1
        return dumps(*given, **options)

    def counted_accepts(self: EventFilter, *given: Any) -> bool:
        counts["asked"] += 1
        return accepts(self, *given)

    fields: list[dict[str, Any]] = [{}, {"event_type": "telemetry"}, {"event_type": "job_pruned"}]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(live(gateway)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            await client.command("subscribe_events", **fields[number % 3])
        with monkeypatch.context() as patched:
            patched.setattr(event_module.json, "dumps", counted_dumps)
            patched.setattr(EventFilter, "accepts", counted_accepts)
            for number in range(EVENTS):
                gateway.hub.bus.fire(EphemeralEvent("telemetry", {"number": number}))
        assert counts == {"serialised": EVENTS, "asked": 3 * EVENTS}
        for number, client in enumerate(clients):
            if number % 3 < 2:
                got = [(await client.receive())["event"]["data"] for _ in range(EVENTS)]
                assert got == [{"number": each} for each in range(EVENTS)]
            assert (await client.command("ping"))["type"] == "pong"


async def test_an_event_that_nobody_wants_is_not_serialised(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(gateway) as client:
        await client.command("subscribe_events", job_id="another")
        await client.command("subscribe_events", event_type="job_pruned")

        def never(*_given: Any, **_options: Any) -> str:
            raise AssertionError("it was serialised")

        with monkeypatch.context() as patched:
            patched.setattr(event_module.json, "dumps", never)
            gateway.hub.bus.fire(EphemeralEvent("job_progress", {"job_id": "one"}))
        assert (await client.command("ping"))["last_seq"] == gateway.hub.store.last_seq


async def test_who_leaves_is_forgotten(gateway: RunningHub) -> None:
    async with live(gateway) as stays:
        await stays.command("subscribe_events")
        async with live(gateway) as leaves:
            await leaves.command("subscribe_events", label={"team": "blue"})
            await leaves.command("subscribe_events", node_id="a")
        for number in range(3):
            event = NewEvent(EventType.JOB_QUEUED, {"job_id": "x", "number": number}, "x")
            await gateway.hub.store.commit([], [event])
            assert (await stays.receive())["event"]["data"]["number"] == number


async def test_nothing_is_kept_of_subscriptions_that_have_ended(gateway: RunningHub) -> None:
    fanout = Fanout(gateway.hub)

    def subscription(wanted: EventFilter) -> Subscription:
        return Subscription(Audience(wanted, "ada"), lambda _event: None, lambda _why: None)

    wanted = [EventFilter(), EventFilter(job_id="a"), EventFilter(node_id="n"), EventFilter()]
    every = [subscription(each) for each in wanted]
    never_added = subscription(EventFilter(job_id="b"))
    for each in every:
        fanout.add(each)
    assert every[0].audience is every[3].audience
    for each in (*every, never_added, *every):
        fanout.discard(each)
    assert (fanout._audiences, fanout._n_needing_facts) == ({}, 0)
