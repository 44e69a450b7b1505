"""ABI `qjs`: QuickJS-NG's WASI reactor, which runs the script that its arguments name.

The reactor is a library: it takes the command line of the `qjs` command, allocated in its memory,
where a command would read its own. What the script reads and prints is stdin and stdout, as in
`wasi`.
"""

import struct

from .abi import Session
from .abi_wasi import stdout_of
from .failure import Failure
from .shape import Shape

_ENTRY = "qjs_init_argv"


class _Qjs:
    name = "qjs"
    rank = 45
    wants = "QuickJS-NG's `qjs_init_argv` (i32, i32) -> i32, `malloc` and `memory`"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        is_reactor = (
            shape.has(_ENTRY, "func", "(i32, i32) -> i32")
            and shape.has("malloc", "func", "(i32) -> i32")
            and shape.has("memory", "memory")
        )
        return (_ENTRY,) if is_reactor else ()

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        # The shard itself is already the file behind stdin, see wasi.py.
        texts = [each.encode() + b"\0" for each in ("qjs", *session.args)]
        pointers = [_placed(session, text) for text in texts]
        vector = _placed(session, struct.pack(f"<{len(pointers) + 1}I", *pointers, 0))
        if session.call(_ENTRY, len(pointers), vector) != 0:
            said = session.scratch.stderr_text()
            raise Failure("exit: 1", said or "The script failed without a message")
        return stdout_of(session)


def _placed(session: Session, content: bytes) -> int:
    at = session.call("malloc", len(content)) & 0xFFFF_FFFF
    if not at:
        raise Failure("memory", "The interpreter has no memory for its arguments")
    session.write(at, content)
    return at


ABI = _Qjs()
