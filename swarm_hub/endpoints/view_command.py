"""Views offered as commands, too: the same handler, the same checks, the same answer."""

import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.const import API_ROOT
from swarm_hub.endpoints.command import Command, CommandCall
from swarm_hub.endpoints.fields import text
from swarm_hub.endpoints.request import Caller, Part
from swarm_hub.endpoints.view import Json, RawBody, View
from swarm_hub.exceptions import MalformedRequest, TooLarge
from swarm_hub.util.strict_json import dump_json

_T = TypeVar("_T")

_IN_PATH: Final = re.compile(r"\{([^}]*)\}")
_NAME_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command as the handler of a view sees it; see `endpoints.Request`."""

    caller: Caller
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    media_type: str = "application/json"

    @property
    def max_bytes(self) -> int:
        """How large a request may be: as large as it is, its messages are bounded."""
        return len(self.raw)

    def header(self, name: str) -> str | None:
        """Return what a parameter says in a header's place."""
        return self.headers.get(name)

    def link(self, path: str) -> str:
        """Return the path under which a client finds a view of this API."""
        return API_ROOT + path

    def has_version(self, etag: str) -> bool:
        """Whether the caller has this version already: a command can't say so."""
        return etag in self.headers

    async def read(self, max_bytes: int | None = None) -> bytes:
        """Return the body; raises TooLarge beyond `max_bytes`."""
        if max_bytes is not None and len(self.raw) > max_bytes:
            raise TooLarge("request_too_large", f"a body of at most {max_bytes} bytes was expected")
        return self.raw

    @property
    def content_length(self) -> int | None:
        """How long the body is."""
        return len(self.raw)

    async def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        """Return the body in one piece; raises TooLarge beyond `max_bytes`."""
        yield await self.read(max_bytes)

    def parts(self) -> AsyncIterator[Part]:
        """Raise MalformedRequest: a command has no parts."""
        raise MalformedRequest("bad_multipart", "a command has no parts")

    def admitted(self, caller: Caller) -> None:
        """Raise MalformedRequest: whoever sends a command was let in before."""
        raise MalformedRequest("let_in", f"{self.caller.name} is no {caller.name}")

    async def enter(self, context: AbstractAsyncContextManager[_T]) -> _T:
        """Raise MalformedRequest: what has to be left again is sent in pieces, by REST alone."""
        raise MalformedRequest("no_json", f"ask for this by REST ({type(context).__name__})")


def view_command(
    name: str,
    view: View,
    *,
    without: Collection[str] = (),
    raw: Collection[str] = (),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Command:
    """Return a command that answers what a view answers in JSON.

    Its parameters are the names in the view's path, those of its query `without` some, which may be
    numbers here, and those of its JSON body; `raw` are those of a body that the handler reads
    itself. `headers` are what stands for a header that the handler looks at, with its name.
    """
    of_path = _IN_PATH.findall(view.path)
    of_body = view.body.schema if isinstance(view.body, vol.Schema) else dict.fromkeys(raw, object)
    of_query = {
        key: vol.All(_as_written, check)
        for key, check in view.query.items()
        if str(key) not in without
    }
    params: dict[Any, Any] = {
        **{vol.Required(each): text(_NAME_MAX_CHARS, min_length=1) for each in of_path},
        **dict.fromkeys(headers, text(_NAME_MAX_CHARS)),
        **of_query,
        **of_body,
    }
    body_names = {str(key) for key in of_body}

    async def handle(call: CommandCall) -> Any:
        given = dict(call.params)
        path = {each: given.pop(each) for each in of_path}
        named = {headers[each]: given.pop(each) for each in headers if each in given}
        body = {each: given.pop(each) for each in body_names if each in given}
        content = dump_json(body) if isinstance(view.body, RawBody) else b""
        request = CommandRequest(call.connection.caller, path, given, body, named, content)
        answer = await view.handler(request)
        if not isinstance(answer, Json):
            raise MalformedRequest("no_json", f"ask for this by REST: {view}")
        return answer.content

    return Command(name, handle, view.scope, params, view.answer)


def _as_written(value: Any) -> Any:
    """Return a value as a query would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value
