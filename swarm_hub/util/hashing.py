"""Content hashes: every blob, input and result is named by its SHA-256 in lower-case hex."""

import hashlib
import re
from typing import Final

SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()
