"""The descriptor by which a command reads its shards and answers each of them.

It is a socket to the command: WASI has calls for sockets, no module that runs here has any, and
programs in most languages can read and write one. All of them are the same descriptor, whatever its
number. The frames are described in docs/protocol.md, "Frames of a command".
"""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from wasmtime import Caller, FuncType, Linker, Memory, ValType

from .failure import Failure
from .keeping import SEED_BYTES
from .shape import WASI_MODULE

_SHARD = struct.Struct("<I")
_ANSWER = struct.Struct("<iI")
_VECTOR = struct.Struct("<II")
# More pieces in one call than any libc sends.
_VECTORS_MAX = 1024

_ERRNO_OK, _ERRNO_FAULT, _ERRNO_INVAL, _ERRNO_NOTSOCK = 0, 21, 28, 57
_NEVER = (0.0, 0.0)


@dataclass(slots=True)
class Turn:
    """One shard on its way through a command: what it reads, what it answers and what that took."""

    body: bytes | bytearray
    output_bytes: int
    code: int | None = None
    output: bytes = b""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int | None = None
    _unread: list[memoryview] = field(default_factory=list)
    _said: bytearray = field(default_factory=bytearray)
    _since: tuple[float, float] = _NEVER

    @property
    def is_begun(self) -> bool:
        """Whether a command took it."""
        return self._since != _NEVER

    def begin(self) -> None:
        """Make its frame ready to be read; its time counts from here."""
        self._unread = [
            memoryview(_SHARD.pack(len(self.body) - SEED_BYTES)),
            memoryview(self.body),
        ]
        self._since = time.perf_counter(), time.thread_time()

    def take(self, size_bytes: int) -> memoryview:
        """Return the next bytes of its frame, at most so many; none when all are read."""
        while self._unread and not self._unread[0]:
            self._unread.pop(0)
        if not self._unread:
            return memoryview(b"")
        piece = self._unread[0][:size_bytes]
        self._unread[0] = self._unread[0][len(piece) :]
        return piece

    def hear(self, piece: bytes) -> None:
        """Take bytes of the answer; raises Failure beyond its limit."""
        self._said += piece
        if len(self._said) < _ANSWER.size:
            return
        code, size_bytes = _ANSWER.unpack_from(self._said)
        have = len(self._said) - _ANSWER.size
        if size_bytes > self.output_bytes:
            raise Failure(
                "output",
                f"The command answered {size_bytes} bytes, more than the limit of "
                f"{self.output_bytes}; use smaller shards or a higher limit",
            )
        if have > size_bytes:
            raise Failure("bad_answer", "The command wrote more than one answer to a shard")
        if have == size_bytes:
            self.output, self.code = bytes(self._said[_ANSWER.size :]), code
            self._said.clear()

    def end(self, memory_bytes: int) -> None:
        """Note what it took."""
        self.close()
        self.wall_s = time.perf_counter() - self._since[0]
        self.cpu_s = time.thread_time() - self._since[1]
        self.memory_bytes = memory_bytes

    def close(self) -> None:
        """Let go of the body, whose memory the next one is read into."""
        for view in self._unread:
            view.release()
        self._unread.clear()

    def result(self, said: str) -> bytes:
        """Return the answer; raises Failure for one that says so, and where there is none."""
        if self.code is None:
            raise Failure("no_answer", "The command ended before it had answered its shard")
        if self.code != 0:
            told = said or f"The command answered with code {self.code} and no message"
            raise Failure(f"exit: {self.code}", told)
        return self.output


class Frames:
    """What a command reads and writes at its socket; one for all engines of this process."""

    def __init__(self) -> None:
        # Gives the next shard when a command wants one, and gets each that was answered.
        self._next: Callable[[], Turn | None] | None = None
        self._answered: Callable[[Turn], None] = _ignore
        self._turn: Turn | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody gives shards to the command."""
        return self._next is not None

    def open(
        self, next_turn: Callable[[], Turn | None], answered: Callable[[Turn], None] | None = None
    ) -> None:
        """Have a command that is started next read these shards, until there are none."""
        self._next, self._answered, self._turn = next_turn, answered or _ignore, None

    def close(self) -> None:
        """Let no command read or write until it is opened again."""
        self._next, self._turn = None, None

    def define(self, linker: Linker) -> None:
        """Shadow `sock_recv` and `sock_send`; WASI must already be defined."""
        linker.allow_shadowing = True
        i32 = ValType.i32
        linker.define_func(
            WASI_MODULE, "sock_recv", FuncType([i32()] * 6, [i32()]), self._recv,
            access_caller=True,
        )  # fmt: skip
        linker.define_func(
            WASI_MODULE, "sock_send", FuncType([i32()] * 5, [i32()]), self._send,
            access_caller=True,
        )  # fmt: skip
        linker.allow_shadowing = False

    def _recv(
        self, caller: Caller, _fd: int, vectors: int, n: int, _flags: int, size_at: int, out_at: int
    ) -> int:
        if self._next is None:
            return _ERRNO_NOTSOCK
        memory = caller.get("memory")
        if not isinstance(memory, Memory):
            return _ERRNO_FAULT
        if self._turn is None or self._turn.code is not None:
            self._turn = self._next()
            if self._turn is not None:
                self._turn.begin()
        read_bytes = 0
        found = _vectors(caller, memory, vectors, n)
        if found is None:
            return _ERRNO_INVAL
        for at, size_bytes in found:
            while size_bytes and self._turn is not None and (piece := self._turn.take(size_bytes)):
                if not _fits(caller, memory, at, len(piece)):
                    return _ERRNO_FAULT
                memory.write(caller, bytes(piece), at)
                at, size_bytes = at + len(piece), size_bytes - len(piece)
                read_bytes += len(piece)
        return _told(caller, memory, ((size_at, read_bytes, 4), (out_at, 0, 2)))

    def _send(
        self, caller: Caller, _fd: int, vectors: int, n: int, _flags: int, size_at: int
    ) -> int:
        if self._next is None:
            return _ERRNO_NOTSOCK
        memory, turn = caller.get("memory"), self._turn
        if not isinstance(memory, Memory):
            return _ERRNO_FAULT
        if turn is None or turn.code is not None:
            # There is no shard that this could be the answer to.
            return _ERRNO_INVAL
        found = _vectors(caller, memory, vectors, n)
        if found is None:
            return _ERRNO_INVAL
        sent_bytes = 0
        for at, size_bytes in found:
            if not _fits(caller, memory, at, size_bytes):
                return _ERRNO_FAULT
            turn.hear(bytes(memory.read(caller, at, at + size_bytes)))
            sent_bytes += size_bytes
        if (errno := _told(caller, memory, ((size_at, sent_bytes, 4),))) != _ERRNO_OK:
            return errno
        if turn.code is not None:
            turn.end(memory.data_len(caller))
            self._answered(turn)
        return _ERRNO_OK


def _ignore(_turn: Turn) -> None:
    pass


def _vectors(caller: Caller, memory: Memory, at: int, n: int) -> list[tuple[int, int]] | None:
    at, n = at & 0xFFFF_FFFF, n & 0xFFFF_FFFF
    if n > _VECTORS_MAX or not _fits(caller, memory, at, n * _VECTOR.size):
        return None
    raw = bytes(memory.read(caller, at, at + n * _VECTOR.size))
    return list(_VECTOR.iter_unpack(raw))


def _fits(caller: Caller, memory: Memory, at: int, size_bytes: int) -> bool:
    return at + size_bytes <= memory.data_len(caller)


def _told(caller: Caller, memory: Memory, values: tuple[tuple[int, int, int], ...]) -> int:
    for at, value, size_bytes in values:
        at &= 0xFFFF_FFFF
        if not _fits(caller, memory, at, size_bytes):
            return _ERRNO_FAULT
        memory.write(caller, value.to_bytes(size_bytes, "little"), at)
    return _ERRNO_OK
