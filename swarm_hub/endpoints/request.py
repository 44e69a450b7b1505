"""Requests as handlers see them, whatever server took them in."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Scope(StrEnum):
    """What a caller is allowed to do; each scope includes those before it."""

    PUBLIC = "public"  # needs no token
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Caller(Protocol):
    """The caller, as identified by their token."""

    @property
    def id(self) -> str:
        """The token's id."""

    @property
    def name(self) -> str:
        """The name the token was made under."""

    @property
    def scope(self) -> str:
        """The widest `Scope` of the token."""

    @property
    def account(self) -> str:
        """The owner of what the caller makes; tokens of one person's devices may share one."""

    @property
    def sees_all(self) -> bool:
        """Whether the caller sees what belongs to others."""


class Part(Protocol):
    """One part of a multipart body (RFC 7578)."""

    @property
    def name(self) -> str:
        """The name of the form's field."""

    @property
    def filename(self) -> str:
        """The name of the uploaded file, empty if there is none."""

    @property
    def media_type(self) -> str:
        """The part's own type, lower case, without parameters, empty if it has none."""

    async def read_chunk(self) -> bytes:
        """Return the next bytes, empty at the end."""


class Request(Protocol):
    """One admitted request to a view: its scope, query and JSON body have been checked."""

    @property
    def path(self) -> Mapping[str, str]:
        """The values of the `{name}`s in the view's path."""

    @property
    def query(self) -> Mapping[str, Any]:
        """The query's values, as the view's `query` schema returned them."""

    @property
    def body(self) -> Any:
        """The JSON body as the view's `body` schema returned it; None if the view has none."""

    @property
    def media_type(self) -> str:
        """The body's type, lower case, without parameters."""

    @property
    def caller(self) -> Caller | None:
        """Who asks; None for a public view that was asked without a token."""

    @property
    def max_bytes(self) -> int:
        """How large a request may be, in bytes."""

    def header(self, name: str) -> str | None:
        """Return a header's text."""

    def link(self, path: str) -> str:
        """Return the path under which a client finds a view of this API."""

    def has_version(self, etag: str) -> bool:
        """Whether the caller has this version already (If-None-Match)."""

    async def read(self, max_bytes: int | None = None) -> bytes:
        """Return the whole body of a view with a `RawBody`.

        Raises TooLarge beyond `max_bytes`, or beyond 4 MiB.
        """

    @property
    def content_length(self) -> int | None:
        """How long the body is, None if the client does not say."""

    def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        """Return the body of a view with a `RawBody` piece by piece.

        Raises TooLarge beyond `max_bytes`, or beyond what a request may have.
        """

    def parts(self) -> AsyncIterator[Part]:
        """Return the parts of a multipart body, which raise MalformedRequest if it isn't one."""

    def admitted(self, caller: Caller) -> None:
        """Count the request, which came without a token, as this caller's, whom it let in."""

    async def enter(self, context: AbstractAsyncContextManager[_T]) -> _T:
        """Enter a context that is left once the answer has been sent."""
