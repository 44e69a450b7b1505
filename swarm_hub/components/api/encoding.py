"""Answers made smaller (RFC 9110, section 8.4): zstd or gzip, as far as the client takes it.

A small answer fits one or two packets, however small it is made, and is left alone.
"""

import asyncio
import functools
import importlib
import re
import zlib
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

_FROM_BYTES: Final = 4096
# Beyond this the event loop does something else meanwhile.
_HERE_MAX_BYTES: Final = 64 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_LEVEL: Final = 1
_TEXTS: Final = ("application/json", "application/x-ndjson", "text/")
_ITEM: Final = re.compile(
    r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?\Z"
)


async def fit(raw: web.Request, response: web.Response) -> web.Response:
    """Return an answer, encoded if it is a text that is long enough and the client takes it."""
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
    compress = _COMPRESSORS[name]()
    response.body = (
        compress(body) if len(body) <= _HERE_MAX_BYTES else await asyncio.to_thread(compress, body)
    )
    response.headers["Content-Encoding"] = name
    return response


def chosen(accepted: str) -> str | None:
    """Return what a client wants most of what there is, None for the answer as it is."""
    wanted: dict[str, float] = {}
    for item in accepted.split(",")[:32]:
        if (match := _ITEM.match(item)) is not None:
            wanted[match[1].lower()] = float(match[2] or 1)
    others = wanted.get("*", 0.0)
    best, best_weight = None, 0.0
    for name in _COMPRESSORS if _zstd() is not None else ("gzip",):
        if (weight := wanted.get(name, others)) > best_weight:
            best, best_weight = name, weight
    return best


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(body) + compressor.flush()


@functools.cache
def _zstd() -> Callable[[bytes], bytes] | None:
    """Return what compresses, None without the library; few hubs need it, so it comes late."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        return functools.partial(module.compress, level=_LEVEL)
    return None


# The best first.
_COMPRESSORS: Final[dict[str, Callable[[], Any]]] = {"zstd": _zstd, "gzip": lambda: _gzip}
