"""Makes thumbnails of PNG pictures in plain Python: python thumbnails.py FOLDER PICTURE.png…"""

import pathlib
import struct
import sys
import zlib

from swarm_hub.client import Swarm

WIDTH = 96
PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "images" / "page.png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def thumbnail(picture):
    """Return a PNG file of at most WIDTH pixels a row: each is the mean of a square of pixels."""
    head, rows = opened(picture)
    n = CHANNELS[head[3]]
    side = -(-head[0] // WIDTH)
    small = []
    for top in range(0, len(rows), side):
        square = rows[top : top + side]
        sums = [sum(column) for column in zip(*square, strict=True)]
        small.append(bytearray())
        for left in range(0, len(sums), n * side):
            one = sums[left : left + n * side]
            small[-1] += bytes(sum(one[c::n]) * n // (len(one) * len(square)) for c in range(n))
    head = (len(small[0]) // n, len(small), *head[2:])
    body = zlib.compress(b"".join(b"\0" + row for row in small))
    chunks = (b"IHDR", struct.pack(">IIBBBBB", *head)), (b"IDAT", body), (b"IEND", b"")
    return SIGNATURE + b"".join(
        struct.pack(">I", len(what)) + name + what + struct.pack(">I", zlib.crc32(name + what))
        for name, what in chunks
    )


def opened(picture):
    """Return the head of a PNG file and its rows of pixels, of which each channel is a byte."""
    head, packed, at = None, b"", len(SIGNATURE)
    while picture.startswith(SIGNATURE) and at + 8 <= len(picture):
        size, name = struct.unpack_from(">I4s", picture, at)
        if name == b"IHDR":
            head = struct.unpack_from(">IIBBBBB", picture, at + 8)
        elif name == b"IDAT":
            packed += picture[at + 8 : at + 8 + size]
        at += 12 + size
    if head is None or head[2] != 8 or head[3] not in CHANNELS or head[6]:
        raise ValueError("it is no PNG file of 8 bits a channel without palette and interlacing")
    n, line = CHANNELS[head[3]], head[0] * CHANNELS[head[3]]
    above, rows, body = bytes(line), [], zlib.decompress(packed)
    for start in range(0, head[1] * (line + 1), line + 1):
        rows.append(unfiltered(body[start], body[start + 1 : start + 1 + line], above, n))
        above = rows[-1]
    return head, rows


def unfiltered(kind, line, above, n):
    """Return a row of a picture; in the file each byte is the difference to a guess."""
    row, above, guess = bytearray(n) + line, bytes(n) + above, GUESSES[kind]
    for at in range(n, len(row)) if kind else ():
        row[at] = (row[at] + guess(row[at - n], above[at], above[at - n])) & 0xFF
    return bytes(row[n:])


def nearest(left, up, corner):
    """Return which of three neighbours is the nearest to what a slope through them gives."""
    slope = left + up - corner
    by_left, by_up, by_corner = abs(slope - left), abs(slope - up), abs(slope - corner)
    if by_left <= by_up and by_left <= by_corner:
        return left
    return up if by_up <= by_corner else corner


GUESSES = (
    None,
    lambda left, up, corner: left,
    lambda left, up, corner: up,
    lambda left, up, corner: (left + up) // 2,
    nearest,
)

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "thumbnails")
    paths = [pathlib.Path(each) for each in sys.argv[2:]] or [PAGE]
    folder.mkdir(exist_ok=True)
    pictures = [path.read_bytes() for path in paths]
    with Swarm() as swarm:
        results = swarm.imap(thumbnail, pictures, return_exceptions=True, progress=True)
        for path, (_, small) in zip(paths, results, strict=True):
            if isinstance(small, Exception):
                print(f"{path}: {small}")
                continue
            (folder / path.name).write_bytes(small)
            print(folder / path.name)
