"""Views: a method and a path, who may call it, what goes in and what comes out."""

import mmap
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import voluptuous as vol

from swarm_hub.endpoints.request import Request, Scope
from swarm_hub.exceptions import RequestError


class Success(StrEnum):
    """The ways in which a request can succeed."""

    OK = "ok"
    CREATED = "created"
    ACCEPTED = "accepted"  # it will be done
    PARTIAL = "partial"  # more will follow
    NOT_OK = "not_ok"  # it was answered, and what it says is bad news


@dataclass(frozen=True, slots=True)
class Json:
    """An answer in JSON, of the shape that its view declares.

    `location` is the path of what was created, relative like a view's path. `etag` names what the
    answer says, which the caller may keep and has to ask about each time. `told` as in `Blob`.
    """

    content: Any
    success: Success = Success.OK
    location: str | None = None
    etag: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    """An answer in bytes, whole or only the requested range.

    With `etag` the bytes may be cached forever: what it names never changes. `told` is what else is
    to be known of them, by the names of headers. `kept` says that this is one of a few bodies which
    stay as they are: it is made smaller once, not for each client.
    """

    body: bytes | mmap.mmap
    media_type: str = "application/octet-stream"
    etag: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """Answers in JSON, one a line, each sent as soon as it is known (application/x-ndjson).

    Once the first is sent a failure can only end the connection, without the last line.
    """

    contents: AsyncIterator[Any]


@dataclass(frozen=True, slots=True)
class Events:
    """Events, each sent as soon as it is known (text/event-stream, of the HTML standard).

    Each is an `EventShape`, or one without `seq`; None is sent as a comment, the sign that there is
    nothing to say. If it ends before the first, there is no content.
    """

    contents: AsyncGenerator[Any, None]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The caller has this version already, `forever` or until it asks again."""

    etag: str
    forever: bool = True


# The media type that stands for all of them (RFC 9110, section 12.5.1).
ANY_TYPE: Final = "*/*"

Answer = Json | Blob | Lines | Events | Unchanged
Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body that the handler reads itself: its media types, and what to send in each.

    With `ANY_TYPE` among them bytes of any type, or of none, are taken. `schemas`
    and `examples` describe those that have a shape, by media type, with a voluptuous schema;
    nothing is checked by them.
    """

    media_types: Mapping[str, str]
    schemas: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """One call of the REST API; `Endpoints.add_view` refuses one that lacks scope or schema.

    `path` is relative to the API's root, such as `/jobs/{job_id}`; with `outside` to the hub's
    address. `answer` is the TypedDict of a JSON answer, or `bytes`; `lines` are those of the lines
    of a `Lines`, if it may answer so; with `events` it is that of each of its `Events`. `query`
    holds voluptuous fields; an unknown one is refused. `body` is a voluptuous schema of a JSON
    object (an empty body counts as an empty object) or a `RawBody`.

    The rest describes it to clients (`/openapi.json`). `successes` are the ways in which it may
    succeed, and `errors` what it raises besides the refusals that it shares with all views of its
    kind. `media_types` are those of bytes. `versioned` says that it has an `etag` and may answer
    `Unchanged`. Headers that it takes have a JSON Schema, as its `path_values` may by their names;
    those that it answers with have a text.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | None = None
    answer: type | None = None
    query: Mapping[Any, Any] = field(default_factory=dict)
    body: vol.Schema | RawBody | None = None
    outside: bool = False
    lines: tuple[type, ...] = ()
    events: bool = False
    successes: tuple[Success, ...] = (Success.OK,)
    errors: tuple[type[RequestError], ...] = ()
    media_types: tuple[str, ...] = ("application/octet-stream",)
    versioned: bool = False
    path_values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    request_headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    example_answer: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
