"""ABI `i32-array`: packed little-endian i32 at address 0, `(ptr, len) -> i32`."""

from .abi import Session
from .failure import Failure
from .shape import Shape


class _I32Array:
    name = "i32-array"
    rank = 40
    wants = "a function (i32, i32) -> i32, and an exported `memory` for the data"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        # One that hides its memory would compute with zeros instead of the data.
        if shape.hides_memory:
            return ()
        return shape.functions("(i32, i32) -> i32")

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        if len(body) % 4:
            raise Failure(
                "bad_input", f"The input has {len(body)} bytes; packed i32 need a multiple of 4"
            )
        # The seed runs modules that export none, too, with the length alone: who can't be given the
        # data does not ask for it.
        if session.has_memory:
            session.make_room(len(body))
            session.write(0, body)
        return b"%d" % session.call(session.entry, 0, len(body) // 4)


ABI = _I32Array()
