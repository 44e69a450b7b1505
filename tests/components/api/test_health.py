"""What whoever restarts or routes may ask without a token, and what only a token is told."""

import asyncio

import pytest

from swarm_hub.core import HubState
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call


@pytest.fixture
async def hub(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


async def test_a_hub_that_answers_lives_and_one_whose_parts_make_their_rounds_is_ready(
    hub: RunningHub,
) -> None:
    assert await call(hub, "GET", "/health/live", token=None) == (200, {"ok": True})
    ready = {"ok": True, "waits_for": []}
    assert await call(hub, "GET", "/health/ready", token=None) == (200, ready)
    assert await call(hub, "GET", "/health/ready") == (200, {**ready, "problems": []})


async def test_one_with_a_part_that_is_stuck_lives_and_says_which(hub: RunningHub) -> None:
    released = asyncio.Event()

    async def sign() -> None:
        await released.wait()

    hub.hub.watchdog.watch("the oven", sign, 0.0)

    async def ready() -> tuple[int, dict[str, object]]:
        return await call(hub, "GET", "/health/ready", token=None)

    _, told = await until(ready, lambda answer: answer[0] == 503)
    assert told == {"ok": False, "waits_for": ["the oven"]}
    _, told = await call(hub, "GET", "/health/ready")
    (problem,) = told["problems"]
    assert problem.startswith("the oven has given no sign for ")
    assert await call(hub, "GET", "/health/live", token=None) == (200, {"ok": True})
    released.set()
    await until(ready, lambda answer: answer[0] == 200)


async def test_one_that_stops_is_not_ready(hub: RunningHub) -> None:
    hub.hub.state = HubState.STOPPING
    told = {"ok": False, "waits_for": ["the hub is stopping"]}
    assert await call(hub, "GET", "/health/ready", token=None) == (503, told)
    # Or it would not be stopped at the end of the test.
    hub.hub.state = HubState.RUNNING
