"""Events as `text/event-stream`, which curl shows and a browser's EventSource reads."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from swarm_hub.components.api.errors import ClientGone
from swarm_hub.endpoints import Events
from swarm_hub.exceptions import RequestError
from swarm_hub.util.strict_json import dump_json

_LOGGER = logging.getLogger(__name__)

# A client that takes nothing for this long has gone, or will not read it any more.
_TAKEN_WITHIN_S: Final = 30.0
# How often a client's token is looked at while it is sent something.
_ADMITTED_FOR_S: Final = 1.0
_SIGN: Final = b":\n\n"
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # Proxies such as nginx keep what they are sent otherwise.
    "X-Accel-Buffering": "no",
}


async def send(
    raw: web.Request, events: Events, is_admitted: Callable[[], bool]
) -> web.StreamResponse:
    """Send events as they come; 204 if there is none, upon which EventSource does not come back."""
    response = web.StreamResponse(headers=_HEADERS)
    loop = asyncio.get_running_loop()
    look_at = 0.0
    try:
        if raw.method == "HEAD":
            await response.prepare(raw)
            return response
        async with contextlib.aclosing(events.contents) as contents:
            async for content in contents:
                if loop.time() >= look_at:
                    if not is_admitted():
                        raise ClientGone("its token was revoked or has expired")
                    look_at = loop.time() + _ADMITTED_FOR_S
                async with asyncio.timeout(_TAKEN_WITHIN_S):
                    if not response.prepared:
                        await response.prepare(raw)
                    await response.write(_SIGN if content is None else _written(content))
        if not response.prepared:
            return web.Response(status=204)
        await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        _abort(raw)
        raise ClientGone(str(error) or "it did not read") from error
    except ClientGone:
        _abort(raw)
        raise
    except RequestError as error:
        if not response.prepared:
            raise
        _LOGGER.debug("%s %s ends: %s", raw.method, raw.path, error)
        _abort(raw)
        raise ClientGone("its answer was not ended") from error
    return response


def _written(content: object) -> bytes:
    assert isinstance(content, dict)
    seq = content.get("seq")
    number = b"" if seq is None else b"id: %d\n" % seq
    return b"%sevent: %s\ndata: %s\n\n" % (
        number, content["event_type"].encode(), dump_json(content),
    )  # fmt: skip


def _abort(raw: web.Request) -> None:
    # There is no other way to say that events are missing.
    if raw.transport is not None:
        raw.transport.abort()
