"""Web pages of other sites that may call this hub, and how browsers are told so (CORS).

Answers allow no credentials: the API knows no cookies, a page brings the token itself.
"""

import re
from collections.abc import Collection
from typing import Any, Final

import voluptuous as vol
from aiohttp import web

from swarm_hub.util.bounds import shown
from swarm_hub.util.described import described

_ORIGIN: Final = re.compile(
    r"https?://([A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(:\d{1,5})?\Z"
)
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
# What our own calls take and give beyond what every page may send and see.
_SENT: Final = (
    "Authorization, Content-Type, Content-Range, Idempotency-Key, If-Match, If-None-Match, "
    "Last-Event-ID, Range"
)
_SEEN: Final = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Link, Location, Retry-After, "
    "Swarm-Items, Swarm-Items-Done, Upload-Complete, Upload-Offset"
)
_KNOWN_FOR_S: Final = 600


@described({"type": "string", "examples": ["https://dashboard.example.org"]})
def origin(value: Any) -> str:
    """Validate the origin of a web page, such as https://dashboard.example.org."""
    if value == "*":
        # Any page could otherwise have its visitors' addresses banned, with wrong tokens.
        raise vol.Invalid("name each origin, such as https://dashboard.example.org; * is refused")
    if not isinstance(value, str) or not _ORIGIN.match(value):
        raise vol.Invalid(
            f"expected an origin such as https://dashboard.example.org:8443, without a path, got "
            f"{shown(value)}"
        )
    scheme, _, host = value.lower().partition("://")
    # Browsers leave out the port that the scheme has anyway.
    return f"{scheme}://{host.removesuffix(':443' if scheme == 'https' else ':80')}"


class CrossOrigin:
    """The origins besides the hub's own."""

    def __init__(self, origins: Collection[str]) -> None:
        self.allow_only(origins)

    def allow_only(self, origins: Collection[str]) -> None:
        """Let pages of these origins call from now on."""
        self._origins = frozenset(origins)

    def allows(self, origin: str) -> bool:
        """Whether pages of that origin may call this hub."""
        return origin in self._origins

    def is_preflight(self, request: web.Request) -> bool:
        """Whether a browser asks, without the page's token, what the page may send."""
        return (
            request.method == "OPTIONS"
            and "Origin" in request.headers
            and "Access-Control-Request-Method" in request.headers
        )

    def answer(self, request: web.Request) -> web.Response:
        """Answer a preflight; `allow` adds the rest."""
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _SENT,
            "Access-Control-Max-Age": str(_KNOWN_FOR_S),
        }
        if "Access-Control-Request-Private-Network" in request.headers:
            headers["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=headers)

    def allow(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page that sent a request read the answer, if it may."""
        if not self._origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and self.allows(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _SEEN
