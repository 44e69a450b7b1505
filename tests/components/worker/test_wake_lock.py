"""The wake lock of Termux, by programs that stand in for it: held while shards run, and on."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.worker import wake_lock
from tests.conftest import Swarm, until
from tests.helpers.programs import Programs


@pytest.fixture
def termux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return programs among which are those of the lock."""
    made = Programs(tmp_path / "programs")
    made.add("termux-wake-lock")
    made.add("termux-wake-unlock")
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    return made


async def rested(termux: Programs, more_than: int = 0) -> int:
    """Wait until the lock was taken more often than that, and let go; returns how often.

    On a busy machine a job's shards can be further apart than the worker lingers here.
    """

    async def read() -> list[str]:
        return termux.calls()

    calls = await until(read, lambda found: len(found) > 2 * more_than and len(found) % 2 == 0)
    pairs = len(calls) // 2
    assert calls == ["termux-wake-lock", "termux-wake-unlock"] * pairs
    return pairs


async def test_the_lock_is_taken_with_the_first_shard_and_let_go_after_the_last(
    gateway_with_workers: Callable[[int], asyncio.Future[SwarmClient]],
    modules: dict[str, bytes],
    termux: Programs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wake_lock, "LINGER_S", 0.2)
    client = await gateway_with_workers(1)
    assert termux.calls() == []
    assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
    before = await rested(termux)
    assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
    await rested(termux, more_than=before)


async def test_a_worker_that_stops_lets_go_of_it(
    swarm: Swarm,
    gateway_with_workers: Callable[[int], asyncio.Future[SwarmClient]],
    modules: dict[str, bytes],
    termux: Programs,
) -> None:
    client = await gateway_with_workers(1)
    assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
    assert termux.calls() in ([], ["termux-wake-lock"])
    await swarm.stop_all()
    await rested(termux)


async def test_no_shard_waits_for_programs_that_hang_or_fail_and_one_line_says_so(
    gateway_with_workers: Callable[[int], asyncio.Future[SwarmClient]],
    modules: dict[str, bytes],
    termux: Programs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    termux.add("termux-wake-lock", "exec sleep 60")
    termux.add("termux-wake-unlock", "exit 3")
    monkeypatch.setattr(wake_lock, "LINGER_S", 0.05)
    monkeypatch.setattr(wake_lock, "_ANSWER_WITHIN_S", 0.3)
    caplog.set_level(logging.WARNING, wake_lock.__name__)
    client = await gateway_with_workers(1)
    assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
    await rested(termux)

    told = [each.message for each in caplog.records if each.name == wake_lock.__name__]
    assert told == [
        "termux-wake-lock did not answer within 0.3 s; the device may sleep while it works"
    ]
