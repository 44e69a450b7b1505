"""The fence: what the kernel refuses this process from now on, and which parts are unavailable.

It is put up when everything is imported and before the first module is seen. Nothing here needs
root; a kernel or container that does not offer a part is reported, never a failure.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import capabilities, landlock, seccomp
from .libc import LIBC, check

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2


@dataclass(frozen=True, slots=True)
class Report:
    """The parts in force with what they cover, and the others with the reason."""

    in_force: dict[str, str]
    absent: dict[str, str]


class _Unavailable(Exception):
    """This part is not attempted here."""


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def apply(private: str | None) -> Report:
    """Put up the fence; this directory stays open for reading and writing files.

    It applies to the calling thread and those it starts, so that must be the only thread.
    """
    report = Report({}, {})
    # Counted first, because later the directory of threads can no longer be listed.
    others = _other_threads()
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("no_new_privs", _no_new_privileges),
        ("capabilities", lambda: _capabilities(others)),
        ("landlock", lambda: _landlock(private, others)),
        ("seccomp", lambda: _seccomp(others)),
    )
    for name, put_up in parts:
        try:
            report.in_force[name] = put_up()
        except _Unavailable as reason:
            report.absent[name] = str(reason)
        except OSError as err:
            report.absent[name] = f"the kernel says: {err.strerror}"
    return report


def is_android() -> bool:
    """Recognise Android without the environment, which a child does not have."""
    return (
        sys.platform == "android"
        or hasattr(sys, "getandroidapilevel")
        or os.path.exists("/system/build.prop")
    )


def _no_new_privileges() -> str:
    check(LIBC.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    return "set"


def _capabilities(other_threads: int) -> str:
    _refuse_threads(other_threads)
    return capabilities.drop()


def _landlock(private: str | None, other_threads: int) -> str:
    if is_android():
        # The filter of Android's own app sandbox kills any process that asks for it.
        raise _Unavailable("Android ends an app that asks for it")
    _refuse_threads(other_threads)
    return landlock.restrict(private)


def _seccomp(other_threads: int) -> str:
    machine = os.uname().machine
    if machine not in seccomp.MACHINES or sys.maxsize < 2**32:
        bits = 64 if sys.maxsize > 2**32 else 32
        raise _Unavailable(f"no table of system calls for {machine} with {bits} bits")
    _refuse_threads(other_threads)
    code = seccomp.program(machine, os.getpid())
    filtering = _Program(len(code) // 8, code)
    # prctl rather than seccomp(2), which Android's filters do not allow everywhere.
    check(
        LIBC.prctl(
            _PR_SET_SECCOMP,
            ctypes.c_ulong(_SECCOMP_MODE_FILTER),
            ctypes.byref(filtering),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )
    )
    return machine


def _other_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task")) - 1
    except OSError:
        # Without /proc nobody can tell; the child itself starts none before the fence.
        return 0


def _refuse_threads(others: int) -> None:
    if others:
        raise _Unavailable(f"other threads run already: {others}")
