"""Views of blobs that are uploaded before the jobs that name them."""

import re
from typing import Final

from swarm_hub.components.gateway.shapes import UploadShape
from swarm_hub.components.gateway.submission.uploads import Arrived, Piece, Uploads
from swarm_hub.endpoints import ANY_TYPE, Json, RawBody, Request, Scope, Success, View
from swarm_hub.exceptions import Conflict, MalformedRequest
from swarm_hub.util.bounds import INT64_MAX
from swarm_hub.util.clock import isoformat
from swarm_hub.util.hashing import SHA256_HEX

_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})\Z", re.ASCII)
_BODY: Final = RawBody({ANY_TYPE: "the bytes of the blob, or with Content-Range a piece of them"})
# For the description of the API.
_HASH: Final = {"sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}}
_PIECE: Final = {
    "Content-Range": {
        "type": "string",
        "pattern": "^bytes [0-9]{1,19}-[0-9]{1,19}/[0-9]{1,19}$",
        "description": "Which piece this is: `bytes 0-1023/4096`.",
    }
}
# As draft-ietf-httpbis-resumable-upload calls them.
_ARRIVED: Final = {
    "Upload-Offset": "How many bytes have arrived.",
    "Upload-Complete": "`?1` if it is whole, `?0` if not.",
}


def views(uploads: Uploads) -> list[View]:
    """Return the views."""
    own, submit, blob = _BlobViews(uploads), Scope.SUBMIT, "/blobs/{sha256}"
    return [
        View(
            "PUT", blob, own.put, submit, UploadShape, body=_BODY, path_values=_HASH,
            successes=(Success.OK, Success.CREATED, Success.ACCEPTED), errors=(Conflict,),
            request_headers=_PIECE, answer_headers=_ARRIVED,
        ),
        View(
            "GET", blob, own.get, submit, UploadShape, path_values=_HASH, answer_headers=_ARRIVED
        ),
        View(
            "DELETE", blob, own.delete, submit, UploadShape, path_values=_HASH, errors=(Conflict,),
            answer_headers=_ARRIVED,
        ),
    ]  # fmt: skip


class _BlobViews:
    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def put(self, request: Request) -> Json:
        """Upload a blob, whole or a piece; a whole one is durable when this answers 201 or 200."""
        sha, owner = _sha(request), _owner(request)
        piece = _piece(request)
        chunks = request.chunks(request.max_bytes)
        arrived = await self._uploads.receive(owner, sha, piece, chunks)
        if not arrived.is_whole:
            return _told(sha, arrived, Success.ACCEPTED)
        return _told(sha, arrived, Success.CREATED if arrived.is_new else Success.OK)

    async def get(self, request: Request) -> Json:
        """Tell how much of a blob was uploaded; with HEAD the headers alone."""
        sha = _sha(request)
        return _told(sha, await self._uploads.arrived(_owner(request), sha), Success.OK)

    async def delete(self, request: Request) -> Json:
        """Forget an upload; jobs that have its bytes keep them."""
        sha = _sha(request)
        await self._uploads.forget(_owner(request), sha)
        return _told(sha, Arrived(0, False), Success.OK)


def _told(sha: str, arrived: Arrived, success: Success) -> Json:
    expires_at = None if arrived.expires_at is None else isoformat(arrived.expires_at)
    shape: UploadShape = {
        "sha256": sha,
        "offset": arrived.size_bytes,
        "complete": arrived.is_whole,
        "expires_at": expires_at,
    }
    headers = {
        "Upload-Offset": str(arrived.size_bytes),
        "Upload-Complete": "?1" if arrived.is_whole else "?0",
        "Cache-Control": "no-store",
    }
    return Json(shape, success, told=headers)


def _sha(request: Request) -> str:
    sha = request.path["sha256"].lower()
    if not SHA256_HEX.match(sha):
        raise MalformedRequest("invalid_sha256", "expected a SHA-256 as 64 hex digits")
    return sha


def _owner(request: Request) -> str:
    assert request.caller is not None, "the scope asks for a token"
    return request.caller.account


def _piece(request: Request) -> Piece | None:
    given = request.header("Content-Range")
    if given is None:
        return None
    found = _RANGE.match(given)
    if found is None:
        raise _bad_range()
    first, last, total = map(int, found.groups())
    if not first <= last < total <= INT64_MAX:
        raise _bad_range()
    if request.content_length not in (None, last + 1 - first):
        raise MalformedRequest(
            "bad_range", "Content-Length and Content-Range say different numbers of bytes"
        )
    return Piece(first, last + 1, total)


def _bad_range() -> MalformedRequest:
    return MalformedRequest(
        "bad_range", "Content-Range: expected bytes FIRST-LAST/TOTAL, such as bytes 0-1023/4096"
    )
