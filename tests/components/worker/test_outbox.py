"""What was ACKed is on disk before its result is sent; what took a moment is sent at once."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing

import pytest

from swarm_hub.components.gateway.dispatch.node_messages import NodeMessages
from swarm_hub.components.worker import intake, outbox
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import OutboxEntry
from swarm_hub.storage.write import Write
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import finished, submit

Modules = dict[str, bytes]
WORKER = "worker: {charging_only: false, min_battery: 0, slots: 1}\n"
# A deadline that no test waits for.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"
PRIMES = {"shard_size": 25}
NEVER_S = 600.0


def outcomes(worker: RunningHub) -> int:
    """Return how many rows the outbox has on disk."""
    with closing(sqlite3.connect(f"file:{worker.folder}/swarm_hub.db?mode=ro", uri=True)) as file:
        (count,) = file.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)


@pytest.fixture
def sent_without_rows(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Say of each delivery whether it was of what has no row."""
    said: list[bool] = []
    deliver = Delivery.deliver

    def watched(self: Delivery, entries: list[OutboxEntry], *, on_disk: bool = True) -> None:
        said.extend(not on_disk for _ in entries)
        deliver(self, entries, on_disk=on_disk)

    monkeypatch.setattr(Delivery, "deliver", watched)
    return said


async def test_a_short_shard_is_never_written_down_by_its_worker(
    swarm: Swarm,
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    sent_without_rows: list[bool],
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", NEVER_S)
    monkeypatch.setattr(outbox, "_WRITE_DOWN_AFTER_S", NEVER_S)
    touched: list[str] = []
    finish, delivered = inbox.finish, inbox.delivered

    def finishing(entries: Sequence[OutboxEntry], accepted: Iterable[str]) -> list[Write]:
        touched.extend(entry.result.assignment_id for entry in entries)
        return finish(entries, accepted)

    def delivering(assignment_ids: Sequence[str]) -> Write:
        touched.extend(assignment_ids)
        return delivered(assignment_ids)

    monkeypatch.setattr(inbox, "finish", finishing)
    monkeypatch.setattr(inbox, "delivered", delivering)
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    assert sent_without_rows == [True] * 4
    # It hears that all of them are stored, too.
    await swarm.stop(worker)
    assert touched == []


async def test_what_was_acked_is_in_the_outbox_before_it_is_sent(
    swarm: Swarm,
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    sent_without_rows: list[bool],
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", 0.0)
    gateway = await swarm.gateway(extra=PATIENT)
    await swarm.worker("worker", extra=WORKER)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    assert sent_without_rows == [False] * 4


async def test_a_result_that_nobody_takes_is_written_down_until_somebody_does(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", NEVER_S)
    monkeypatch.setattr(outbox, "_WRITE_DOWN_AFTER_S", 0.0)
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)

    async def kept() -> int:
        return outcomes(worker)

    with monkeypatch.context() as deaf:
        deaf.setattr(NodeMessages, "_on_result", lambda *_said: None)
        _, body = await submit(gateway, modules["primes"], b"0:100", {"shard_size": 100})
        await until(kept, lambda count: count == 1)
        await swarm.stop(gateway)
    gateway = await swarm.gateway(extra=PATIENT)
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    await until(kept, lambda count: count == 0)


async def test_a_worker_that_stops_writes_down_what_it_could_not_deliver(
    swarm: Swarm,
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    sent_without_rows: list[bool],
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", NEVER_S)
    monkeypatch.setattr(outbox, "_WRITE_DOWN_AFTER_S", NEVER_S)
    monkeypatch.setattr(NodeMessages, "_on_result", lambda *_said: None)
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    await submit(gateway, modules["primes"], b"0:100", {"shard_size": 100})

    async def sent() -> list[bool]:
        return sent_without_rows

    await until(sent, lambda found: found == [True])
    assert outcomes(worker) == 0
    await swarm.stop(gateway)
    await swarm.stop(worker)
    assert outcomes(worker) == 1
