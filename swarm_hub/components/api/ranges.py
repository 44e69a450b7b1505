"""The range of a blob that a request asks for (RFC 9110, section 14)."""

import re
from typing import Final

from aiohttp import web

from swarm_hub.components.api.errors import RangeNotSatisfiable

# Several ranges are ignored, as a server may: the answer is the whole.
_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*\Z", re.ASCII | re.I)


def wanted(raw: web.Request, size_bytes: int, etag: str | None) -> tuple[int, int] | None:
    """Return where the wanted part begins and ends, None for the whole.

    Raises RangeNotSatisfiable if there is no byte in it.
    """
    # It means something in a GET only, and with If-Range only if the blob is still the same.
    if raw.method != "GET" or (match := _RANGE.match(raw.headers.get("Range", ""))) is None:
        return None
    condition = raw.headers.get("If-Range")
    if condition is not None and (etag is None or condition.strip() != f'"{etag}"'):
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        start, stop = int(first), min(int(last or size_bytes) + 1, size_bytes)
        if last and int(last) < start:
            return None
    if start >= stop:
        raise RangeNotSatisfiable(size_bytes)
    return start, stop
