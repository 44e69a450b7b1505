"""Frames of the websocket protocol (RFC 6455) as a server sends them.

Ours and not aiohttp's, because several go out in one write, and because what is compressed is so
without a context of its connection (RFC 7692, `server_no_context_takeover`): aiohttp's would cost
each connection up to 256 KiB.
"""

import struct
import zlib
from typing import Final

_FINAL_TEXT: Final = 0x81
_COMPRESSED: Final = 0x40
_TAIL: Final = b"\x00\x00\xff\xff"
_MEMORY_LEVEL: Final = 8
_FASTEST: Final = 1


def text_frame(text: bytes) -> bytes:
    """Return the frame of a message."""
    return _head(_FINAL_TEXT, len(text)) + text


def compressed_frame(text: bytes, window_bits: int) -> bytes:
    """Return the frame of a message, compressed by itself."""
    packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, -window_bits, _MEMORY_LEVEL)
    packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
    packed = packed.removesuffix(_TAIL)
    return _head(_FINAL_TEXT | _COMPRESSED, len(packed)) + packed


def _head(first: int, n_bytes: int) -> bytes:
    if n_bytes < 126:
        return bytes((first, n_bytes))
    if n_bytes < 65_536:
        return struct.pack("!BBH", first, 126, n_bytes)
    return struct.pack("!BBQ", first, 127, n_bytes)
