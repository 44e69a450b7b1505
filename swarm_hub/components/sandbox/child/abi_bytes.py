"""ABI `bytes`: `alloc(n) -> ptr`, then `(ptr, len) -> ptr << 32 | len`."""

import ctypes

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

    def run(self, session: Session, body: bytes) -> bytes:
        return take(session, session.call(session.entry, *give(session, body)))


def give(session: Session, body: bytes) -> tuple[int, int]:
    """Write bytes where the module's `alloc` says; returns their address and size."""
    store, memory, size = session.store, session.memory, len(body)
    # An i32 argument is signed on this side; the module sees the same 32 bits.
    at = session.call("alloc", size) & _U32
    if at + size > memory.data_len(store):
        raise _outside("alloc", at, size, memory.data_len(store))
    if size:
        ctypes.memmove(memory.get_buffer_ptr(store, size, at), body, size)
    return at, size


def take(session: Session, packed: int) -> bytes:
    """Read the bytes at `address << 32 | size`, which the entry returned."""
    store, memory = session.store, session.memory
    at, size = packed >> 32 & _U32, packed & _U32
    if at + size > memory.data_len(store):
        raise _outside(session.entry, at, size, memory.data_len(store))
    if size > session.limits.output_bytes:
        raise Failure(
            "output",
            f"The result has {size} bytes, more than the limit of "
            f"{session.limits.output_bytes}; use smaller shards or a higher limit",
        )
    return ctypes.string_at(memory.get_buffer_ptr(store, size, at), size) if size else b""


def _outside(name: str, at: int, size: int, memory_bytes: int) -> Failure:
    return Failure(
        "trap: memory_out_of_bounds",
        f"`{name}` returned the address {at} for {size} bytes, outside its memory of "
        f"{memory_bytes} bytes",
    )


ABI = _Bytes()
