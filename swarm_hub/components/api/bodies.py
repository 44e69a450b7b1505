"""Request bodies, bounded while they are read: whole, or in the parts of a form (RFC 7578)."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Self

from aiohttp import web
from aiohttp.http import HttpProcessingError
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from swarm_hub.components.api.errors import ClientGone
from swarm_hub.exceptions import MalformedRequest, TooLarge

# Parsing JSON holds the interpreter, for up to half a second per 4 MiB on a small board; a thread
# would not help.
JSON_MAX_BYTES: Final = 4 * 1024 * 1024
# Files, and the few parts that are none.
PARTS_MAX: Final = 10_016
# What a compressed body may unpack to: text rarely shrinks to less than a twentieth.
_RATIO_MAX: Final = 100
_RATIO_FROM_BYTES: Final = 1024 * 1024
# RFC 2046, section 5.1.1; quoted it may hold spaces.
_BOUNDARY: Final = re.compile(
    r""";\s*boundary=(?:"([\x20!#-\x7e]{1,70})"|([!#-+\x2d-:<-~]{1,70}))(?=\s*(?:;|\Z))""",
    re.ASCII | re.IGNORECASE,
)
_END: Final = object()
# Called with the size of each chunk; may raise LimitReached.
Count = Callable[[int], None]


async def read_whole(raw: web.Request, most_bytes: int, count: Count) -> bytes:
    """Return a body; raises TooLarge as soon as it is longer, MalformedRequest if it is broken.

    Whatever reads a body raises ClientGone if its client leaves before the end.
    """
    if (raw.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    async for chunk in _chunks(raw, count):
        body += chunk
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return bytes(body)


async def chunks(raw: web.Request, most_bytes: int, count: Count) -> AsyncIterator[bytes]:
    """Yield a body piece by piece; raises what `read_whole` raises."""
    if (raw.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    size_bytes = 0
    async for chunk in _chunks(raw, count):
        size_bytes += len(chunk)
        if size_bytes > most_bytes:
            raise _too_large(most_bytes)
        yield chunk


class FormReader:
    """The parts of a form, one after the other; what is left unread of one is skipped.

    Raises MalformedRequest for what is no form, TooLarge for one with too many parts.
    """

    def __init__(self, raw: web.Request, count: Count) -> None:
        self._parser = PushMultipartParser(_boundary(raw), max_segment_count=PARTS_MAX)
        self._chunks = _chunks(raw, count)
        self._events: Iterator[object] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "FormPart":
        while True:
            event = await self.next_event()
            if isinstance(event, MultipartSegment):
                return FormPart(event, self)
            if event is _END:
                raise StopAsyncIteration

    async def next_event(self) -> object:
        """Return the head of a part, its next bytes, None at its end, or `_END`."""
        try:
            while (event := next(self._events, _END)) is _END:
                chunk = await anext(self._chunks, b"")
                # Without a chunk this raises if the form has not ended.
                self._events = iter(self._parser.parse(chunk))
                if not chunk:
                    return next(self._events, _END)
        except ParserLimitReached as error:
            raise TooLarge("bad_multipart", f"not acceptable as multipart: {error}") from None
        except (MultipartError, ValueError) as error:
            raise MalformedRequest("bad_multipart", f"not valid multipart: {error}") from None
        return event


class FormPart:
    """One part of a form."""

    def __init__(self, segment: MultipartSegment, reader: FormReader) -> None:
        self._reader = reader
        self._ended = False
        self.name = segment.name or ""
        self.filename = segment.filename or ""
        self.media_type = segment.content_type or ""

    async def read_chunk(self) -> bytes:
        """Return the next bytes, empty at the end."""
        if not self._ended:
            event = await self._reader.next_event()
            if isinstance(event, bytes | bytearray):
                return bytes(event)
            self._ended = True
        return b""


async def _chunks(raw: web.Request, count: Count) -> AsyncIterator[bytes]:
    content = raw.content
    while chunk := await _next_chunk(raw):
        packed_bytes = content.total_compressed_bytes
        if (
            packed_bytes is not None
            and content.total_bytes > _RATIO_FROM_BYTES
            and content.total_bytes > _RATIO_MAX * packed_bytes
        ):
            raise TooLarge(
                "body_expands",
                f"the compressed body unpacks to more than {_RATIO_MAX} times its size; send "
                "it uncompressed",
            )
        count(len(chunk))
        yield chunk


async def _next_chunk(raw: web.Request) -> bytes:
    """Return what has come of a body, empty at its end."""
    try:
        return await raw.content.readany()
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise MalformedRequest("bad_body", f"the body can't be read: {error}") from None
    except (OSError, RuntimeError) as error:
        # aiohttp raises what the connection was lost by, which may be any error of a socket, and
        # a RuntimeError if it was lost before the hub had begun with the request.
        if raw.transport is not None:
            raise
        raise ClientGone(str(error)) from error


def _boundary(raw: web.Request) -> str:
    found = _BOUNDARY.search(raw.headers.get("Content-Type", ""))
    if found is None:
        raise MalformedRequest(
            "bad_multipart",
            "not valid multipart: the Content-Type needs a boundary of 1 to 70 characters",
        )
    return found[1] or found[2]


def _too_large(most_bytes: int) -> TooLarge:
    if most_bytes < JSON_MAX_BYTES:
        way_out = " (api: request)"
    else:
        way_out = "; send larger data in parts of multipart/form-data"
    return TooLarge(
        "request_too_large", f"the request's body is larger than {most_bytes} bytes{way_out}"
    )
