"""Turns the PPM image on stdin into a PNG file on stdout, with the standard library alone."""

import struct
import sys
import zlib


def png(ppm: bytes) -> bytes:
    """Return a PNG file with the pixels of a binary PPM file of 8 bits a channel."""
    kind, size, most, pixels = ppm.split(b"\n", 3)
    width, height = (int(number) for number in size.split())
    if kind != b"P6" or most != b"255" or len(pixels) != 3 * width * height:
        raise ValueError("this is not a whole P6 image with 8 bits a channel")
    # Each row begins with the number of its filter; 0 leaves the pixels as they are.
    rows = b"".join(b"\0" + pixels[at : at + 3 * width] for at in range(0, len(pixels), 3 * width))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(png(sys.stdin.buffer.read()))
    except ValueError as error:
        sys.exit(f"png.py: {error}")
