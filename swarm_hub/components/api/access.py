"""Who may call what: a bearer token with the view's scope, and no requests by foreign web pages."""

import base64
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from swarm_hub.components.api.audit import CALLER
from swarm_hub.components.api.connections import Connection
from swarm_hub.components.api.cors import CrossOrigin
from swarm_hub.components.api.logins import Logins
from swarm_hub.endpoints import Scope
from swarm_hub.exceptions import Forbidden, StoreError, Unauthorized
from swarm_hub.helpers.tokens import Token, Tokens
from swarm_hub.util.bounds import shown
from swarm_hub.util.clock import Clock

# The hub's own user, by its unix socket.
LOCAL: Final = Token("local", "local", "admin", "", 0.0, owner="local")


class Access:
    """Checks tokens and the headers that keep foreign web pages out."""

    def __init__(
        self,
        tokens: Tokens,
        clock: Clock,
        logins: Logins,
        allowed_hosts: Sequence[str],
        cors: CrossOrigin,
    ) -> None:
        self._tokens = tokens
        self._clock = clock
        self._logins = logins
        self._cors = cors
        self.allow_hosts(allowed_hosts)

    def allow_hosts(self, allowed_hosts: Sequence[str]) -> None:
        """Answer to these names from now on, besides this device's own."""
        own = socket.gethostname().lower()
        named = (host.lower() for host in allowed_hosts)
        # `.local` names are given by mDNS, which no foreign page can make lead elsewhere.
        self._allowed_hosts = frozenset({"localhost", own, f"{own}.local", *named})

    async def admit(self, request: web.Request, scope: Scope) -> Token | None:
        """Let a request pass and return its token; raises Unauthorized or Forbidden."""
        self.check_source(request)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        secret = _secret(scheme.lower(), given.strip()) if scheme else ""
        try:
            token = await self.identify(request, secret)
        except StoreError:
            # Whoever may be anybody need not be known.
            if scope is not Scope.PUBLIC:
                raise
            return None
        if token is not None:
            request[CALLER] = token
            self._logins.succeeded(request)
        elif scheme:
            await self.failed(request)
        if scope is not Scope.PUBLIC:
            if token is None:
                problem = (
                    "this token is not known here; it may be revoked or have expired"
                    if scheme
                    else "a token is needed: Authorization: Bearer …"
                )
                raise Unauthorized(
                    "unauthorized", f"{problem}; make one with: swarm-hub token create"
                )
            check_scope(token, scope)
        return token

    def check_source(self, request: web.Request) -> None:
        """Raise Forbidden for a banned address, and for what another site's page had sent."""
        self._logins.check(request)
        if not self._is_own_name(request.host):
            # A page whose name was made to lead here (DNS rebinding) has that name as its host.
            raise Forbidden(
                "foreign_host",
                f"this hub is not called {shown(request.host)}; if it is, add the name to api: "
                "allowed_hosts",
            )
        # Such a page can't remove its Origin.
        origin = request.headers.get("Origin")
        if origin is None or origin.partition("://")[2] == request.host:
            return
        if not self._cors.allows(origin):
            raise Forbidden(
                "foreign_origin",
                f"requests from {shown(origin)} are not allowed (api: cors_allowed_origins)",
            )

    async def identify(self, request: web.Request, secret: object) -> Token | None:
        """Return the token that a request is for.

        Who comes by the hub's unix socket may as well read its tokens, and needs none.
        """
        if secret == "":
            connection = request.protocol
            return LOCAL if isinstance(connection, Connection) and connection.is_own else None
        if not isinstance(secret, str):
            return None
        return await self._tokens.find(secret, self._clock.time())

    def is_current(self, token: Token) -> bool:
        """Whether a token is neither revoked nor expired since it was found."""
        return token is LOCAL or self._tokens.current(token, self._clock.time())

    async def failed(self, request: web.Request) -> None:
        """Note that a token was refused; this takes a moment, longer each time."""
        await self._logins.failed(request)

    def _is_own_name(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower().rstrip(".")
        if name in self._allowed_hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


def _secret(scheme: str, given: str) -> str | None:
    """Return the token of a header; with Basic it is the password, for clients with a URL alone."""
    if scheme == "bearer":
        return given
    if scheme != "basic":
        return None
    try:
        return base64.b64decode(given, validate=True).decode("ascii").partition(":")[2]
    except ValueError:
        return None


def check_scope(token: Token, scope: Scope) -> None:
    """Raise Forbidden for a token that does not include `scope`."""
    if not token.allows(scope):
        raise Forbidden(
            "wrong_scope", f"token {token.name!r} may {token.scope}; this needs {scope.value}"
        )
