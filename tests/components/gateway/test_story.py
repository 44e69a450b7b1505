"""The log tells each job's story, one line each, and does not drown in small jobs."""

import logging
import re
import time

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway import story
from swarm_hub.models.event import CommittedEvents, EventType, NewEvent
from tests.conftest import Swarm, until, up_nodes


def told(caplog: pytest.LogCaptureFixture, job_id: str) -> list[str]:
    return [
        line.removeprefix(f"Job {job_id} ") for line in caplog.messages if f"Job {job_id} " in line
    ]


async def test_a_job_is_told_from_its_submission_to_its_end(
    swarm: Swarm, modules: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, story.__name__)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda nodes: nodes == 1)
        good = await client.run(modules["count"], range(30), shard_size=10)
        bad = await client.run(modules["trap"], range(10), shard_size=10)
    lines = told(caplog, good["job_id"])
    assert lines[0] == "of 't' was submitted: 30 items"
    assert re.fullmatch(r"runs, after [\d.e-]+ s", lines[1])
    assert re.fullmatch(r"completed after [\d.e-]+ s, 3 shards, 0 tried again", lines[-1])
    lines = told(caplog, bad["job_id"])
    # What happens to single shards is for the level `debug`.
    assert len(lines) == 3
    assert re.match(r"failed after [\d.e-]+ s, 1 shards, \d+ tried again: '", lines[-1])


async def test_who_cancelled_a_job_is_told_and_shards_at_the_level_debug_alone(
    swarm: Swarm, modules: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, story.__name__)
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(modules["count"], range(10))
        data = {"index": 0, "reason": "it went\nJob x completed"}
        returned_shard = NewEvent(EventType.SHARD_RETURNED, data, str(job_id))
        gateway.hub.bus.fire(CommittedEvents(0.0, [returned_shard]))
        await client.cancel(job_id)
    (returned,) = (each for each in caplog.records if "tries shard" in each.getMessage())
    assert returned.levelno == logging.DEBUG
    assert "\n" not in returned.getMessage()
    assert re.match(r"was cancelled after .*, by 't'$", told(caplog, str(job_id))[-1])


async def test_more_lines_than_a_log_is_for_are_counted_and_not_written(
    swarm: Swarm, modules: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, story.__name__)
    gateway = await swarm.gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(modules["count"], range(10))
    caplog.clear()
    began = time.monotonic()
    for _ in range(5000):
        runs = NewEvent(EventType.JOB_RUNNING, {}, job_id)
        gateway.hub.bus.fire(CommittedEvents(0.0, [runs]))
    most = (
        story._LINES_PER_S * (story._AT_ONCE_S + time.monotonic() - began) * 2 + 2
    )  # each line may come after one that says how many were left out
    assert 90 <= len(caplog.messages) <= most
