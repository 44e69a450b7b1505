"""The events of one job from its beginning, through every loss of the connection."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from swarm_hub.client import ClientError, SwarmClient, UnreachableError
from swarm_hub.exceptions import HubError

_T = TypeVar("_T")

_ENDS: Final = ("job_completed", "job_failed", "job_cancelled", "job_pruned")
_RETRY_S: Final = 0.5


async def persistently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Return an answer of the gateway, however long it is away."""
    while True:
        try:
            return await ask()
        except UnreachableError:
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
                if page[-1]["event_type"] in _ENDS:
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
                    if event["event_type"] in _ENDS:
                        return
        except UnreachableError:
            if not follow:
                raise
        except HubError as error:
            # Events that are no longer kept are in the story.
            if type(error) is not ClientError:
                raise
        await asyncio.sleep(_RETRY_S)
