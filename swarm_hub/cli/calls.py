"""Calling the hub that a command's options select."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from swarm_hub.cli.options import Target
from swarm_hub.client import ApiError, AsyncSwarm

_T = TypeVar("_T")
_UNAUTHORIZED: Final = 401


def call(hub: Target, work: Callable[[AsyncSwarm], Awaitable[_T]]) -> _T:
    """Run `work` with a client of a hub."""

    async def run() -> _T:
        # Commands say themselves that a gateway is away, and wait for it.
        async with AsyncSwarm(hub.url, hub.token or "", patience_s=0) as swarm:
            return await work(swarm)

    try:
        return asyncio.run(run())
    except ApiError as error:
        if error.status != _UNAUTHORIZED or hub.token is not None:
            raise
        raise ApiError(
            error.status, error.code,
            f"{hub.url} wants a token, and none is found here for it: give it with --token or "
            "SWARM_HUB_TOKEN; it is made on that hub: swarm-hub token create NAME",
        ) from None  # fmt: skip
