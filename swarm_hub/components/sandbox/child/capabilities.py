"""The part of the fence that takes root's powers from a child whose hub was started as root."""

import ctypes
import os
import struct

from .libc import LIBC, check

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 24, 47
_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x2008_0522
_NUMBERS_MAX = 64
_SETS = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")


def drop() -> str:
    """Give up every capability of the calling thread, in each set; returns what was done.

    Raises OSError if the kernel does not allow it.
    """
    if not _any_held():
        return "none held"
    # Older kernels have no ambient set. Only who holds CAP_SETPCAP may empty the bounding set,
    # which matters to new programs alone; the first number past the last capability ends the list.
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    for number in range(_NUMBERS_MAX):
        if _prctl(_PR_CAPBSET_DROP, number) != 0:
            break
    check(LIBC.capset(struct.pack("=Ii", _VERSION_3, 0), bytes(24)))
    return "dropped"


def _any_held() -> bool:
    try:
        with open("/proc/self/status") as status:
            fields = (line.split() for line in status if line.startswith(_SETS))
            return any(int(value, 16) for _, value in fields)
    except OSError:
        return os.geteuid() == 0


def _prctl(option: int, argument: int) -> int:
    result: int = LIBC.prctl(option, *map(ctypes.c_ulong, (argument, 0, 0, 0)))
    return result
