"""ABI `wasi-frames`: a preview1 command that reads shards from a socket and answers each there.

Its stdin is empty, and what it writes to stdout and stderr is its log. Whether it gets one shard or
many is decided elsewhere, see kept.py: here it gets one.
"""

from .abi import Session
from .abi_wasi import command_entries, start
from .frames import Turn
from .keeping import FRAMES
from .shape import WASI_MODULE, Shape


class _WasiFrames:
    name = FRAMES
    # After `wasi`, which every command fits too: a job has to ask for this one.
    rank = 55
    wants = "a command, `_start` () -> (), that imports sock_recv and sock_send"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        imported = {port.name for port in shape.imports}
        if imported.issuperset((f"{WASI_MODULE}.sock_recv", f"{WASI_MODULE}.sock_send")):
            return command_entries(shape)
        return ()

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        frames = session.frames
        if frames.is_open:
            # Whoever keeps the instance gives it its shards.
            start(session)
            return b""
        turn = Turn(body, session.limits.output_bytes)
        left = [turn]
        frames.open(lambda: left.pop() if left else None)
        try:
            start(session)
        finally:
            frames.close()
            turn.close()
        return turn.result(session.scratch.stderr_text())


ABI = _WasiFrames()
