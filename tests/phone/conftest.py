"""A phone and its gateway, or a clear word why there is none."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import SwarmClient
from tests.conftest import until
from tests.helpers.swarms import local_swarm
from tests.phone.memory_group import memory_group
from tests.phone.phone import MEMORY_BYTES, Phone, answers, missing


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    """Return a phone without a hub; where there can be none, CI fails and others skip."""
    if (why := missing()) is not None:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with memory_group(MEMORY_BYTES) as group:
        made = Phone(tmp_path / "phone", group)
        try:
            yield made
        finally:
            await asyncio.to_thread(made.stop)


@pytest.fixture
async def gateway(tmp_path: Path, warm_hubs: None) -> AsyncIterator[LocalHub]:
    """Return a gateway, outside of the jail; silence is noticed after 3 s."""
    swarm = local_swarm(tmp_path)
    started = swarm.start_gateway(gateway={"admission": "token"}, mesh={"heartbeat": "1"})
    yield started
    await asyncio.to_thread(swarm.stop)


@pytest.fixture
async def client(gateway: LocalHub) -> AsyncIterator[SwarmClient]:
    """Return a client of the gateway."""
    async with SwarmClient(gateway.url, gateway.token) as entered:
        await until(lambda: answers(entered), bool)
        yield entered
