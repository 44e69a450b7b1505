"""What nobody waits for at the gateway goes with the next commit, and makes none of its own."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from swarm_hub.components.gateway.dispatch import dispatcher
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs
from tests.conftest import Swarm, until
from tests.helpers.rest import finished, submit

Modules = dict[str, bytes]
NEVER_S = 600.0
WHOLE = {"shard_size": 100}


async def read_at(store: Store, job_id: str) -> float | None:
    job = await store.read(jobs.get, job_id)
    assert job is not None
    return job.read_at


async def test_a_job_takes_the_note_that_the_one_before_was_read_along(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_KEEP_WITHIN_S", NEVER_S)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    store = gateway.hub.store
    _, first = await submit(gateway, modules["primes"], b"0:100", WHOLE)
    await finished(gateway, first["job_id"])
    assert await read_at(store, first["job_id"]) is None
    _, second = await submit(gateway, modules["primes"], b"0:100", WHOLE)
    assert await read_at(store, first["job_id"]) is not None
    await finished(gateway, second["job_id"])


async def test_the_time_that_an_earlier_job_waited_for_wakes_nobody_for_a_later_one(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    loop = asyncio.get_running_loop()
    call_later, waiting = loop.call_later, list[asyncio.TimerHandle]()

    def watched(delay_s: float, call: Any, *arguments: Any, **named: Any) -> asyncio.TimerHandle:
        handle = call_later(delay_s, call, *arguments, **named)
        if delay_s == NEVER_S:
            waiting.append(handle)
        return handle

    monkeypatch.setattr(dispatcher, "_KEEP_WITHIN_S", NEVER_S)
    monkeypatch.setattr(loop, "call_later", watched)
    for _ in range(3):
        _, body = await submit(gateway, modules["primes"], b"0:100", WHOLE)
        await finished(gateway, body["job_id"])

    async def live() -> Sequence[asyncio.TimerHandle]:
        return [handle for handle in waiting if not handle.cancelled()]

    assert len(waiting) > 1
    await until(live, lambda handles: len(handles) <= 1)
