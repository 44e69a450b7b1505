"""The hub's services, its bus, and the order in which it stops."""

import asyncio
import time
from pathlib import Path

import pytest

from swarm_hub.core import EventBus, Hub, HubKey, HubState, Services, StopStage
from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock

NUMBER = HubKey[int]("number")
WORD = HubKey[str]("word")


@pytest.fixture
def hub(tmp_path: Path, store: Store) -> Hub:
    return Hub(tmp_path, "test", store, Clock())


def test_a_service_is_found_by_its_key() -> None:
    services = Services()
    services[NUMBER] = 5
    assert services[NUMBER] == 5
    assert services[HubKey[int]("number")] == 5
    assert services.get(WORD) is None
    assert services.get(WORD, "none") == "none"
    with pytest.raises(KeyError):
        services[WORD]


def test_a_listener_gets_events_of_its_class_in_order() -> None:
    bus, heard = EventBus(), list[object]()
    stop = bus.listen(int, heard.append)
    bus.fire(1)
    bus.fire("a text")
    bus.fire(True)
    bus.fire(2)
    stop()
    bus.fire(3)
    assert heard == [1, 2]


def test_a_listener_that_raises_does_not_keep_the_event_from_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, heard = EventBus(), list[int]()

    def fail(_event: int) -> None:
        raise RuntimeError("broken listener")

    bus.listen(int, fail)
    bus.listen(int, heard.append)
    bus.fire(1)
    assert heard == [1]
    assert "A listener of int failed" in caplog.text


def test_a_listener_may_leave_while_an_event_is_told() -> None:
    bus, heard = EventBus(), list[str]()

    def once(_event: int) -> None:
        heard.append("once")
        stop()

    stop = bus.listen(int, once)
    bus.listen(int, lambda _event: heard.append("always"))
    bus.fire(1)
    bus.fire(2)
    assert heard == ["once", "always", "always"]


async def test_committed_events_reach_the_bus_in_order(hub: Hub) -> None:
    heard: list[int] = []
    hub.bus.listen(DurableEvent, lambda event: heard.append(event.seq))
    await hub.start()
    for _ in range(10):
        hub.store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])
    await hub.store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])
    assert heard == list(range(1, 12))
    await hub.stop()


async def test_start_steps_run_in_order_and_stop_steps_by_stage_latest_first(hub: Hub) -> None:
    done: list[str] = []

    def step(name: str):  # type: ignore[no-untyped-def]
        async def run() -> None:
            done.append(name)

        return run

    hub.on_open(step("open"))
    hub.on_start(step("first"))
    hub.on_start(step("second"))
    for stage in reversed(StopStage):
        hub.on_stop(stage, "a", step(f"{stage.name} a"))
        hub.on_stop(stage, "b", step(f"{stage.name} b"))
    await hub.start()
    assert hub.state is HubState.RUNNING
    await hub.stop()
    assert hub.state is HubState.STOPPED
    stages = ("INTAKE", "DRAIN", "DISCONNECT", "CLOSE")
    expected = [f"{stage} {name}" for stage in stages for name in ("b", "a")]
    assert done == ["first", "second", "open", *expected]


async def test_a_stop_step_that_hangs_or_fails_is_left_behind(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise RuntimeError("no")

    async def last() -> None:
        done.append("last")

    hub.on_stop(StopStage.INTAKE, "the hanging one", hang, timeout_s=0.05)
    hub.on_stop(StopStage.DRAIN, "the failing one", fail)
    hub.on_stop(StopStage.CLOSE, "last", last)
    await hub.start()
    started = time.monotonic()
    await hub.stop()
    assert done == ["last"]
    assert time.monotonic() - started < 2
    assert "Stopping the hanging one took more than" in caplog.text
    assert "Stopping the failing one failed" in caplog.text


async def test_stopping_twice_is_stopping_once(hub: Hub) -> None:
    stops: list[int] = []

    async def count() -> None:
        stops.append(1)

    hub.on_stop(StopStage.INTAKE, "count", count)
    await hub.start()
    await asyncio.gather(hub.stop(), hub.stop())
    await hub.stop()
    assert stops == [1]


async def test_whoever_asks_to_stop_with_the_highest_code_decides(hub: Hub) -> None:
    hub.ask_to_stop(1)
    hub.ask_to_stop()
    await hub.wait_asked_to_stop()
    assert hub.exit_code == 1
    await hub.stop()


async def test_tasks_may_write_until_their_stage_is_over(hub: Hub) -> None:
    await hub.start()

    async def write_at_the_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await hub.store.commit([], [NewEvent(EventType.COMPONENT_FAILED, {})])

    hub.tasks.spawn(write_at_the_end(), "writer")
    await asyncio.sleep(0)
    await hub.stop()
    assert hub.store.last_seq == 1
