"""The way in for people: a one-time code, made by who has a token, becomes a token of its own.

A code travels in the fragment of an address, which browsers send to nobody. It works once, for a
short time, and in this process alone; only its hash is kept.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypedDict

import voluptuous as vol

from swarm_hub.components.api.access import Access
from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.endpoints import Caller, Json, Request, Scope, Success, View, text
from swarm_hub.exceptions import Conflict, Unauthorized
from swarm_hub.helpers.tokens import NAME_MAX_CHARS, SCOPES, Token, Tokens
from swarm_hub.util.clock import isoformat
from swarm_hub.util.hashing import sha256_hex

_LOGGER = logging.getLogger(__name__)

CODE_LIVES_S: Final = 600.0
# The oldest goes for one more.
CODES_MAX: Final = 64
_CODE_BYTES: Final = 20
_CODE_MAX_CHARS: Final = 100
# A tab that stays open for longer asks again.
SESSION_LIVES_S: Final = 30 * 86_400.0


class CodeShape(TypedDict):
    """A code for a session, and for how long it works; `urls` are where browsers find this hub.

    Those of this device alone come first.
    """

    code: str
    expires_s: float
    urls: list[str]


class NewSession(TypedDict):
    """A session; its token is told only this once."""

    token: str
    name: str
    scope: str
    owner: str
    expires_at: str


class SessionHub(TypedDict):
    """The hub that a session is with."""

    name: str
    version: str
    roles: list[str]


class SessionShape(TypedDict):
    """Who the caller is; `revocable` says that its token was made for a session."""

    name: str
    scope: str
    owner: str
    hub: SessionHub
    revocable: bool


class EndedSession(TypedDict):
    """A session that has ended."""

    name: str


@dataclass(frozen=True, slots=True)
class _Code:
    maker: Token
    scope: str
    name: str
    ends_at: float


_SCOPE: Final = vol.In(SCOPES, msg=f"expected one of {', '.join(SCOPES)}")
_CODE_BODY: Final = vol.Schema(
    {
        vol.Required("scope"): _SCOPE,
        vol.Optional("name", default=""): text(NAME_MAX_CHARS),
    }
)
_SESSION_BODY: Final = vol.Schema({vol.Required("code"): text(_CODE_MAX_CHARS, min_length=1)})


class Sessions:
    """Makes codes, turns each into a token once, and revokes such tokens."""

    def __init__(
        self, hub: Hub, tokens: Tokens, access: Access, urls: Callable[[], list[str]]
    ) -> None:
        self._hub = hub
        self._tokens = tokens
        self._access = access
        self._urls = urls
        self._codes: OrderedDict[str, _Code] = OrderedDict()

    def views(self) -> tuple[View, ...]:
        """Return the views."""
        return (
            View(
                "POST", "/sessions", self.begin, Scope.PUBLIC, NewSession, body=_SESSION_BODY,
                successes=(Success.CREATED,), errors=(Unauthorized,),
            ),
            View(
                "POST", "/sessions/codes", self.code, Scope.ADMIN, CodeShape, body=_CODE_BODY,
                successes=(Success.CREATED,),
            ),
            View("GET", "/sessions/current", self.current, Scope.READ, SessionShape),
            View(
                "DELETE", "/sessions/current", self.end, Scope.READ, EndedSession,
                errors=(Conflict,),
            ),
        )  # fmt: skip

    async def code(self, request: Request) -> Json:
        """Make a code with which a browser gets a token of the caller's owner, once."""
        code = secrets.token_urlsafe(_CODE_BYTES)
        now = self._hub.clock.monotonic()
        opened = isoformat(self._hub.clock.time())[:16].replace("T", " ")
        self._codes[sha256_hex(code.encode())] = _Code(
            _token(request.caller), request.body["scope"],
            request.body["name"] or f"page, opened {opened}", now + CODE_LIVES_S,
        )  # fmt: skip
        while len(self._codes) > CODES_MAX:
            self._codes.popitem(last=False)
        shape: CodeShape = {"code": code, "expires_s": CODE_LIVES_S, "urls": self._urls()}
        return Json(shape, Success.CREATED)

    async def begin(self, request: Request) -> Json:
        """Turn a code into a token; it works once, and not after its maker's token was revoked."""
        found = self._codes.pop(sha256_hex(request.body["code"].encode()), None)
        if (
            found is None
            or self._hub.clock.monotonic() >= found.ends_at
            or not self._access.is_current(found.maker)
        ):
            raise Unauthorized(
                "unknown_code",
                "this code was used already, has expired, or was never made here; make one with: "
                "swarm-hub open",
            )
        now = self._hub.clock.time()
        token, secret = await self._tokens.create(
            found.name, found.scope, now, owner=found.maker.account,
            expires_at=now + SESSION_LIVES_S, session=True,
        )  # fmt: skip
        request.admitted(token)
        _LOGGER.info("Session %s (%s) begins for %s", token.id, token.scope, token.account)
        shape: NewSession = {
            "token": secret, "name": token.name, "scope": token.scope, "owner": token.account,
            "expires_at": isoformat(now + SESSION_LIVES_S),
        }  # fmt: skip
        return Json(shape, Success.CREATED, told={"Cache-Control": "no-store"})

    async def current(self, request: Request) -> Json:
        """Return who the caller is, and with which hub it speaks."""
        token = _token(request.caller)
        shape: SessionShape = {
            "name": token.name, "scope": token.scope, "owner": token.account,
            "hub": {
                "name": self._hub.name, "version": __version__, "roles": sorted(self._hub.roles),
            },
            "revocable": token.session,
        }  # fmt: skip
        return Json(shape)

    async def end(self, request: Request) -> Json:
        """Revoke the caller's token, if it was made for a session."""
        token = _token(request.caller)
        if not token.session:
            raise Conflict(
                "no_session",
                f"token {token.name!r} was not made for a session, and others may use it; revoke "
                "it with: swarm-hub token revoke",
            )
        await self._tokens.revoke(token.id)
        shape: EndedSession = {"name": token.name}
        return Json(shape)


def _token(caller: Caller | None) -> Token:
    assert isinstance(caller, Token), "the scope asks for a token"
    return caller
