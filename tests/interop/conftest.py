"""Fixtures: peers in JavaScript, and hubs as processes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalSwarm
from tests.helpers.swarms import local_swarm
from tests.interop.javascript import JsPeer, StartJs


@pytest.fixture
async def start_js() -> AsyncIterator[StartJs]:
    """Return a way to start peers in JavaScript; all are ended afterwards."""
    started: list[JsPeer] = []

    async def start(**options: object) -> JsPeer:
        peer = await JsPeer.start(**options)
        started.append(peer)
        return peer

    yield start
    for peer in started:
        await peer.stop()


@pytest.fixture
async def local(tmp_path: Path, warm_hubs: None) -> AsyncIterator[LocalSwarm]:
    """Return an empty swarm of processes."""
    swarm = local_swarm(tmp_path)
    yield swarm
    await asyncio.to_thread(swarm.stop)
