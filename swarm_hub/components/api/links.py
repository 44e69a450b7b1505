"""Downloads by a browser: a link that gives once, without a token, what its maker may get.

A browser that saves a file sends no `Authorization`, and a token in an address would be kept in
histories and logs.
"""

import dataclasses
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar
from urllib.parse import quote

import voluptuous as vol
from yarl import URL

from swarm_hub.components.api.access import Access, check_scope
from swarm_hub.components.api.adapter import read_query
from swarm_hub.const import API_ROOT
from swarm_hub.core import Hub
from swarm_hub.endpoints import (
    ANY_TYPE,
    Answer,
    Blob,
    Caller,
    Json,
    Part,
    Request,
    Scope,
    Success,
    View,
    text,
)
from swarm_hub.exceptions import Conflict, Gone, InvalidInput, LimitReached, NotFound
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.bounds import is_text
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_json import dump_json

_T = TypeVar("_T")

LINK_LIVES_S: Final = 60.0
LINKS_MAX: Final = 1000
LINKS_PER_CALLER: Final = 100
_SECRET_BYTES: Final = 20
_PATH_MAX_CHARS: Final = 4096
_VALUE_MAX_CHARS: Final = 200
_PARAMETER: Final = re.compile(r"\{([a-z0-9_]+)\}")


class NewLink(TypedDict):
    """A link that works once; `url` is a path of this hub."""

    url: str
    expires_s: float


_BODY: Final = vol.Schema(
    {
        vol.Required("path"): text(_PATH_MAX_CHARS, min_length=1),
        vol.Optional("filename", default=""): text(_VALUE_MAX_CHARS),
    }
)


@dataclass(frozen=True, slots=True)
class _Link:
    view: View
    path: Mapping[str, str]
    query: Mapping[str, Any]
    filename: str
    caller: Token
    ends_at: float


class Links:
    """Keeps links, by the hashes of their secrets, until they are used or their time is over."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access
        self._links: dict[str, _Link] = {}

    def views(self) -> tuple[View, ...]:
        """Return the views."""
        return (
            View(
                "POST", "/links", self.create, Scope.READ, NewLink, body=_BODY,
                successes=(Success.CREATED,), errors=(InvalidInput, LimitReached, NotFound),
            ),
            View(
                "GET", "/links/{secret}", self.follow, Scope.PUBLIC, bytes,
                errors=(NotFound, Gone, Conflict), media_types=(ANY_TYPE,),
                answer_headers={"Content-Disposition": "That this is to be saved."},
            ),
        )  # fmt: skip

    async def create(self, request: Request) -> Json:
        """Make a link that gives once, within a minute, what a GET of `path` gives the caller."""
        caller, now = request.caller, self._hub.clock.monotonic()
        assert isinstance(caller, Token), "the scope asks for a token"
        self._links = {sha: link for sha, link in self._links.items() if link.ends_at > now}
        held = Counter(link.caller.id for link in self._links.values())
        if len(self._links) >= LINKS_MAX or held[caller.id] >= LINKS_PER_CALLER:
            raise LimitReached(
                "too_many_links", "too many links were made and not used; wait until they end"
            )
        view, path, query = self._found(request.body["path"])
        assert view.scope is not None, "the registry takes no view without a scope"
        if view.scope is not Scope.PUBLIC:
            check_scope(caller, view.scope)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self._links[sha256_hex(secret.encode())] = _Link(
            view, path, query, request.body["filename"], caller, now + LINK_LIVES_S
        )
        shape: NewLink = {"url": request.link(f"/links/{secret}"), "expires_s": LINK_LIVES_S}
        return Json(shape, Success.CREATED, told={"Cache-Control": "no-store"})

    async def follow(self, request: Request) -> Answer:
        """Return what a link leads to, to be saved; it works once."""
        link = self._links.pop(sha256_hex(request.path["secret"].encode()), None)
        if (
            link is None
            or self._hub.clock.monotonic() >= link.ends_at
            or not self._access.is_current(link.caller)
        ):
            raise NotFound("no_link", "this link was used already, has ended, or never was")
        answer = await link.view.handler(_Linked(request, link))
        told = {
            "Content-Disposition": "attachment" + _named(link.filename),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        match answer:
            case Blob():
                return dataclasses.replace(answer, etag=None, told={**answer.told, **told})
            case Json():
                return Blob(dump_json(answer.content), "application/json", told=told)
        raise Conflict("no_download", f"{link.view} can't be downloaded by a link")

    def _found(self, asked: str) -> tuple[View, Mapping[str, str], Mapping[str, Any]]:
        """Return the view that a path leads to; raises NotFound, InvalidInput."""
        try:
            url = URL(asked)
        except ValueError:
            url = URL("/")
        if not url.absolute and url.path.startswith(f"{API_ROOT}/"):
            path = url.raw_path.removeprefix(API_ROOT)
            for view in self._hub.endpoints.views:
                if view.method != "GET" or view.outside or view.events or view.lines:
                    continue
                if (values := _values(view.path, path)) is not None:
                    return view, values, read_query(url.query, vol.Schema(dict(view.query)))
        raise NotFound(
            "unknown_path",
            f"path: expected what a GET of this API takes, such as {API_ROOT}/jobs/ID/result",
        )


class _Linked:
    """A request as the view behind a link sees it: from whom the link is, without a body."""

    def __init__(self, request: Request, link: _Link) -> None:
        self._request = request
        self.path = link.path
        self.query = link.query
        self.caller: Caller | None = link.caller
        self.body: Any = None
        self.media_type = ""
        self.max_bytes = 0
        self.content_length: int | None = None

    def header(self, _name: str) -> str | None:
        return None

    def link(self, path: str) -> str:
        return self._request.link(path)

    def has_version(self, _etag: str) -> bool:
        return False

    async def read(self, max_bytes: int | None = None) -> bytes:
        return b""[:max_bytes]

    async def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        yield await self.read(max_bytes)

    def parts(self) -> AsyncIterator[Part]:
        return self._request.parts()

    def admitted(self, caller: Caller) -> None:
        self._request.admitted(caller)

    async def enter(self, context: AbstractAsyncContextManager[_T]) -> _T:
        return await self._request.enter(context)


def _values(pattern: str, path: str) -> Mapping[str, str] | None:
    """Return the values of a view's path in one that was asked for, None if it is no such."""
    names = _PARAMETER.findall(pattern)
    escaped = _PARAMETER.sub("\0", pattern)
    match = re.fullmatch(re.escape(escaped).replace(re.escape("\0"), "([^/]+)"), path)
    if match is None:
        return None
    values = dict(
        zip(names, (URL(f"/{each}", encoded=True).path[1:] for each in match.groups()), strict=True)
    )
    return values if all(is_text(each, _VALUE_MAX_CHARS) for each in values.values()) else None


def _named(filename: str) -> str:
    return f"; filename*=UTF-8''{quote(filename, safe='')}" if filename else ""
