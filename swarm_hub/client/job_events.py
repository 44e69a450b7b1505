"""What happens to a job, as it happens, through every loss of a gateway."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

import aiohttp

from swarm_hub.client.errors import ClientError
from swarm_hub.client.gateways import Gateways
from swarm_hub.models.event import LAST_OF_JOBS

_DATA: Final = b"data: "
_END: Final = b"\n\n"
# Where there is another gateway, one that is silent for so long is asked whether it is there.
_SILENT_S: Final = 3.0


async def job_events(
    hub: Gateways, job_id: str, gather_s: float
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield a job's durable events from the first to the last, each once and in their order.

    They come in lists: what came within `gather_s` of the first is one, which may be empty where
    only passing events came.
    """
    seen = 0
    trying = hub.trying()
    while True:
        await hub.learn()
        number = hub.current
        try:
            async with hub.request(
                "GET", f"/jobs/{job_id}/events", params={"since": seen}, hold_s=_SILENT_S * 10
            ) as response:
                buffer = b""
                while (chunk := await _chunk(hub, response, job_id, gather_s)) is not None:
                    trying = hub.trying()
                    *texts, buffer = (buffer + chunk).split(_END)
                    events = [each for each in map(_event, texts) if each.get("seq", 0) > seen]
                    if events:
                        seen = events[-1]["seq"]
                    if chunk:
                        yield events
                    if events and events[-1]["event_type"] in LAST_OF_JOBS:
                        return
                    if hub.current != number:
                        break
            # A hub that stops ends it, without the job's last event.
            await asyncio.sleep(gather_s)
        except ClientError as error:
            await trying.after(error)


async def _chunk(
    hub: Gateways, response: aiohttp.ClientResponse, job_id: str, gather_s: float
) -> bytes | None:
    """Return what came, together with what followed soon; None at the end.

    Nothing is returned where a gateway has been silent, and was asked whether it is there.
    """
    content = response.content
    try:
        async with asyncio.timeout(None if len(hub) == 1 else _SILENT_S):
            found = await content.readany()
    except TimeoutError:
        await hub.ask("GET", f"/jobs/{job_id}")
        return b""
    if not found:
        return None
    until = time.monotonic() + gather_s
    try:
        async with asyncio.timeout(gather_s):
            while time.monotonic() < until and (more := await content.readany()):
                found += more
    except TimeoutError:
        pass
    return found


def _event(text: bytes) -> dict[str, Any]:
    """Read one event; a sign of life has nothing in it."""
    for line in text.splitlines():
        if line.startswith(_DATA):
            found: dict[str, Any] = json.loads(line.removeprefix(_DATA))
            return found
    return {}
