"""A sequence of files: the ustar format of POSIX.1-1988 (`tar`), without its end marker.

Archives without the marker can be joined by writing one after the other. Only plain files; no
owner, mode 0644 and no time, so that equal files give equal bytes.

The gateway makes and joins these archives, too, and imports this module from the sandbox's root. It
stays with the child because a child can import nothing but its own package: the hub is not on its
path.
"""

from collections.abc import Iterator
from typing import NamedTuple

BLOCK_BYTES = 512
END_MARKER = bytes(2 * BLOCK_BYTES)
NAME_BYTES_MAX = 100

_SIZE_MAX = 8**11 - 1
_PLAIN_FILE = b"0"
_CHECKSUM = slice(148, 156)


class Member(NamedTuple):
    """One file of an archive: where its bytes begin, and how many there are."""

    name: str
    start: int
    size_bytes: int


def is_file_name(name: str) -> bool:
    """Whether a file in a directory can have this name, in an archive and elsewhere."""
    return "/" not in name and _is_path(name)


def _is_path(name: str) -> bool:
    """Whether this path leads to a file below the directory in which it is unpacked."""
    return (
        0 < len(_encoded(name)) <= NAME_BYTES_MAX
        and "\0" not in name
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def header(name: str, size_bytes: int) -> bytes:
    """Return the header of a file; raises ValueError if its name is too long or it is too large."""
    encoded = _encoded(name)
    if not 0 < len(encoded) <= NAME_BYTES_MAX:
        raise ValueError(f"the name {name[:60]!r} is empty or has more than {NAME_BYTES_MAX} bytes")
    if size_bytes > _SIZE_MAX:
        raise ValueError(f"{name}: larger than 8 GiB")
    block = bytearray(BLOCK_BYTES)
    block[0 : len(encoded)] = encoded
    block[100:107], block[108:115], block[116:123] = b"0000644", b"0000000", b"0000000"
    block[124:135] = b"%011o" % size_bytes
    block[136:147] = b"%011o" % 0
    block[156:157] = _PLAIN_FILE
    block[257:265] = b"ustar\x0000"
    block[_CHECKSUM] = _checksum(block)
    return bytes(block)


def padding(size_bytes: int) -> bytes:
    """Return the padding that follows a file of this size."""
    return bytes(-size_bytes % BLOCK_BYTES)


def members(body: bytes | bytearray) -> Iterator[Member]:
    """Yield the files of an archive that `header` wrote; raises ValueError for any other.

    An archive may come from anyone, so a name that leads out of a directory is refused here.
    """
    at = 0
    while at < len(body):
        block = body[at : at + BLOCK_BYTES]
        is_ours = len(block) == BLOCK_BYTES and block[156:157] == _PLAIN_FILE
        if not is_ours or block[_CHECKSUM] != _checksum(block):
            raise ValueError("not an archive of plain files")
        name = block[:NAME_BYTES_MAX].rstrip(b"\0").decode("utf-8", "surrogateescape")
        if not _is_path(name):
            raise ValueError(f"{name[:NAME_BYTES_MAX]!r} is not a name for a file")
        # `int` alone would take a sign.
        if not block[124:135].isdigit():
            raise ValueError(f"the archive gives no valid size for {name}")
        size_bytes = int(block[124:135], 8)
        start = at + BLOCK_BYTES
        at = start + size_bytes + len(padding(size_bytes))
        if at > len(body):
            raise ValueError(f"the archive ends within {name}")
        yield Member(name, start, size_bytes)


def _checksum(block: bytes | bytearray) -> bytes:
    """Return the sum over a header in which the sum itself counts as spaces."""
    total = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    return b"%06o\0 " % total
