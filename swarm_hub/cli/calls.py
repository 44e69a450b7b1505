"""Calling the hub that a command's options select."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from swarm_hub.cli.options import Target
from swarm_hub.client import SwarmClient

_T = TypeVar("_T")


def call(hub: Target, work: Callable[[SwarmClient], Awaitable[_T]]) -> _T:
    """Run `work` with a client of a hub."""

    async def run() -> _T:
        async with SwarmClient(hub.url, hub.token) as swarm:
            return await work(swarm)

    return asyncio.run(run())
