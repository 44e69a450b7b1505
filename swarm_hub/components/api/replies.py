"""JSON replies, and errors in their one shape."""

import json
from typing import Any

from aiohttp import web

from swarm_hub.exceptions import RequestError
from swarm_hub.models.event import DurableEvent
from swarm_hub.util.clock import isoformat


def json_response(content: Any, status: int = 200) -> web.Response:
    """Return `content` as compact JSON."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return web.Response(text=text, status=status, content_type="application/json")


def error_response(error: RequestError) -> web.Response:
    """Return an error as `{message, code, errors}`."""
    response = json_response(
        {"message": error.message, "code": error.code, "errors": error.errors}, error.status
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def event_json(event: DurableEvent) -> dict[str, Any]:
    """Return an event as clients see it."""
    return {
        "seq": event.seq,
        "event_type": event.event_type.value,
        "time_fired": isoformat(event.time_fired),
        "data": event.data,
    }


def whole_number(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """Return a query parameter; raises RequestError 400 when it is out of its bounds."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
        raise RequestError(
            400, "invalid_query", f"{name}: expected a whole number from {low} to {high}"
        )
    return int(text)
