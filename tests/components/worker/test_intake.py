"""What a worker was given is ACKed when it is on disk; what is done soon is not written down."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.sandbox import SANDBOX, CallResult
from swarm_hub.components.signer import SIGNER
from swarm_hub.components.worker import intake
from swarm_hub.exceptions import StoreError
from swarm_hub.models import messages
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.write import Write
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import Wire
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
WORKER = "worker: {charging_only: false, min_battery: 0, slots: 1}\n"
# A deadline that no test waits for.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"
PRIMES = {"shard_size": 25}


def hold(worker: RunningHub) -> tuple[asyncio.Event, list[str]]:
    """Have the shards of a worker wait in front of its sandbox until the event is set.

    Returns those that do, too.
    """
    go_on, waiting = asyncio.Event(), list[str]()
    sandbox = worker.hub.services[SANDBOX].sandbox
    run = sandbox.run

    async def held(*arguments: Any, **named: Any) -> CallResult:
        waiting.append(named["tag"])
        await go_on.wait()
        return await run(*arguments, **named)

    sandbox.run = held  # type: ignore[method-assign]
    return go_on, waiting


def rows(worker: RunningHub) -> set[str]:
    """Return what is in the inbox on disk."""
    with closing(sqlite3.connect(f"file:{worker.folder}/swarm_hub.db?mode=ro", uri=True)) as file:
        return {each for (each,) in file.execute("SELECT assignment_id FROM inbox")}


async def test_what_is_not_done_soon_is_on_disk_when_it_is_acked(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    go_on, _ = hold(worker)
    acked: list[str] = []
    missing: set[str] = set()
    channel = worker.hub.services[SIGNER]
    send = channel.send

    def watched(peer_id: str, kind: str, fields: Mapping[str, Any], **named: Any) -> None:
        if kind == messages.ACK:
            acked.extend(fields["ids"])
            missing.update(set(fields["ids"]) - rows(worker))
        send(peer_id, kind, fields, **named)

    monkeypatch.setattr(channel, "send", watched)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)

    async def first() -> list[str]:
        return acked

    await until(first, lambda found: len(found) >= 2)
    assert missing == set()
    go_on.set()
    assert (await finished(gateway, body["job_id"]))["result"] == 25

    async def left() -> set[str]:
        return rows(worker)

    await until(left, lambda found: found == set())


async def test_what_is_done_soon_is_neither_written_down_nor_acked(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", 600.0)
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    wire = Wire(worker)
    written: list[inbox.InboxEntry] = []
    accept = inbox.accept

    def seen(entries: Sequence[inbox.InboxEntry]) -> Write:
        written.extend(entries)
        return accept(entries)

    monkeypatch.setattr(inbox, "accept", seen)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    assert (wire.count(messages.ACK), wire.count(messages.RESULT)) == (0, 4)
    assert written == []
    assert rows(worker) == set()


async def test_a_gateway_that_comes_back_is_told_only_of_what_is_on_disk(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", 600.0)
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    (go_on, waiting), wire = hold(worker), Wire(worker)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)

    async def held() -> list[str]:
        return waiting

    await until(held, bool)
    await swarm.stop(gateway)
    gateway = await swarm.gateway(extra=PATIENT)

    async def connected() -> bool:
        return gateway.hub.services[MESH].peer_id in worker.hub.services[MESH].peers()

    await until(connected, bool)
    go_on.set()
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    assert wire.count(messages.ACK) == 0
    _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    assert [shard["state"] for shard in found["shards"]] == ["done"] * len(found["shards"])


async def test_what_can_not_be_written_down_goes_back(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    (go_on, _), wire = hold(worker), Wire(worker)
    commit = worker.hub.store.commit

    async def fail(writes: Sequence[Write], *arguments: Any) -> None:
        if any(write.statement is inbox._ACCEPT for write in writes):
            raise StoreError("the disk is broken")
        await commit(writes, *arguments)

    monkeypatch.setattr(worker.hub.store, "commit", fail)
    _, body = await submit(gateway, modules["primes"], b"0:100", PRIMES)

    async def reasons() -> set[str]:
        _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
        return {
            attempt["reason"]
            for shard in found["shards"]
            for attempt in shard["attempts"]
            if attempt["state"] == "rejected"
        }

    assert await until(reasons, bool) == {"its store failed: the disk is broken"}
    assert wire.count(messages.ACK) == 0
    monkeypatch.setattr(worker.hub.store, "commit", commit)
    go_on.set()
    assert (await finished(gateway, body["job_id"]))["result"] == 25


async def test_what_is_taken_off_in_the_turn_in_which_it_is_to_be_written_leaves_no_row(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row was written behind the order that deletes it, and stayed until the next start."""
    gateway = await swarm.gateway(extra=PATIENT)
    worker = await swarm.worker("worker", extra=WORKER)
    (go_on, waiting) = hold(worker)
    gateway_id = gateway.hub.services[MESH].peer_id
    write_down = intake.Intake._write_down
    taken_off: list[str] = []

    def and_cancel(self: intake.Intake, assignment_ids: list[str]) -> None:
        write_down(self, assignment_ids)
        self._on_cancel(gateway_id, assignment_ids)
        taken_off.extend(assignment_ids)

    monkeypatch.setattr(intake.Intake, "_write_down", and_cancel)
    await submit(gateway, modules["primes"], b"0:100", PRIMES)

    async def cancelled() -> list[str]:
        return taken_off

    await until(cancelled, bool)
    assert waiting
    go_on.set()
    # It has written all that it was told to when this is on disk.
    await worker.hub.store.commit(inbox.drop(["no.such.1"]))
    await asyncio.sleep(0)
    await worker.hub.store.commit(inbox.drop(["no.such.1"]))
    assert rows(worker) == set()
