"""What a gateway tells to give way does so, or comes back to it; what is not here is not missed."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.components.gateway import NODE_LINKS
from swarm_hub.components.gateway.links.base import NodeLink
from swarm_hub.components.mesh import MESH
from swarm_hub.components.sandbox import SANDBOX, Sandbox
from swarm_hub.components.signer import SIGNER
from swarm_hub.models import messages
from swarm_hub.models.features import PREEMPT
from swarm_hub.models.messages import Nack
from swarm_hub.models.node import WorkerOffer
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
WORKER = "worker: {charging_only: false, min_battery: 0, slots: 1, finish_within: 0.2}\n"
# What comes back comes by a NACK, not by a deadline.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"


def link_to(gateway: RunningHub, worker: RunningHub) -> NodeLink:
    link = gateway.hub.services[NODE_LINKS].get(worker.hub.services[MESH].peer_id)
    assert link is not None
    return link


def given_back(gateway: RunningHub) -> list[Nack]:
    """Return a list to which what comes back from now on is added."""
    found: list[Nack] = []
    gateway.hub.services[NODE_LINKS].on_said(lambda words: found.extend(words.returned))
    return found


def sandbox_of(worker: RunningHub) -> Sandbox:
    return worker.hub.services[SANDBOX].sandbox


async def long_job(gateway: RunningHub, modules: Modules, shards: int = 1) -> str:
    """Submit shards that end by their limit of a minute; returns the job's id."""
    spec = {"shard_size": 1_000_000}
    _, body = await submit(gateway, modules["spin"], b"0:%d" % (shards * 1_000_000), spec)
    return str(body["job_id"])


async def begun(worker: RunningHub) -> str:
    """Wait until a shard runs; returns its assignment id."""

    async def read() -> set[str]:
        return sandbox_of(worker).begun()

    (assignment_id,) = await until(read, bool)
    return assignment_id


async def seen(condition: Callable[[], Any]) -> None:
    async def read() -> Any:
        return condition()

    await until(read, bool)


async def small_job(gateway: RunningHub, modules: Modules) -> None:
    _, body = await submit(gateway, modules["primes"], b"0:100")
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)


Pair = Callable[[], Awaitable[tuple[RunningHub, RunningHub]]]


@pytest.fixture
def pair(swarm: Swarm) -> Pair:
    async def start() -> tuple[RunningHub, RunningHub]:
        return await swarm.gateway(extra=PATIENT), await swarm.worker("worker", extra=WORKER)

    return start


async def test_a_worker_says_that_it_knows_the_message_and_how_long_a_shard_may_take(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    offers: list[WorkerOffer] = []
    gateway.hub.services[NODE_LINKS].on_connected(lambda link, name, offer: offers.append(offer))
    await swarm.worker("worker", extra="sandbox: {wall_time: 7.5}\n")
    await seen(lambda: offers)
    assert offers[0].wall_time_s == 7.5
    assert PREEMPT in offers[0].features


async def test_a_long_shard_lets_another_jobs_finish_in_the_only_slot(
    pair: Pair, modules: Modules
) -> None:
    gateway, worker = await pair()
    returned = given_back(gateway)
    job_id = await long_job(gateway, modules)
    assignment_id = await begun(worker)
    link_to(gateway, worker).preempt([assignment_id])
    for _ in range(2):
        await small_job(gateway, modules)
    await seen(lambda: sandbox_of(worker).stats().running == 1)
    assert sandbox_of(worker).begun() == {assignment_id}
    assert returned == []
    # What is withdrawn ends, whether it is suspended just now or not.
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}"))[0] == 200
    await seen(lambda: not sandbox_of(worker).begun())


async def test_what_has_not_begun_comes_back(pair: Pair, modules: Modules) -> None:
    gateway, worker = await pair()
    returned = given_back(gateway)
    await long_job(gateway, modules, shards=2)
    running = await begun(worker)

    async def accepted() -> set[str]:
        with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
            return {each for (each,) in database.execute("SELECT assignment_id FROM inbox")}

    waiting = await until(accepted, lambda found: len(found) == 2) - {running}
    # Both in one message: the second must not begin in the slot that the first one leaves.
    link_to(gateway, worker).preempt([running, *waiting])
    await seen(lambda: returned)
    assert returned[0] == Nack(tuple(waiting), messages.GAVE_WAY)
    await seen(lambda: running in sandbox_of(worker).begun())
    assert running not in [each for nack in returned for each in nack.assignment_ids]


async def test_without_memory_for_another_child_what_runs_comes_back(
    pair: Pair, modules: Modules
) -> None:
    gateway, worker = await pair()
    returned = given_back(gateway)
    sandbox_of(worker)._available_memory = lambda: 0
    job_id = await long_job(gateway, modules)
    assignment_id = await begun(worker)
    link_to(gateway, worker).preempt([assignment_id])
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await seen(lambda: returned)
    assert returned[0].assignment_ids == (assignment_id,)
    assert returned[0].reason.startswith(f"{messages.GAVE_WAY}: only 0 MiB")
    # The gateway may have given it out again.
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}"))[0] == 200
    assert (await finished(gateway, body["job_id"]))["result"] == 25


async def test_what_is_on_its_way_to_the_disk_comes_back(
    pair: Pair, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, worker = await pair()
    returned = given_back(gateway)
    commit = worker.hub.store.commit
    written, heard = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        await commit(*arguments)
        written.set()
        await heard.wait()

    monkeypatch.setattr(worker.hub.store, "commit", slow)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    async with asyncio.timeout(20):
        await written.wait()
    assignment_id = f"{body['job_id']}.0.1"
    link_to(gateway, worker).preempt([assignment_id])
    await seen(lambda: returned)
    assert returned == [Nack((assignment_id,), messages.GAVE_WAY)]
    heard.set()
    # The next attempt is no longer told to.
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)


async def test_what_is_done_unknown_or_anothers_is_not_minded(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    other = await swarm.gateway("other", extra=PATIENT)
    worker = await swarm.worker("worker", "gateway", "other", extra=WORKER)
    returned = [given_back(gateway), given_back(other)]
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])
    job_id = await long_job(gateway, modules)
    assignment_id = await begun(worker)
    caplog.set_level("INFO")
    for hub in (gateway, other):
        done = f"{body['job_id']}.0.1"
        names = [done, "nobody's", *([assignment_id] if hub is other else [])]
        link_to(hub, worker).preempt(names)
        link_to(hub, worker).drain("to see that all before was heard")
        peer_id = hub.hub.services[MESH].peer_id
        await seen(lambda peer_id=peer_id: f"No more work from {peer_id}" in caplog.text)
    (child,) = (each for each in sandbox_of(worker)._children if each.running)
    assert not child.background
    assert sandbox_of(worker).begun() == {assignment_id}
    assert (await call(gateway, "DELETE", f"/jobs/{job_id}"))[0] == 200
    assert returned == [[], []]


async def test_a_worker_that_stops_gives_a_suspended_shard_back(
    swarm: Swarm, pair: Pair, modules: Modules
) -> None:
    gateway, worker = await pair()
    returned = given_back(gateway)
    await long_job(gateway, modules)
    assignment_id = await begun(worker)
    link_to(gateway, worker).preempt([assignment_id])
    await long_job(gateway, modules)
    await seen(lambda: sandbox_of(worker).stats().suspended == 1)
    await seen(lambda: len(sandbox_of(worker).begun()) == 2)
    await swarm.stop(worker)
    reasons = {each: nack.reason for nack in returned for each in nack.assignment_ids}
    assert reasons[assignment_id] == "it did not finish before the hub stopped"
    assert len(reasons) == 2


@pytest.mark.parametrize("fields", [{}, {"ids": 5}, {"ids": [None]}])
async def test_a_malformed_one_stops_nothing(
    pair: Pair, modules: Modules, fields: dict[str, Any]
) -> None:
    gateway, worker = await pair()
    await small_job(gateway, modules)
    peer_id = worker.hub.services[MESH].peer_id
    gateway.hub.services[SIGNER].send(peer_id, messages.PREEMPT, fields)
    await small_job(gateway, modules)
