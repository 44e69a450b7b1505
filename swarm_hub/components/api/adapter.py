"""Our requests and answers on one side, aiohttp's on the other."""

import logging
import mmap
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, TypeVar

import voluptuous as vol
from aiohttp import web
from multidict import MultiMapping

from swarm_hub.components.api import bodies, encoding, event_stream, ranges
from swarm_hub.components.api.access import Access
from swarm_hub.components.api.answering import Answering
from swarm_hub.components.api.audit import CALLER
from swarm_hub.components.api.bodies import JSON_MAX_BYTES
from swarm_hub.components.api.errors import RETRY_AFTER_S, ClientGone
from swarm_hub.components.api.quotas import Quotas
from swarm_hub.const import API_ROOT
from swarm_hub.endpoints import (
    ANY_TYPE,
    Answer,
    Blob,
    Caller,
    Events,
    Json,
    Lines,
    RawBody,
    Success,
    Unchanged,
    View,
)
from swarm_hub.exceptions import (
    InvalidInput,
    MalformedRequest,
    NotFound,
    Unauthorized,
    UnsupportedMedia,
)
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.bounds import is_text
from swarm_hub.util.strict_json import dump_json, parse_json

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Of each way to succeed.
STATUS: Final = {
    Success.OK: 200,
    Success.CREATED: 201,
    Success.ACCEPTED: 202,
    Success.PARTIAL: 206,
    Success.NOT_OK: 503,
}
_CHUNK_BYTES: Final = 256 * 1024
_UNMAP_BYTES: Final = 8 * 1024 * 1024
_NAME_MAX_CHARS: Final = 200
_QUERY_MAX_CHARS: Final = 4096
_ERRORS_MAX: Final = 20


def route(
    view: View, access: Access, quotas: Quotas, max_bytes: Callable[[], int], answering: Answering
) -> web.RouteDef:
    """Return the route that serves a view."""
    scope, body = view.scope, view.body
    query = vol.Schema(dict(view.query))
    assert scope is not None, "the registry takes no view without a scope"

    async def handle(raw: web.Request) -> web.StreamResponse:
        caller = await access.admit(raw, scope)
        if caller is not None:
            quotas.request(caller.account)
        async with _Request(raw, caller, max_bytes(), quotas) as request:
            _check_path(raw)
            if view.query or raw.query_string:
                request.query = read_query(raw.query, query)
            if isinstance(body, RawBody):
                _check_media_type(request.media_type, body)
            elif body is not None:
                request.body = _read_json(
                    await bodies.read_whole(raw, JSON_MAX_BYTES, request.count), body
                )
            try:
                answer = await answering.within_reach(view.handler(request))
            except Unauthorized:
                # Of a view that lets people in: whoever guesses waits, and is banned in the end.
                await access.failed(raw)
                raise
            sending = _send(raw, answer, lambda: caller is None or access.is_current(caller))
            # The others are made already, and large ones lie on this device.
            is_made = not isinstance(answer, Lines | Events)
            return await (sending if is_made else answering.within_reach(sending))

    path = view.path if view.outside else API_ROOT + view.path
    # `web.get` also serves HEAD.
    return web.get(path, handle) if view.method == "GET" else web.route(view.method, path, handle)


class _Request:
    """An aiohttp request as handlers see it; see `endpoints.Request`."""

    def __init__(
        self, raw: web.Request, caller: Token | None, max_bytes: int, quotas: Quotas
    ) -> None:
        self._raw = raw
        self._quotas = quotas
        self._entered: AsyncExitStack | None = None
        self.caller = caller
        self.max_bytes = max_bytes
        self.path: Mapping[str, str] = raw.match_info
        self.query: Mapping[str, Any] = {}
        self.body: Any = None

    async def __aenter__(self) -> "_Request":
        return self

    async def __aexit__(self, *exception: Any) -> None:
        if self._entered is not None:
            await self._entered.__aexit__(*exception)

    @property
    def media_type(self) -> str:
        # `content_type` parses the header with the email package, at 0.5 ms a request.
        return self._raw.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def header(self, name: str) -> str | None:
        return self._raw.headers.get(name)

    def link(self, path: str) -> str:
        return API_ROOT + path

    def has_version(self, etag: str) -> bool:
        return any(tag.value in (etag, "*") for tag in self._raw.if_none_match or ())

    async def read(self, max_bytes: int | None = None) -> bytes:
        most_bytes = min(self.max_bytes, JSON_MAX_BYTES, max_bytes or JSON_MAX_BYTES)
        return await bodies.read_whole(self._raw, most_bytes, self.count)

    @property
    def content_length(self) -> int | None:
        return self._raw.content_length

    def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        return bodies.chunks(self._raw, min(self.max_bytes, max_bytes), self.count)

    def parts(self) -> bodies.FormReader:
        return bodies.FormReader(self._raw, self.count)

    def count(self, n_bytes: int) -> None:
        if self.caller is not None:
            self._quotas.upload(self.caller.account, n_bytes)

    def admitted(self, caller: Caller) -> None:
        assert isinstance(caller, Token), "tokens are made here alone"
        self._raw[CALLER] = caller

    async def enter(self, context: AbstractAsyncContextManager[_T]) -> _T:
        if self._entered is None:
            self._entered = AsyncExitStack()
        return await self._entered.enter_async_context(context)


def _check_path(raw: web.Request) -> None:
    if not all(is_text(value, _NAME_MAX_CHARS) for value in raw.match_info.values()):
        raise NotFound("not_found", "there is nothing at this path")


def read_query(given: MultiMapping[str], schema: vol.Schema) -> Mapping[str, Any]:
    """Return the checked values of a query; raises RequestError."""
    if not all(is_text(each, _QUERY_MAX_CHARS) for pair in given.items() for each in pair):
        raise MalformedRequest(
            "invalid_query",
            f"a name or value has more than {_QUERY_MAX_CHARS} characters, or one that is no text",
        )
    once = dict(given)
    if len(once) < len(given):
        times = Counter(name for name, _ in given.items())
        repeated = [name for name, n_times in times.items() if n_times > 1]
        raise _unfit_query(repeated, "is there more than once")
    try:
        return schema(once)  # type: ignore[no-any-return]
    except vol.MultipleInvalid as error:
        if unknown := [str(each.path[0]) for each in error.errors if cv.is_unknown_key(each)]:
            known = ", ".join(str(key) for key in schema.schema) or "none"
            raise _unfit_query(unknown, f"unknown key; known keys: {known}") from None
        found = problems(error, schema)
        raise MalformedRequest("invalid_query", found[0]["message"], found) from None


def _unfit_query(names: Sequence[str], problem: str) -> InvalidInput:
    found = [
        {"path": name[:_NAME_MAX_CHARS], "message": f"{name[:_NAME_MAX_CHARS]}: {problem}"}
        for name in names[:_ERRORS_MAX]
    ]
    return InvalidInput("invalid_query", found[0]["message"], found)


def _check_media_type(media_type: str, body: RawBody) -> None:
    if media_type not in body.media_types and ANY_TYPE not in body.media_types:
        known = (f"{name} ({what})" for name, what in body.media_types.items())
        raise UnsupportedMedia("unsupported_media_type", f"send {' or '.join(known)}")


def _read_json(raw: bytes, schema: vol.Schema) -> Any:
    content = parse_json(raw, "request") if raw else {}
    if not isinstance(content, dict):
        raise InvalidInput("invalid_request", "request: expected a JSON object")
    try:
        return schema(content)
    except vol.MultipleInvalid as error:
        found = problems(error, schema)
        raise InvalidInput("invalid_request", found[0]["message"], found) from None


def problems(error: vol.MultipleInvalid, schema: vol.Schema) -> list[dict[str, str]]:
    """Return every problem that a schema found, as `{path, message}`."""
    known = tuple(str(key) for key in schema.schema)
    found = []
    for each in error.errors:
        each = cv.explained(each, known)
        path = ".".join(map(str, each.path))
        found.append({"path": path, "message": f"{path}: {each.msg}" if path else each.msg})
    return found


async def _send(
    raw: web.Request, answer: Answer, is_admitted: Callable[[], bool]
) -> web.StreamResponse:
    match answer:
        case Json():
            response = web.Response(
                body=dump_json(answer.content),
                status=STATUS[answer.success],
                content_type="application/json",
                charset="utf-8",
                headers=answer.told,
            )
            if answer.location is not None:
                response.headers["Location"] = API_ROOT + answer.location
            if answer.etag is not None:
                response.headers.update(_checked_again(answer.etag))
            if answer.success is Success.NOT_OK:
                response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return await encoding.fit(raw, response)
        case Blob():
            return await _send_blob(raw, answer)
        case Lines():
            return await _send_lines(raw, answer)
        case Events():
            return await event_stream.send(raw, answer, is_admitted)
        case Unchanged():
            told = _cached(answer.etag) if answer.forever else _checked_again(answer.etag)
            return web.Response(status=304, headers=told)


def _cached(etag: str) -> dict[str, str]:
    return {"ETag": f'"{etag}"', "Cache-Control": "private, max-age=31536000, immutable"}


def _checked_again(etag: str) -> dict[str, str]:
    # Weak: an encoding makes other bytes of the same answer.
    return {"ETag": f'W/"{etag}"', "Cache-Control": "private, no-cache"}


async def _send_lines(raw: web.Request, lines: Lines) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "application/x-ndjson"
    try:
        if raw.method == "HEAD":
            await response.prepare(raw)
            return response
        async for content in lines.contents:
            if not response.prepared:
                await response.prepare(raw)
            await response.write(dump_json(content) + b"\n")
        await response.write_eof()
    except ConnectionError as error:
        raise ClientGone(str(error)) from error
    except Exception as error:
        if not response.prepared:
            raise
        # There is no other way to say that a line is missing.
        _LOGGER.warning("%s %s can't be answered to its end: %s", raw.method, raw.path, error)
        if raw.transport is not None:
            raw.transport.abort()
        raise ClientGone("its answer was not ended") from error
    return response


async def _send_blob(raw: web.Request, blob: Blob) -> web.StreamResponse:
    """Send bytes, or the one range of them that was asked for."""
    size_bytes, status = len(blob.body), 200
    cached = {} if blob.etag is None else _cached(blob.etag)
    headers = {"Accept-Ranges": "bytes", **cached, **blob.told}
    start, stop = 0, size_bytes
    if (part := ranges.wanted(raw, size_bytes, blob.etag)) is not None:
        (start, stop), status = part, 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
    if isinstance(blob.body, bytes):
        body = blob.body if status == 200 else blob.body[start:stop]
        response = web.Response(
            body=body, status=status, headers=headers, content_type=blob.media_type
        )
        # What has a version is the same bytes for all, and ranges are of those.
        if status == 206 or blob.etag:
            return response
        return await encoding.fit(raw, response, kept=blob.kept)
    streamed = web.StreamResponse(status=status, headers=headers)
    streamed.content_type = blob.media_type
    streamed.content_length = stop - start
    try:
        await streamed.prepare(raw)
        if raw.method != "HEAD":
            await _stream(streamed, blob.body, start, stop)
    except ConnectionError as error:
        raise ClientGone(str(error)) from error
    return streamed


async def _stream(response: web.StreamResponse, body: mmap.mmap, start: int, stop: int) -> None:
    for at in range(start, stop, _CHUNK_BYTES):
        await response.write(body[at : min(at + _CHUNK_BYTES, stop)])
        if at // _UNMAP_BYTES != (at + _CHUNK_BYTES) // _UNMAP_BYTES:
            # What was sent stays in the page cache, but no longer counts as this process's memory.
            body.madvise(mmap.MADV_DONTNEED)
    await response.write_eof()
