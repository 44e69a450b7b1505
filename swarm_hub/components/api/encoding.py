"""Answers made smaller (RFC 9110, section 8.4): zstd or gzip, as far as the client takes it.

A small answer fits one or two packets, however small it is made, and is left alone.
"""

import asyncio
import functools
import importlib
import re
import zlib
from typing import Any, Final

from aiohttp import web

_FROM_BYTES: Final = 4096
# Beyond this the event loop does something else meanwhile.
_HERE_MAX_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 1
_KEPT_LEVELS: Final = {"zstd": 15, "gzip": 9}
# Each file of the page, in both encodings.
_KEPT_MAX: Final = 200
_TEXTS: Final = ("application/json", "application/x-ndjson", "image/svg+xml", "text/")
_ITEM: Final = re.compile(
    r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?\Z"
)


async def fit(raw: web.Request, response: web.Response, *, kept: bool = False) -> web.Response:
    """Return an answer, encoded if it is a text that is long enough and the client takes it.

    A `kept` one is encoded at its first time only, and as well as that goes.
    """
    body = response.body
    if (
        not isinstance(body, bytes)
        or len(body) < _FROM_BYTES
        or not response.content_type.startswith(_TEXTS)
    ):
        return response
    response.headers["Vary"] = "Accept-Encoding"
    name = chosen(raw.headers.get("Accept-Encoding", ""))
    if name is None:
        return response
    if kept:
        response.body = await asyncio.to_thread(_encoded_once, name, body)
    elif len(body) <= _HERE_MAX_BYTES:
        response.body = _encoded(name, body, _LEVEL)
    else:
        response.body = await asyncio.to_thread(_encoded, name, body, _LEVEL)
    response.headers["Content-Encoding"] = name
    return response


def _encoded(name: str, body: bytes, level: int) -> bytes:
    return _COMPRESSORS[name](body, level)


@functools.lru_cache(_KEPT_MAX)
def _encoded_once(name: str, body: bytes) -> bytes:
    return _encoded(name, body, _KEPT_LEVELS[name])


def chosen(accepted: str) -> str | None:
    """Return what a client wants most of what there is, None for the answer as it is."""
    wanted: dict[str, float] = {}
    for item in accepted.split(",")[:32]:
        if (match := _ITEM.match(item)) is not None:
            wanted[match[1].lower()] = float(match[2] or 1)
    others = wanted.get("*", 0.0)
    best, best_weight = None, 0.0
    for name in _COMPRESSORS if _zstd_library() is not None else ("gzip",):
        if (weight := wanted.get(name, others)) > best_weight:
            best, best_weight = name, weight
    return best


def _gzip(body: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    return compressor.compress(body) + compressor.flush()


@functools.cache
def _zstd_library() -> Any:
    """Return what compresses, None without the library; few hubs need it, so it comes late."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _zstd(body: bytes, level: int) -> bytes:
    return bytes(_zstd_library().compress(body, level=level))


# The best first.
_COMPRESSORS: Final = {"zstd": _zstd, "gzip": _gzip}
