"""The child's loop: take a request, do it, answer, in order, one at a time."""

import contextlib
import dataclasses
import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

from wasmtime import WasmtimeError, wat2wasm

from .abi import registry
from .engine import Library, Spent, run
from .failure import Failure
from .fence import apply
from .inspect import inspect
from .limits import MovingLimits, confine, give_back_memory
from .scratch import Scratch
from .variants import PLAIN
from .wire import Decoder, Frame, encode_head, encode_header

# The hub is trusted by its child; this only keeps a broken hub from filling the memory.
_BODY_BYTES_MAX = 2**31
# Answers up to this size go out in one system call.
_JOIN_BYTES_MAX = 64 * 1024


def main(descriptor: int, parent_pid: int) -> None:
    """Serve the hub on this inherited socket until it is closed."""
    # Everything is imported before the limits and the fence: an import reads files, and may
    # write compiled Python.
    registry()
    confine(parent_pid)
    server = _Server(socket.socket(fileno=descriptor))
    # End of file means that the hub has died or is done; nothing is left to clean up.
    with contextlib.suppress(ConnectionError, EOFError):
        server.serve()
    # Threads of the runtime may still exist; they do nothing worth waiting for.
    os._exit(0)


class _Server:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._decoder = Decoder()
        self._waiting: deque[Frame] = deque()
        self._dropped: set[int] = set()
        self._library = Library()
        self._limits = MovingLimits()
        self._scratch = Scratch()

    def serve(self) -> None:
        # The first module must not pay for the engine.
        self._library.home(PLAIN)
        fence = apply(self._scratch.directory)
        self._answer(0, {"code": "ok"}, json.dumps(dataclasses.asdict(fence)).encode())
        while True:
            self._serve_one(self._next())

    def _serve_one(self, frame: Frame) -> None:
        answer, output = self._handle(frame)
        self._answer(frame.number, answer, output)

    def _next(self) -> Frame:
        """Return the next request; those behind it are read too, as one may be a drop."""
        self._read(block=not self._waiting)
        while not self._waiting:
            self._read(block=True)
        return self._waiting.popleft()

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

    def _answer(self, number: int, answer: dict[str, Any], body: bytes) -> None:
        head = encode_head(number, encode_header(answer), len(body))
        if len(body) <= _JOIN_BYTES_MAX:
            self._link.sendall(head + body)
            return
        self._link.sendall(head)
        self._link.sendall(body)

    def _handle(self, frame: Frame) -> tuple[dict[str, Any], bytes]:
        number, request, body = frame
        if number in self._dropped:
            self._dropped.discard(number)
            return {"code": "dropped"}, b""
        answer: dict[str, Any] = {"code": "ok"}
        spent = Spent()
        output = b""
        try:
            self._limits.allow(self._memory_for(request, len(body)), request["time"])
            output = self._do(request, body, spent)
        except Failure as failure:
            answer["code"], answer["text"] = failure.code, failure.text
        except MemoryError:
            answer["code"] = "memory"
            answer["text"] = "The sandbox ran out of memory; use smaller shards or a higher limit"
        if spent.said and spent.said != answer.get("text"):
            before = f"{answer['text']}\nIts stderr: " if "text" in answer else ""
            answer["text"] = f"{before}{spent.said}"
        # A drop that came while its shard was running has no effect.
        self._dropped.discard(number)
        answer["wall"], answer["cpu"] = spent.wall_s, spent.cpu_s
        answer["peak"], answer["fuel"] = spent.peak_memory_bytes, spent.fuel
        return answer, output

    @staticmethod
    def _memory_for(request: Mapping[str, Any], body_bytes: int) -> int:
        # A body is in memory as a frame and as its copy, an output as the result and as the answer.
        return int(request["memory"]) + 3 * body_bytes + 2 * int(request.get("output", 0))

    def _do(self, request: Mapping[str, Any], body: bytes, spent: Spent) -> bytes:
        match request["op"]:
            case "run":
                module = self._library.find(request["key"])
                return run(module, request, body, self._scratch, spent)
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
                    return bytes(wat2wasm(body))
                except WasmtimeError as err:
                    raise Failure("bad_module", f"The WAT text has an error:\n{err}") from None
            case unknown:
                raise ValueError(f"the hub sent an unknown request {unknown!r}")
