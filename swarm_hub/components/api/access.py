"""Who may call what: a bearer token with the route's scope, and no requests by way of a browser."""

from typing import Final

from aiohttp import web

from swarm_hub.exceptions import RequestError
from swarm_hub.helpers.tokens import Token, TokenFile

TOKEN: Final = web.RequestKey("token", Token)

# The scope a route needs, by method; a route that needs another says so in its handler.
_SCOPE_BY_METHOD: Final = {"GET": "read", "HEAD": "read", "POST": "submit", "DELETE": "submit"}
_ADMIN_PREFIXES: Final = ("/api/v1/nodes", "/api/v1/networks", "/api/v1/invites")
# The websocket authenticates with its first message (facts: Home Assistant's protocol).
_OPEN_PATHS: Final = ("/api/websocket",)


class Access:
    """Checks tokens and the headers that keep foreign web pages out."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    def check(self, request: web.Request) -> None:
        """Let a request pass; raises RequestError 401 or 403."""
        # A page of another site can make a browser call us; it can't remove its Origin.
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise RequestError(403, "foreign_origin", f"requests from {origin} are not allowed")
        if request.path in _OPEN_PATHS:
            return
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        token = self._tokens.find(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise RequestError(
                401,
                "unauthorized",
                "a token is needed: Authorization: Bearer …; make one with: swarm-hub token create",
            )
        needed = _scope(request)
        if not token.allows(needed):
            raise RequestError(
                403, "wrong_scope", f"token {token.name!r} may {token.scope}; this needs {needed}"
            )
        request[TOKEN] = token

    def find(self, secret: str) -> Token | None:
        """Return the token with that secret."""
        return self._tokens.find(secret)


def _scope(request: web.Request) -> str:
    if request.method != "GET" and request.path.startswith(_ADMIN_PREFIXES):
        return "admin"
    return _SCOPE_BY_METHOD.get(request.method, "admin")
