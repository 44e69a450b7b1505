"""One way to run a kernel, in a process of its own that reports its CPU time for each run.

As a script it is that process, for Python and for the engines that are Python packages:
`contender.py cpython KERNEL`, `contender.py wasm3 FILE`, `contender.py wasmtime FILE SETTINGS`.
It answers a line `lo hi` with `CPU nanoseconds` and the result, as `kernels/native.c` does.
"""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Kernel = Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class Spent:
    """The CPU time of one run, and its result to compare."""

    cpu_s: float
    result: int


class Contender:
    """A process that runs a kernel again and again."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, lo: int, hi: int) -> Spent:
        """Run once; raises ContenderError with the last words of a process that ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            self._process.stdin.write(b"%d %d\n" % (lo, hi))
            self._process.stdin.flush()
            words = self._process.stdout.readline().split()
        except BrokenPipeError:
            words = []
        if not words:
            said = self._process.stderr.read().decode(errors="replace").strip()
            raise ContenderError(f"exit {self._process.wait()}: {said.splitlines()[-1:]}")
        return Spent(int(words[0]) / 1e9, int(words[1]))

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class ContenderError(Exception):
    """A contender can't run here."""


def in_python(*arguments: str) -> Contender:
    """Start this file as a contender."""
    return Contender(sys.executable, str(Path(__file__)), *arguments)


def _wasmtime(wasm: bytes, settings: dict[str, Any]) -> Callable[[], Kernel]:
    from wasmtime import Config, Engine, Func, Instance, Module, Store

    config = Config()
    for name, value in settings.items():
        setattr(config, name, value)
    engine = Engine(config)
    module = Module(engine, wasm)

    def prepare() -> Kernel:
        # Memory at other places each time, as which places they are changes the speed too.
        store = Store(engine)
        if settings.get("consume_fuel"):
            store.set_fuel(2**62)
        if settings.get("epoch_interruption"):
            store.set_epoch_deadline(2**62)
        function = Instance(store, module, []).exports(store)["map"]
        assert isinstance(function, Func)
        return lambda lo, hi: function(store, lo, hi)

    return prepare


def _wasm3(wasm: bytes) -> Callable[[], Kernel]:
    # An optional package without types; a run without it says so.
    wasm3 = importlib.import_module("wasm3")
    environment = wasm3.Environment()

    def prepare() -> Kernel:
        runtime = environment.new_runtime(1 << 20)
        runtime.load(environment.parse_module(wasm))
        function = runtime.find_function("map")

        def run(lo: int, hi: int) -> int:
            # The function does not keep its runtime alive.
            assert runtime
            return int(function(lo, hi))

        return run

    return prepare


def _python(name: str) -> Callable[[], Kernel]:
    from plain import KERNELS

    return lambda: KERNELS[name]


def _serve(prepare: Callable[[], Kernel]) -> None:
    for line in sys.stdin:
        lo, hi = map(int, line.split())
        kernel = prepare()
        started = time.thread_time_ns()
        result = kernel(lo, hi)
        print(time.thread_time_ns() - started, result, flush=True)


def _main(kind: str, what: str, settings: str = "{}") -> None:
    if kind == "cpython":
        _serve(_python(what))
    elif kind == "wasm3":
        _serve(_wasm3(Path(what).read_bytes()))
    else:
        _serve(_wasmtime(Path(what).read_bytes(), json.loads(settings)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
