"""The route of bytes by their hash."""

import mmap
from typing import Final

from aiohttp import web

from swarm_hub.core import Hub
from swarm_hub.exceptions import RequestError
from swarm_hub.helpers.data_port import DATA
from swarm_hub.util.hashing import SHA256_HEX

_CHUNK_BYTES: Final = 256 * 1024


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the route; it answers 503 on a hub without `content:`."""

    async def data(request: web.Request) -> web.StreamResponse:
        sha = request.match_info["sha256"].lower()
        if not SHA256_HEX.match(sha):
            raise RequestError(400, "invalid_sha256", "expected a SHA-256 as 64 hex digits")
        port = hub.services.get(DATA)
        if port is None:
            raise RequestError(
                503, "no_content", "this hub does not look for blobs; add content: to enable it"
            )
        headers = {
            # What a hash names never changes.
            "ETag": f'"{sha}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "Accept-Ranges": "bytes",
        }
        if _is_known(request, sha):
            return web.Response(status=304, headers=headers)
        async with port.reading(sha) as body:
            return await _send(request, body, headers)

    return [web.get("/api/v1/data/{sha256}", data)]


def _is_known(request: web.Request, sha: str) -> bool:
    return any(tag.value in (sha, "*") for tag in request.if_none_match or ())


async def _send(
    request: web.Request, body: bytes | mmap.mmap, headers: dict[str, str]
) -> web.StreamResponse:
    size_bytes = len(body)
    try:
        wanted = request.http_range
    except ValueError:
        # A header that is not understood counts as none (RFC 9110, section 14.2).
        wanted = slice(None, None, 1)
    start, stop, _ = wanted.indices(size_bytes)
    is_part = wanted.start is not None or wanted.stop is not None
    if is_part and start >= stop:
        raise RequestError(416, "invalid_range", f"the blob has {size_bytes} bytes")
    response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    if is_part:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
    response.content_type = "application/octet-stream"
    response.content_length = stop - start
    await response.prepare(request)
    if request.method != "HEAD":
        for at in range(start, stop, _CHUNK_BYTES):
            await response.write(body[at : min(at + _CHUNK_BYTES, stop)])
        await response.write_eof()
    return response
