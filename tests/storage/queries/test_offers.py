"""A job that its gateway gave up is adopted as an orphan is, by whom it was offered to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from swarm_hub.models.presence import Presence
from swarm_hub.storage import Store
from swarm_hub.storage.queries import leases, presence
from swarm_hub.util.clock import Clock
from tests.helpers.stored import put_job

GATEWAYS = ("giver", "taker", "third")


def live(connection: Connection, gateway: str, for_s: float = 60.0) -> None:
    presence.keep(connection, Presence(gateway), for_s, 3.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    await made.open()
    await made.commit([leases.register(name, 0.0) for name in GATEWAYS])
    for name in GATEWAYS:
        await made.change(live, name)
    yield made
    await made.close()


async def adopted(store: Store, gateway: str) -> dict[str, int]:
    return await store.change(leases.adopt, gateway, starting=False, limit=50)


async def test_only_the_gateway_that_it_was_offered_to_adopts_it(store: Store) -> None:
    await put_job(store, "job", ended_at=None, gateway="giver")
    assert await adopted(store, "taker") == {}
    assert await store.change(leases.offer, "giver", "taker", {"job": 1}) == ["job"]
    for other in ("giver", "third"):
        assert not (await store.read(leases.look, other)).orphaned
        assert await adopted(store, other) == {}
    assert (await store.read(leases.look, "taker")).orphaned
    assert await adopted(store, "taker") == {"job": 3}
    assert await store.read(leases.owner, "job") == "taker"


async def test_a_gateway_that_lost_a_job_meanwhile_gives_up_nothing(store: Store) -> None:
    await put_job(store, "job", ended_at=None, gateway="giver")
    assert await store.change(leases.offer, "giver", "taker", {"job": 2}) == []
    assert await store.change(leases.offer, "third", "taker", {"job": 1}) == []
    assert await store.read(leases.owner, "job") == "giver"


async def test_anybody_adopts_it_when_that_gateway_is_gone(store: Store) -> None:
    await put_job(store, "job", ended_at=None, gateway="giver")
    await store.change(leases.offer, "giver", "taker", {"job": 1})
    await store.commit([leases.resign("taker")])
    assert await adopted(store, "third") == {"job": 3}


async def test_a_job_that_was_adopted_is_no_longer_kept_for_anyone(store: Store) -> None:
    await put_job(store, "job", ended_at=None, gateway="giver")
    await store.change(leases.offer, "giver", "taker", {"job": 1})
    await adopted(store, "taker")
    await store.commit([leases.resign("taker")])
    assert await adopted(store, "giver") == {"job": 4}
