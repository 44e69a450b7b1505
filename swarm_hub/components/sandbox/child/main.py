"""The child's loop: take a request, do it, answer, in order, one at a time."""

import contextlib
import dataclasses
import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from .abi import registry
from .assemble import assemble
from .engine import Library, Spent, run
from .failure import Failure
from .fence import apply
from .inspect import inspect
from .keeping import keeps
from .kept import KeptCommand
from .limits import MovingLimits, confine, give_back_memory
from .scratch import Scratch
from .variants import PLAIN
from .wire import QUIET_BYTES_MAX, Decoder, Frame, Used, encode_head, encode_header

# The hub is trusted by its child; this only keeps a broken hub from filling the memory.
_BODY_BYTES_MAX = 2**31
# Answers up to this size go out in one system call.
_JOIN_BYTES_MAX = 64 * 1024
# The hub is woken for this many small answers at most, or for those of so much time: it has to fill
# this process up before it has nothing to do.
_QUIET_MAX = 7
_QUIET_S = 0.002
_OK = encode_header({"code": "ok"})
_DROPPED = encode_header({"code": "dropped"})


def main(link: int, quiet: int, parent_pid: int) -> None:
    """Serve the hub on these inherited sockets until the first is closed."""
    # Everything is imported before the limits and the fence: an import reads files, and may
    # write compiled Python.
    registry()
    confine(parent_pid)
    server = _Server(socket.socket(fileno=link), socket.socket(fileno=quiet))
    # End of file means that the hub has died or is done; nothing is left to clean up.
    with contextlib.suppress(ConnectionError, EOFError):
        server.serve()
    # Threads of the runtime may still exist; they do nothing worth waiting for.
    os._exit(0)


class _Server:
    def __init__(self, link: socket.socket, quiet: socket.socket) -> None:
        self._link = link
        # The hub does not wait at this one. It looks here when something comes by the other, when a
        # shard takes long, and when this process has died.
        self._quiet = quiet
        self._quiet_answers = 0
        self._quiet_s = 0.0
        self._decoder = Decoder()
        self._waiting: deque[Frame] = deque()
        self._dropped: set[int] = set()
        self._library = Library()
        self._limits = MovingLimits()
        self._scratch = Scratch()
        self._kept = KeptCommand(self._library.frames, self._scratch)

    def serve(self) -> None:
        # The first module must not pay for the engine.
        self._library.home(PLAIN)
        fence = apply(self._scratch.directory)
        self._answer(self._link, 0, _OK, json.dumps(dataclasses.asdict(fence)).encode(), Used())
        while True:
            while not self._waiting:
                self._read(block=True)
            self._serve_one(self._waiting.popleft())

    def _serve_one(self, frame: Frame) -> None:
        answer, output, used = self._handle(frame)
        self._decoder.give_back(frame.body)
        # What is behind it is read before the next begins, as it may be a drop.
        self._read(block=False)
        self._quiet_s += used.wall_s
        if (
            self._waiting
            and len(output) <= QUIET_BYTES_MAX
            and self._quiet_answers < _QUIET_MAX
            and self._quiet_s < _QUIET_S
        ):
            self._quiet_answers += 1
            self._answer(self._quiet, frame.number, answer, output, used)
        else:
            self._quiet_answers, self._quiet_s = 0, 0.0
            self._answer(self._link, frame.number, answer, output, used)

    def _read(self, *, block: bool) -> None:
        try:
            with self._decoder.space() as space:
                size_bytes = self._link.recv_into(space, 0, 0 if block else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if size_bytes == 0:
            raise EOFError
        self._decoder.filled(size_bytes)
        while (frame := self._decoder.take(_BODY_BYTES_MAX)) is not None:
            if frame.header["op"] == "drop":
                self._dropped.update(frame.header["ids"])
            else:
                self._waiting.append(frame)

    @staticmethod
    def _answer(link: socket.socket, number: int, header: bytes, body: bytes, used: Used) -> None:
        head = encode_head(number, header, len(body), used)
        if len(body) <= _JOIN_BYTES_MAX:
            link.sendall(head + body)
            return
        link.sendall(head)
        link.sendall(body)

    def _handle(self, frame: Frame) -> tuple[bytes, bytes, Used]:
        number, request, body, _ = frame
        if number in self._dropped:
            self._dropped.discard(number)
            return _DROPPED, b"", Used()
        failure: Failure | None = None
        spent = Spent()
        output = b""
        try:
            self._limits.allow(self._memory_for(request, len(body)), request["time"])
            output = self._do(request, body, spent)
        except Failure as error:
            failure = error
        except MemoryError:
            failure = Failure(
                "memory", "The sandbox ran out of memory; use smaller shards or a higher limit"
            )
        # A drop that came while its shard was running has no effect.
        self._dropped.discard(number)
        used = Used(spent.wall_s, spent.cpu_s, spent.peak_memory_bytes, spent.fuel)
        return _header(failure, spent.said), output, used

    @staticmethod
    def _memory_for(request: Mapping[str, Any], body_bytes: int) -> int:
        # A body is in memory as a frame and as its copy, an output as the result and as the answer.
        return int(request["memory"]) + 3 * body_bytes + 2 * int(request.get("output", 0))

    def _do(self, request: Mapping[str, Any], given: bytes | bytearray, spent: Spent) -> bytes:
        if request["op"] == "run":
            return self._run(request, given, spent)
        body = bytes(given)
        match request["op"]:
            case "load":
                variant = request["variant"]
                self._library.keep(request["key"], self._library.load(body, variant))
                return b""
            case "compile":
                try:
                    compiled = self._library.compile(body, request["variant"])
                    module = self._library.link(compiled, request["variant"])
                    if request["keep"]:
                        self._library.keep(request["key"], module)
                    return bytes(compiled.serialize())
                finally:
                    give_back_memory()
            case "inspect":
                try:
                    return inspect(self._library, body)
                finally:
                    give_back_memory()
            case "assemble":
                try:
                    return assemble(body)
                finally:
                    give_back_memory()
            case unknown:
                raise ValueError(f"the hub sent an unknown request {unknown!r}")

    def _run(self, request: Mapping[str, Any], body: bytes | bytearray, spent: Spent) -> bytes:
        module = self._library.find(request["key"])
        if not keeps(request["abi"], deterministic=module.home.metered, fuel=request["fuel"]):
            self._kept.end()
            return run(module, request, body, self._scratch, spent)
        return self._kept.run(
            request,
            body,
            lambda whole: run(module, request, b"", self._scratch, whole),
            spent,
        )


def _header(failure: Failure | None, said: str) -> bytes:
    """Return the code of an answer, with what failed and what a command wrote to its stderr."""
    if failure is None:
        return encode_header({"code": "ok", "text": said}) if said else _OK
    text = failure.text
    if said and said != text:
        text = f"{text}\nIts stderr: {said}"
    return encode_header({"code": failure.code, "text": text})
