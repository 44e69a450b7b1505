"""ABI `wasi-files`: a preview1 command, each item a file under `/in`, results under `/out`."""

from .abi import Session
from .abi_wasi import command_entries, start
from .shape import Shape


class _WasiFiles:
    name = "wasi-files"
    # After `wasi`, which every command fits too: a job has to ask for this one.
    rank = 50
    wants = "a command: `_start` () -> ()"
    uses_files = True

    def entries(self, shape: Shape) -> tuple[str, ...]:
        return command_entries(shape)

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        # The items are files already, see workspace.py.
        start(session)
        return session.scratch.room.collect(session.limits.output_bytes)


ABI = _WasiFiles()
