"""The watchdog tells what is stuck, restarts what can be, and is heard by systemd."""

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from swarm_hub import watchdog as module
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util import systemd
from swarm_hub.util.clock import Clock
from swarm_hub.watchdog import Watchdog
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


class FastClock(Clock):
    """A clock that tests move."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_a_part_is_stuck_after_its_bound_and_well_again_once_it_answers() -> None:
    tasks, clock = TaskSupervisor(), FastClock()
    watchdog = Watchdog(tasks, clock)
    may_answer = asyncio.Event()
    may_answer.set()
    watchdog.watch("the pump", lambda: may_answer.wait(), 30.0)  # type: ignore[arg-type, return-value]
    assert await watchdog.problems() == []
    may_answer.clear()
    assert await watchdog.problems() == []
    clock.now += 14
    assert await watchdog.problems() == []
    for _ in range(2):
        clock.now += 14
        found = await watchdog.problems()
    assert found == ["the pump has given no sign for 42 s"]
    may_answer.set()
    await asyncio.sleep(0)
    assert await watchdog.problems() == []
    await tasks.stop(1)


async def test_a_process_that_was_frozen_is_not_taken_for_stuck() -> None:
    tasks, clock = TaskSupervisor(), FastClock()
    watchdog = Watchdog(tasks, clock)
    never = asyncio.Event()
    watchdog.watch("the pump", lambda: never.wait(), 30.0)  # type: ignore[arg-type, return-value]
    await watchdog.problems()
    clock.now += 3600
    assert await watchdog.problems() == []
    await tasks.stop(1)


async def test_a_part_that_is_stuck_is_restarted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(module, "_ANSWER_WITHIN_S", 0.01)
    tasks = TaskSupervisor()
    watchdog = Watchdog(tasks, Clock())
    stuck, restarted = asyncio.Event(), []

    def restart() -> None:
        restarted.append(True)
        stuck.set()

    watchdog.watch("the pump", lambda: stuck.wait(), 0.1, restart)  # type: ignore[arg-type, return-value]
    watchdog.start()
    async with asyncio.timeout(30):
        await stuck.wait()
        await asyncio.sleep(0.1)
    assert restarted == [True]
    await tasks.stop(1)


async def test_health_says_what_is_stuck_and_the_dispatcher_is_restarted(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    code, health = await call(gateway, "GET", "/health")
    assert (code, health["ok"], health["problems"]) == (200, True, [])
    from swarm_hub.components.gateway.dispatch.sender import Sender

    original, blocked = Sender.send, asyncio.Event()

    async def stuck(self: Sender, *args: Any) -> None:
        if not blocked.is_set():
            blocked.set()
            await asyncio.Event().wait()
        await original(self, *args)

    monkeypatch.setattr(Sender, "send", stuck)
    code, body = await submit(gateway, modules["primes"], b"0:100")
    assert code == 202
    async with asyncio.timeout(30):
        await blocked.wait()
    watchdog = gateway.hub.watchdog
    await watchdog.problems()
    for part in watchdog._parts:
        part.waited_s += 100
    code, health = await call(gateway, "GET", "/health")
    assert (code, health["ok"]) == (503, False)
    assert any("the dispatcher has given no sign" in each for each in health["problems"])
    (part,) = [each for each in watchdog._parts if each.name == "the dispatcher"]
    assert part.restart is not None
    part.restart()
    async with asyncio.timeout(60):
        status = await finished(gateway, body["job_id"])
    assert status["state"] == "completed"
    code, health = await call(gateway, "GET", "/health")
    assert (code, health["problems"]) == (200, [])


def test_systemd_is_told_only_if_it_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.notify("READY=1")
    assert systemd.watchdog_s() is None
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        systemd.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    systemd.notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert systemd.watchdog_s() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert systemd.watchdog_s() is None


async def test_systemd_hears_from_a_hub_that_is_well_and_not_from_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(path))
    manager.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    monkeypatch.setattr(module, "_ANSWER_WITHIN_S", 0.01)
    tasks, stuck = TaskSupervisor(), threading.Event()
    stuck.set()
    watchdog = Watchdog(tasks, Clock())
    watchdog.watch("the pump", lambda: asyncio.to_thread(stuck.wait), 0.1)  # type: ignore[arg-type, return-value]
    watchdog.start()
    assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    stuck.clear()
    async with asyncio.timeout(30):
        while not await watchdog.problems():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    manager.setblocking(False)
    try:
        while manager.recv(100):
            pass
    except BlockingIOError:
        pass
    await asyncio.sleep(0.1)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    stuck.set()
    await tasks.stop(5)
    manager.close()
