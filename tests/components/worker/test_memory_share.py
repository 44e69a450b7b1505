"""The shards of a device together stay within the share of its memory that its owner gives."""

import pytest

from swarm_hub.components import worker
from swarm_hub.components.sandbox import SANDBOX, Limits, SandboxService
from swarm_hub.components.worker.memory_share import within_share
from tests.conftest import Swarm, until
from tests.helpers.rest import call

MIB = 1024 * 1024


class NoSandbox:
    """Takes the place of a sandbox that nobody asks for anything."""


def service(memory_mib: int) -> SandboxService:
    return SandboxService(NoSandbox(), Limits(memory_mib * MIB, 60.0, MIB), MIB)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory_mib", "slots", "percent", "total_mib", "expected"),
    [
        (128, 4, 50, 4096, (4, 128)),
        (128, 4, 50, 1024, (4, 128)),
        (128, 4, 50, 1023, (3, 128)),
        (128, 4, 50, 256, (1, 128)),
        (128, 4, 50, 200, (1, 100)),
        (128, 4, 1, 1000, (1, 10)),
        (128, 4, 100, 512, (4, 128)),
        (128, 4, 50, None, (4, 128)),
    ],
)
def test_slots_and_memory_within_a_share(
    memory_mib: int, slots: int, percent: float, total_mib: int | None, expected: tuple[int, int]
) -> None:
    total = None if total_mib is None else total_mib * MIB
    bounded, found = within_share(service(memory_mib), slots, percent, total)
    assert (found, bounded.limits.memory_bytes // MIB) == expected


async def test_a_device_with_little_memory_offers_what_fits(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(worker, "total_memory_bytes", lambda: 512 * MIB)
    gateway = await swarm.gateway()
    phone = await swarm.worker("phone", extra="worker: {slots: 3}\n")

    async def slots() -> object:
        _, body = await call(gateway, "GET", "/nodes")
        return body["nodes"][0]["slots"] if body["nodes"] else None

    assert await until(slots, lambda found: found is not None) == 2
    assert "Running 2 shards at once instead of 3" in caplog.text
    assert phone.hub.services[SANDBOX].limits.memory_bytes == 128 * MIB
