"""Who may call what: a bearer token with the view's scope, and no requests by foreign web pages."""

from aiohttp import web

from swarm_hub.endpoints import Scope
from swarm_hub.exceptions import Forbidden, Unauthorized
from swarm_hub.helpers.tokens import Token, TokenFile


class Access:
    """Checks tokens and the headers that keep foreign web pages out."""

    def __init__(self, tokens: TokenFile) -> None:
        self._tokens = tokens

    def admit(self, request: web.Request, scope: Scope) -> Token | None:
        """Let a request pass and return its token; raises Unauthorized or Forbidden."""
        self.check_origin(request)
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        token = self._tokens.find(secret.strip()) if scheme.lower() == "bearer" else None
        if scope is not Scope.PUBLIC:
            if token is None:
                raise Unauthorized(
                    "unauthorized",
                    "a token is needed: Authorization: Bearer …; make one with: "
                    "swarm-hub token create",
                )
            check_scope(token, scope)
        return token

    def check_origin(self, request: web.Request) -> None:
        """Raise Forbidden for a request that a page of another site made a browser send."""
        # Such a page can't remove its Origin.
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise Forbidden("foreign_origin", f"requests from {origin} are not allowed")

    def find(self, secret: str) -> Token | None:
        """Return the token that has this secret."""
        return self._tokens.find(secret)


def check_scope(token: Token, scope: Scope) -> None:
    """Raise Forbidden for a token that does not include `scope`."""
    if not token.allows(scope):
        raise Forbidden(
            "wrong_scope", f"token {token.name!r} may {token.scope}; this needs {scope.value}"
        )
