"""ABI `bytes`: `alloc(n) -> ptr`, then `(ptr, len) -> ptr << 32 | len`."""

from .abi import Session
from .failure import Failure
from .shape import Shape

_U32 = 0xFFFF_FFFF


class _Bytes:
    name = "bytes"
    rank = 20
    wants = "an exported `memory`, `alloc` (i32) -> i32 and a function (i32, i32) -> i64"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        if not shape.has("memory", "memory") or not shape.has("alloc", "func", "(i32) -> i32"):
            return ()
        return shape.functions("(i32, i32) -> i64")

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        return take(session, session.call(session.entry, *give(session, body)))


def give(session: Session, body: bytes | bytearray) -> tuple[int, int]:
    """Write bytes where the module's `alloc` says; returns their address and size."""
    # An i32 is signed on this side; the module sees the same 32 bits.
    at = session.call("alloc", len(body)) & _U32
    session.write(at, body)
    return at, len(body)


def take(session: Session, packed: int) -> bytes:
    """Read the bytes at `address << 32 | size`, which the entry returned."""
    at, size = packed >> 32 & _U32, packed & _U32
    if size > session.limits.output_bytes and at + size <= session.memory_bytes():
        raise Failure(
            "output",
            f"The result has {size} bytes, more than the limit of "
            f"{session.limits.output_bytes}; use smaller shards or a higher limit",
        )
    return session.read(at, size)


ABI = _Bytes()
