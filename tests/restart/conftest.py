"""A swarm of real processes, which ends with the test."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalSwarm
from tests.helpers.swarms import local_swarm


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalSwarm]:
    swarm = local_swarm(tmp_path)
    yield swarm
    await asyncio.to_thread(swarm.stop)
