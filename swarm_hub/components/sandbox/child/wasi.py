"""The WASI preview1 context of a run: no network, nothing inherited."""

import hashlib
from collections.abc import Sequence

from wasmtime import (
    Caller,
    FuncType,
    Linker,
    Memory,
    Store,
    ValType,
    WasiConfig,
)

from .scratch import Scratch
from .shape import WASI_MODULE
from .workspace import Directory

_ERRNO_OK = 0
_ERRNO_FAULT = 21
# 2000-01-01T00:00:00Z: a plausible date for programs that refuse the year 1970.
_CLOCK_START_NS = 946_684_800 * 10**9
_CLOCK_STEP_NS = 1_000


def context(
    store: Store,
    scratch: Scratch,
    args: Sequence[str],
    env: Sequence[tuple[str, str]],
    directories: Sequence[Directory],
    *,
    logs: bool = False,
) -> None:
    """Give a store its stdin, stdout, stderr, arguments, environment and directories.

    What it writes to stdout is kept whole, or goes where stderr does if it `logs`.
    """
    config = WasiConfig()
    config.argv = ["module", *args]
    config.env = env
    config.stdin_file = scratch.stdin_path
    if logs:
        config.stdout_custom = scratch.hear_stderr
    else:
        config.stdout_file = scratch.stdout_path
    config.stderr_custom = scratch.hear_stderr
    for directory in directories:
        config.preopen_dir(directory.path, directory.guest_path, directory.is_writable)
    store.set_wasi(config)


class FixedSources:
    """A clock and randomness that are the same in every run, for deterministic jobs.

    wasmtime has no override for either in its WASI context, so the two functions are
    defined over it in the linker.
    """

    def __init__(self) -> None:
        self._now_ns = _CLOCK_START_NS
        self._drawn = 0

    def reset(self) -> None:
        """Start from the same point again."""
        self._now_ns = _CLOCK_START_NS
        self._drawn = 0

    def define(self, linker: Linker) -> None:
        """Shadow `clock_time_get` and `random_get`; WASI must already be defined."""
        linker.allow_shadowing = True
        i32, i64 = ValType.i32, ValType.i64
        linker.define_func(
            WASI_MODULE,
            "clock_time_get",
            FuncType([i32(), i64(), i32()], [i32()]),
            self._clock_time_get,
            access_caller=True,
        )
        linker.define_func(
            WASI_MODULE,
            "random_get",
            FuncType([i32(), i32()], [i32()]),
            self._random_get,
            access_caller=True,
        )
        linker.allow_shadowing = False

    def _clock_time_get(self, caller: Caller, _clock: int, _precision: int, at: int) -> int:
        self._now_ns += _CLOCK_STEP_NS
        return _write(caller, at, self._now_ns.to_bytes(8, "little"))

    def _random_get(self, caller: Caller, at: int, size: int) -> int:
        memory = caller.get("memory")
        if not isinstance(memory, Memory) or (size & 0xFFFF_FFFF) > memory.data_len(caller):
            return _ERRNO_FAULT
        seed = self._drawn.to_bytes(8, "little")
        self._drawn += 1
        return _write(caller, at, hashlib.shake_128(seed).digest(size & 0xFFFF_FFFF))


def _write(caller: Caller, at: int, value: bytes) -> int:
    memory = caller.get("memory")
    at &= 0xFFFF_FFFF
    if not isinstance(memory, Memory) or at + len(value) > memory.data_len(caller):
        return _ERRNO_FAULT
    if value:
        memory.write(caller, value, at)
    return _ERRNO_OK
