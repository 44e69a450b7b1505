"""Large files of a job are sent before it, piece by piece, and only if the hub lacks them."""

import asyncio
import hashlib
import io
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from swarm_hub.client.errors import ApiError, ClientError, UnreachableError
from swarm_hub.util.hashing import sha256_hex

Source = bytes | Path

# Smaller ones go with the job.
LARGE_BYTES: Final = 8 * 1024 * 1024
# What is lost at most when a connection breaks.
_PIECE_BYTES: Final = 16 * 1024 * 1024
# A hub that restarts is back within seconds; one that has not noticed yet that a connection broke
# keeps its bytes for half a minute.
_PATIENCE_S: Final = 60.0
_RETRY_S: Final = 0.5
_OCTETS: Final = "application/octet-stream"
# Somebody else is faster, or the last piece came although its answer did not.
_ASK_AGAIN: Final = ("wrong_offset", "upload_in_progress", "busy", "too_many_uploads")

# (method, path, options) → the JSON of the answer; raises ApiError or UnreachableError.
Ask = Callable[..., Awaitable[Any]]


def size_of(source: Source) -> int:
    """Return how many bytes a source has; raises ClientError."""
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error


def read(source: Source) -> bytes:
    """Return the bytes of a source; raises ClientError."""
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(path: Path, error: OSError) -> ClientError:
    """Return what is said of a file that can't be read."""
    return ClientError(f"{path}: can't be read: {error.strerror}")


async def hash_of(source: Source) -> str:
    """Return the SHA-256 of a source; raises ClientError."""
    if isinstance(source, bytes):
        return await asyncio.to_thread(sha256_hex, source)

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    try:
        return await asyncio.to_thread(digest, source)
    except OSError as error:
        raise unreadable(source, error) from error


async def ensure(ask: Ask, source: Source, sha: str) -> None:
    """See to it that the hub has the bytes, whatever connections break meanwhile.

    Raises ApiError with the code `not_found` if the hub takes no blobs.
    """
    size_bytes = size_of(source)
    give_up_at: float | None = None
    offset = -1
    while True:
        try:
            if offset < 0:
                offset, is_whole = await _offset(ask, sha)
                if is_whole:
                    return
            end = min(offset + _PIECE_BYTES, size_bytes)
            piece = await asyncio.to_thread(_part, source, offset, end)
            content_range = f"bytes {offset}-{end - 1}/{size_bytes}"
            answer = await ask(
                "PUT", f"/blobs/{sha}", body=partial(io.BytesIO, piece), is_upload=True,
                headers={"Content-Range": content_range, "Content-Type": _OCTETS},
            )  # fmt: skip
            if answer["complete"]:
                return
            offset, give_up_at = int(answer["offset"]), None
        except (UnreachableError, ApiError) as error:
            if isinstance(error, ApiError) and error.code not in _ASK_AGAIN:
                raise
            now = time.monotonic()
            give_up_at = give_up_at or now + _PATIENCE_S
            if now > give_up_at:
                raise
            offset = -1
            await asyncio.sleep(_RETRY_S)


async def _offset(ask: Ask, sha: str) -> tuple[int, bool]:
    """Return how much the hub has, and whether that is all."""
    try:
        answer = await ask("GET", f"/blobs/{sha}")
    except ApiError as error:
        if error.code != "unknown_blob":
            raise
        return 0, False
    return int(answer["offset"]), bool(answer["complete"])


def _part(source: Source, start: int, end: int) -> bytes:
    if isinstance(source, bytes):
        return source[start:end]
    try:
        with source.open("rb") as file:
            return os.pread(file.fileno(), end - start, start)
    except OSError as error:
        raise unreadable(source, error) from error
