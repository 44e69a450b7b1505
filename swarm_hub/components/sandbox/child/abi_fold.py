"""Folding two results with the module's own `reduce(ptr, len, ptr, len) -> ptr << 32 | len`.

A gateway calls it for jobs of abi `bytes`; a job can't choose it. The body is the size of the
first result as 32 bits little-endian, the first result and the second.
"""

from .abi import Session
from .abi_bytes import give, take
from .shape import Shape

_SIZE_BYTES = 4


class _Fold:
    name = "fold"
    rank = None
    wants = "an exported `memory`, `alloc` (i32) -> i32 and `reduce` (i32, i32, i32, i32) -> i64"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        fits = (
            shape.has("memory", "memory")
            and shape.has("alloc", "func", "(i32) -> i32")
            and shape.has("reduce", "func", "(i32, i32, i32, i32) -> i64")
        )
        return ("reduce",) if fits else ()

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        split = _SIZE_BYTES + int.from_bytes(body[:_SIZE_BYTES], "little")
        first = give(session, body[_SIZE_BYTES:split])
        second = give(session, body[split:])
        return take(session, session.call(session.entry, *first, *second))


ABI = _Fold()
