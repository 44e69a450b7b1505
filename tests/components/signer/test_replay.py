"""The replay cache: bounded for each issuer, and nothing acts twice for that."""

from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from swarm_hub.components.signer import SIGNER, replay
from swarm_hub.models.envelope import Envelope
from swarm_hub.storage import schema
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import Wire, pair, peer_id, refused, sealed, state_is

pytestmark = pytest.mark.slow

KEPT = 16


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "KEPT_PER_ISSUER", KEPT)


async def stored(hub: RunningHub, issuer: str) -> int:
    def count(connection: Connection) -> int:
        table = schema.seen
        chosen = select(func.count()).select_from(table).where(table.c.iss == issuer)
        return int(connection.execute(chosen).scalar_one())

    return await hub.hub.store.read(count)


async def came(hub: RunningHub, code: str, count: int) -> None:
    async def found() -> int:
        return refused(hub, code)

    assert await until(found, lambda found: found >= count) == count


async def flooded(gateway: RunningHub, worker: RunningHub) -> tuple[list[Envelope], Any]:
    """Send many envelopes, the oldest first; returns them and a way to send more."""
    wire, sent = Wire(gateway), []
    for age_s in range(100, 0, -1):
        sent.append(sealed(gateway, worker, age_s=age_s))
        wire.send(peer_id(worker), sent[-1])
    # What is known was heard.
    wire.send(peer_id(worker), sent[-1])
    await came(worker, "replayed", 1)
    return sent, wire


async def test_what_is_kept_of_an_issuer_is_bounded_and_none_acts_twice(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    sent, wire = await flooded(gateway, worker)
    assert worker.hub.services[SIGNER].refused.keys() == {"replayed"}

    async def rows() -> int:
        return await stored(worker, peer_id(gateway))

    await until(rows, lambda count: 0 < count <= KEPT)
    for envelope in sent:
        wire.send(peer_id(worker), envelope)

    async def known() -> int:
        return refused(worker, "replayed") + refused(worker, "expired") - 1

    assert await until(known, lambda count: count >= len(sent)) == len(sent)
    assert refused(worker, "expired") >= len(sent) - KEPT
    # Honest envelopes are newer.
    again = sealed(gateway, worker)
    for _ in range(2):
        wire.send(peer_id(worker), again)
    before = refused(worker, "replayed")
    await came(worker, "replayed", before + 1)


async def test_what_was_dropped_is_refused_after_a_restart_too(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    sent, wire = await flooded(gateway, worker)
    await swarm.stop(worker)
    yaml = (worker.folder / "configuration.yaml").read_text()
    worker = await swarm.start("worker", yaml.partition("\n")[2])
    await state_is(gateway, peer_id(worker), "up")
    for envelope in sent[:50]:
        wire.send(peer_id(worker), envelope)
    await came(worker, "expired", 50)
    assert not worker.hub.services[SIGNER].refused["replayed"]
