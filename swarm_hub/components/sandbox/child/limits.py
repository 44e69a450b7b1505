"""What the kernel enforces on this process, whatever the module or the compiler does."""

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_NICE = 5
_OPEN_FILES_MAX = 64

_TIME_S_MAX = 10**8

# What `bound_files` was told last; a system call costs as much as a tenth of a short call.
_files_bytes: int | None = None

# Python, wasmtime, its linkers and the native code of the modules that stay loaded.
_RUNTIME_BYTES = 128 * 1024 * 1024


def confine(parent_pid: int) -> None:
    """Apply the limits that never change; called once before any module is seen."""
    # Ctrl-C in a terminal is the hub's business. Python ignores SIGXFSZ at its start, but
    # here it has to end a command that floods its stdout.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if sys.platform in ("linux", "android"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The hub may have died before the previous call took effect.
        if os.getppid() != parent_pid:
            os._exit(1)
    # Some systems refuse to lower priorities or limits inside containers; the rest holds.
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES_MAX)
    # The fence refuses the calls that lock memory, but not mmap, which can too.
    _lower(resource.RLIMIT_MEMLOCK, 0)
    bound_files(0)


class MovingLimits:
    """The limits that move with each request; a system call only where a value changes."""

    def __init__(self) -> None:
        self._data_bytes = -1
        self._cpu_s = -1

    def allow(self, memory_bytes: int, time_s: float) -> None:
        """Allow this much memory on top of the runtime's, and this much CPU time from now."""
        cpu_s = math.ceil(time.process_time() + min(time_s, _TIME_S_MAX)) + 1
        if cpu_s != self._cpu_s:
            _soft(resource.RLIMIT_CPU, cpu_s)
            self._cpu_s = cpu_s
        data_bytes = _RUNTIME_BYTES + memory_bytes
        if data_bytes != self._data_bytes:
            _soft(resource.RLIMIT_DATA, data_bytes)
            self._data_bytes = data_bytes


def bound_files(size_bytes: int | None) -> None:
    """Let no file grow beyond this; a write past it is cut short, and the next one is deadly.

    None means as much as the owner of this machine allows a process.
    """
    global _files_bytes
    if size_bytes != _files_bytes:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        _soft(resource.RLIMIT_FSIZE, most if size_bytes is None else size_bytes)
        _files_bytes = size_bytes


def give_back_memory() -> None:
    """Return the memory a compilation freed to the system; glibc keeps it otherwise."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _soft(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, hard))


def _lower(which: int, value: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (value, value))
