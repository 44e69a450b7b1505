"""The events of one job from its beginning, through every loss of the connection."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from swarm_hub.client import ApiError, ClientError, SwarmClient, UnreachableError
from swarm_hub.models.event import LAST_OF_JOBS

_T = TypeVar("_T")

# What a proxy or a hub that starts says.
_AWAY: Final = (502, 503, 504)
_RETRY_S: Final = 0.5


def is_away(error: Exception) -> bool:
    """Whether the gateway does not answer for now, be it that a proxy or a starting hub says so."""
    return isinstance(error, UnreachableError) or (
        isinstance(error, ApiError) and error.status in _AWAY
    )


async def persistently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return an answer of the gateway, however long it is away."""
    while True:
        try:
            return await ask()
        except ClientError as error:
            if not is_away(error):
                raise
            await asyncio.sleep(_RETRY_S)


async def job_events(
    swarm: SwarmClient, job_id: str, *, follow: bool = True
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield a job's durable events in order, each once; with `follow` until the job has ended.

    A gateway that goes away is waited for, and asked for what came since.
    """
    seen = 0
    while True:
        try:
            # What was committed before this the story has, whatever comes after it the socket.
            newest = (await swarm.health())["last_seq"]
            while page := await swarm.story(job_id, seen):
                for event in page:
                    seen = event["seq"]
                    yield event
                if page[-1]["event_type"] in LAST_OF_JOBS:
                    return
            if not follow:
                return
            async with aclosing(swarm.events(max(seen, newest), job_id=job_id)) as live:
                async for event in live:
                    # A hub of an earlier version sends those of every job, and passing ones.
                    if event["data"].get("job_id") != job_id or event.get("seq", 0) <= seen:
                        continue
                    seen = event["seq"]
                    yield event
                    if event["event_type"] in LAST_OF_JOBS:
                        return
        except ClientError as error:
            # Events that are no longer kept are in the story.
            were_lost = type(error) is ClientError
            if not follow or not (were_lost or is_away(error)):
                raise
        await asyncio.sleep(_RETRY_S)
