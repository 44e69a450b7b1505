"""ABI `wasi`: a preview1 command, the shard on stdin, the result from stdout."""

from wasmtime import ExitTrap

from .abi import Session
from .failure import Failure
from .shape import COMMAND_ENTRY, Shape


class _Wasi:
    name = "wasi"
    rank = 10
    wants = "a command: `_start` () -> ()"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        return command_entries(shape)

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        # The shard itself is already the file behind stdin, see wasi.py.
        start(session)
        return stdout_of(session)


def stdout_of(session: Session) -> bytes:
    """Return what was written to stdout; raises Failure for more than the limit."""
    output = session.scratch.read_stdout(session.limits.output_bytes + 1)
    if len(output) > session.limits.output_bytes:
        raise Failure(
            "output",
            f"The command wrote more than the limit of {session.limits.output_bytes} bytes; "
            "use smaller shards or a higher limit",
        )
    return output


def command_entries(shape: Shape) -> tuple[str, ...]:
    """Return the entry of a command; empty if the module isn't a command."""
    return (COMMAND_ENTRY,) if shape.has(COMMAND_ENTRY, "func", "() -> ()") else ()


def start(session: Session) -> None:
    """Run a command to its end; raises Failure for an exit code that is not 0."""
    try:
        session.function(COMMAND_ENTRY)(session.store)
    except ExitTrap as exit_trap:
        if exit_trap.code != 0:
            said = session.scratch.stderr_text()
            raise Failure(
                f"exit: {exit_trap.code}",
                said or f"The command ended with exit code {exit_trap.code} and no message",
            ) from None


ABI = _Wasi()
