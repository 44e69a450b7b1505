"""What runs a Python program in a sandbox, once for each shard: the head of a job's script.

It is read by CPython for WASI, whose socket gives shards and takes answers as docs/protocol.md says
under "Frames of a command". The program is run from its beginning for each shard, as `__main__` in
a fresh module, with the shard on stdin; what it prints is the result. What it imports stays
imported.
"""

import _socket
import functools
import io
import linecache
import random
import struct
import sys
import traceback
import types

_LENGTH = struct.Struct("<I")
_ANSWER = struct.Struct("<iI")
_SEED_BYTES = 8
_PIECE_BYTES = 1 << 20


class _Printed(io.BytesIO):
    """What a program printed, also once it has closed its stdout."""

    def close(self) -> None:
        """Stay open."""


def serve(name: str, source: str) -> None:
    """Answer shards until there are none any more."""
    # By family, kind and protocol, which are told, no question is asked about the descriptor.
    link = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, 3)
    # The program has a name of its own: at its path is this file.
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    arguments = [name, *sys.argv[1:]]
    while (head := _read(link, _LENGTH.size)) is not None:
        (size,) = _LENGTH.unpack(head)
        seed, shard = _read(link, _SEED_BYTES), _read(link, size)
        if seed is None or shard is None:
            return
        random.seed(int.from_bytes(seed, "little"))
        sys.argv = list(arguments)
        code, output = _run(name, source, shard)
        # What belongs to this shard's log is there before its answer.
        sys.stderr.flush()
        link.sendall(_ANSWER.pack(code, len(output)) + output)


def _run(name: str, source: str, shard: bytearray) -> tuple[int, bytes]:
    """Run the program on one shard; returns its exit code and what it printed."""
    printed = _Printed()
    sys.stdin = io.TextIOWrapper(io.BytesIO(shard), "utf-8")
    stdout = sys.stdout = io.TextIOWrapper(printed, "utf-8", newline="\n", write_through=True)
    main = types.ModuleType("__main__")
    main.__file__ = name
    sys.modules["__main__"] = main
    code = 0
    try:
        exec(_compiled(name, source), main.__dict__)  # noqa: S102
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException as error:
        # Without the lines of this file.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        traceback.print_exception(error)
        code = 1
    if not stdout.closed:
        stdout.flush()
    sys.stdout = sys.__stdout__
    return code, printed.getvalue()


@functools.cache
def _compiled(name: str, source: str) -> types.CodeType:
    return compile(source, name, "exec")


def _exit_code(ended: SystemExit) -> int:
    if ended.code is None:
        return 0
    if isinstance(ended.code, int):
        return ended.code & 0xFF
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _read(link: _socket.socket, size: int) -> bytearray | None:
    """Return that many bytes; None where there are no more."""
    body = bytearray(size)
    rest = memoryview(body)
    while rest:
        received = link.recv_into(rest[:_PIECE_BYTES])
        if not received:
            return None
        rest = rest[received:]
    return body
