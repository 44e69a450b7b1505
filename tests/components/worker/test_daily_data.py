"""A day's data: what the mesh moves is counted by the device's own days, over restarts."""

import asyncio
import json
import time
from typing import Any

import pytest

from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.components.worker import power_policy
from swarm_hub.const import DAILY_DATA_FILE, STORAGE_DIR
from swarm_hub.control import client
from tests.conftest import RunningHub, Swarm, until

WORKER = "worker: {charging_only: false, min_battery: 0, daily_data: 500MB}\n"
USED_UP = "it has used its 500 MB of today"


async def worker_of(hub: RunningHub) -> dict[str, Any]:
    found = await asyncio.to_thread(client.ask, hub.folder, "status")
    return dict(found["worker"])


async def refuses(hub: RunningHub) -> Any:
    return (await worker_of(hub))["refuses"]


def kept(worker: RunningHub) -> dict[str, Any]:
    file = worker.folder / STORAGE_DIR / DAILY_DATA_FILE
    return dict(json.loads(file.read_text())) if file.exists() else {}


def noon(worker: RunningHub) -> None:
    """Have it be noon of a day, so that no midnight comes in between."""
    worker.clock.stop()
    now = time.localtime(worker.clock.time())
    worker.clock.offset_s += (12 - now.tm_hour) * 3600


async def test_a_device_that_has_used_its_data_waits_for_the_next_day(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    phone = await swarm.worker("phone", extra=WORKER)
    noon(phone)

    async def written() -> Any:
        return kept(phone).get("used_bytes", 0)

    TRAFFIC.direct_bytes += 499_000_000
    await until(written, lambda used: used >= 499_000_000)
    await until(lambda: refuses(phone), lambda told: told is None)
    status = await worker_of(phone)
    assert 499_000_000 <= status["data_today"]["used_bytes"] < 500_000_000
    assert status["data_today"]["limit_bytes"] == 500_000_000
    TRAFFIC.direct_bytes += 1_000_000
    await until(lambda: refuses(phone), lambda told: told == USED_UP)
    # A restart does not give it more, a night does.
    await swarm.stop(phone)
    phone = await swarm.worker("phone", extra=WORKER)
    noon(phone)
    await until(lambda: refuses(phone), lambda told: told == USED_UP)
    phone.clock.offset_s += 86_400
    await until(lambda: refuses(phone), lambda told: told is None)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"day": 5, "used_bytes": 5}', '{"day": "x", "used_bytes": -1}', "{}x"]
)
async def test_a_count_that_can_not_be_read_begins_anew(
    swarm: Swarm, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    phone = await swarm.worker("phone", extra=WORKER)
    await swarm.stop(phone)
    (phone.folder / STORAGE_DIR / DAILY_DATA_FILE).write_text(text)
    phone = await swarm.worker("phone", extra=WORKER)
    assert "today's data is counted from 0" in caplog.text
    await swarm.stop(phone)
    assert kept(phone)["used_bytes"] < 500_000_000


async def test_without_a_limit_nothing_is_counted(swarm: Swarm) -> None:
    phone = await swarm.worker("phone")
    assert (await worker_of(phone))["data_today"] is None
    await swarm.stop(phone)
    assert kept(phone) == {}
