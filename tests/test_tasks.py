"""Supervised tasks: owned, named, restarted with a back-off, cancelled at stop."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarm_hub import tasks
from swarm_hub.tasks import TaskSupervisor
from tests.conftest import until


@pytest.fixture
async def supervisor() -> AsyncIterator[TaskSupervisor]:
    made = TaskSupervisor()
    yield made
    await made.stop(timeout_s=1)


async def length(runs: list[float]) -> int:
    return len(runs)


async def test_a_failed_task_is_restarted_with_a_growing_pause(
    supervisor: TaskSupervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_RESTART_FIRST_S", 0.02)
    monkeypatch.setattr(tasks, "_RESTART_MAX_S", 0.08)
    runs: list[float] = []

    async def fail() -> None:
        runs.append(asyncio.get_running_loop().time())
        raise RuntimeError("again")

    supervisor.supervise(fail, "the failing one")
    await until(lambda: length(runs), lambda count: count >= 6)
    pauses = [later - earlier for earlier, later in itertools.pairwise(runs)]
    for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=False):
        assert pause >= least * 0.9
    assert "Task the failing one failed; it restarts in 0.0 s" in caplog.text


async def test_work_that_returns_is_done(supervisor: TaskSupervisor) -> None:
    runs: list[float] = []

    async def once() -> None:
        runs.append(0)

    await supervisor.supervise(once, "once")
    assert runs == [0]


async def test_one_failing_task_does_not_disturb_another(supervisor: TaskSupervisor) -> None:
    async def fail() -> None:
        raise RuntimeError("no")

    async def work() -> str:
        await asyncio.sleep(0.01)
        return "done"

    supervisor.supervise(fail, "failing")
    assert await supervisor.spawn(work(), "working") == "done"


async def test_every_calls_again_and_again_also_after_a_failure(
    supervisor: TaskSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_RESTART_FIRST_S", 0.01)
    runs: list[float] = []

    async def work() -> None:
        runs.append(0)
        if len(runs) == 2:
            raise RuntimeError("once")

    supervisor.every(0.005, work, "beat")
    await until(lambda: length(runs), lambda count: count >= 5)


async def test_a_spawned_task_that_fails_is_named_in_the_log(
    supervisor: TaskSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    task = supervisor.spawn(fail(), "the one")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert "Task the one failed: broken" in caplog.text


async def test_stop_cancels_and_waits(supervisor: TaskSupervisor) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    task = supervisor.spawn(work(), "worker")
    supervised = supervisor.supervise(work, "supervised")
    await asyncio.sleep(0)
    await supervisor.stop(timeout_s=1)
    assert task.cancelled()
    assert supervised.cancelled()
    assert ended == ["cleaned up"] * 2


async def test_a_task_that_ignores_its_cancellation_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor, released = TaskSupervisor(), asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    task = supervisor.spawn(stubborn(), "the stubborn one")
    await asyncio.sleep(0)
    await supervisor.stop(timeout_s=0.05)
    assert "Task the stubborn one did not stop within" in caplog.text
    released.set()
    await task


async def test_a_task_that_gets_no_memory_is_told_to_the_loop(
    supervisor: TaskSupervisor,
) -> None:
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not told.done():
            told.set_result(context["exception"])

    asyncio.get_running_loop().set_exception_handler(handle)

    async def fail() -> None:
        raise MemoryError

    supervisor.supervise(fail, "the hungry one")
    async with asyncio.timeout(30):
        assert isinstance(await told, MemoryError)
    asyncio.get_running_loop().set_exception_handler(None)


async def test_intervals_that_are_multiples_of_each_other_share_their_wake_ups(
    supervisor: TaskSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    due: dict[str, list[float]] = {"short": [], "long": []}
    call_at = loop.call_at

    def note(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        task = asyncio.current_task()
        if task is not None and task.get_name() in due:
            due[task.get_name()].append(when)
        return call_at(when, *args, **kwargs)

    monkeypatch.setattr(loop, "call_at", note)

    async def work() -> None:
        await asyncio.sleep(0)

    supervisor.every(0.02, work, "short")
    await asyncio.sleep(0.01)
    supervisor.every(0.08, work, "long")
    await until(lambda: length(due["long"]), lambda count: count >= 3)
    since = supervisor._ticks_since
    assert since is not None
    for name, interval_s in (("short", 0.02), ("long", 0.08)):
        for when in due[name]:
            assert (when - since) / interval_s == pytest.approx(round((when - since) / interval_s))


async def test_what_is_due_is_done_then_and_sooner_when_that_came_nearer(
    supervisor: TaskSupervisor,
) -> None:
    loop = asyncio.get_running_loop()
    due: list[float] = []
    done: list[float] = []

    async def work() -> None:
        done.append(loop.time())
        due.pop()

    nearer = supervisor.when_due(
        lambda: due[-1] - loop.time() if due else None, work, "due", pause_s=0
    )
    await asyncio.sleep(0)
    due.append(loop.time() + 3600)
    nearer.set()
    await asyncio.sleep(0)
    at = loop.time() + 0.02
    due.append(at)
    nearer.set()
    await until(lambda: length(done), lambda count: count == 1)
    assert done[0] >= at - 0.001
    assert len(due) == 1


async def test_what_is_always_due_is_not_done_all_the_time(supervisor: TaskSupervisor) -> None:
    done: list[float] = []

    async def work() -> None:
        done.append(0)

    supervisor.when_due(lambda: -1.0, work, "due", pause_s=3600)
    await until(lambda: length(done), bool)
    await asyncio.sleep(0.02)
    assert len(done) == 1


async def test_work_after_a_sign_gathers_many_of_them(supervisor: TaskSupervisor) -> None:
    sign, done = asyncio.Event(), list[float]()

    async def work() -> None:
        done.append(0)
        assert not sign.is_set()

    supervisor.after(sign, work, "after", pause_s=0.05, at_least_every_s=3600)
    await asyncio.sleep(0.1)
    assert not done
    for _ in range(10):
        sign.set()
        await asyncio.sleep(0)
    await until(lambda: length(done), bool)
    await asyncio.sleep(0.1)
    assert len(done) == 1


async def test_work_after_a_sign_is_done_now_and_then_without_one(
    supervisor: TaskSupervisor,
) -> None:
    done: list[float] = []

    async def work() -> None:
        done.append(0)

    supervisor.after(asyncio.Event(), work, "after", pause_s=3600, at_least_every_s=0.01)
    await until(lambda: length(done), lambda count: count >= 3)
