"""What native code in a child would try to act outside; it runs within a fence and without.

As a script it prints what each attempt gave in a process without a fence: 0, or an errno. Within a
child it is the beginning of an abi, see test_fence.py.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import stat
import struct
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
ON_ARM = os.uname().machine == "aarch64"
ADDRESS = b"\0swarm-hub-fence-probe"
PAGE_BYTES = 4096

# Numbers of the calls on x86_64 and aarch64; None where there is none.
SENDTO, UTIME, UTIMES, FUTIMESAT, UTIMENSAT = (44, 206), (132,), (235,), (261,), (280, 88)
SYNC, SYNCFS, MLOCK, MLOCK2, MLOCKALL = (162, 81), (306, 267), (149, 228), (325, 284), (151, 230)
STATFS, FSTATFS, FCNTL, IOCTL, SOCKETPAIR = (137, 43), (138, 44), (72, 25), (16, 29), (53, 199)
OPENAT2 = (437, 437)


def syscall(numbers: tuple[int, ...], *arguments: object) -> int:
    """Make a system call; returns 0 or the errno, ENOSYS where the machine has none such."""
    if ON_ARM and len(numbers) < 2:
        return errno.ENOSYS
    result = LIBC.syscall(ctypes.c_long(numbers[ON_ARM]), *arguments)
    return 0 if result >= 0 else ctypes.get_errno()


def private(name: str) -> bytes:
    """Return the path of a file that was just made in the child's own directory."""
    path = f"room.{os.getpid()}/{name}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    return path.encode()


def link() -> int:
    """Return the socket to the hub, or in the process without a fence its own."""
    # It has the number that it had in the hub, which may have many open.
    for descriptor in range(3, 65_536):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                return descriptor
        except OSError:
            continue
    raise RuntimeError("there is no socket")


def fcntl(command: int, argument: object) -> int:
    return syscall(FCNTL, link(), command, argument)


def lease() -> int:
    descriptor = os.open(private("lease"), os.O_WRONLY)
    try:
        return syscall(FCNTL, descriptor, 1024, 1)
    finally:
        os.close(descriptor)


def ioctl(request: int) -> int:
    return syscall(IOCTL, link(), request, struct.pack("=i", os.getpid()))


def send_to_an_address() -> int:
    address = struct.pack("=H", socket.AF_UNIX) + ADDRESS
    return syscall(SENDTO, link(), b"x", ctypes.c_size_t(0), 0, address, len(address))


def page() -> ctypes.c_void_p:
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(MEMORY)))


def lock_all() -> int:
    found = syscall(MLOCKALL, 2)  # what is mapped later
    LIBC.munlockall()
    return found


def map_locked() -> int:
    LIBC.mmap.restype = ctypes.c_void_p
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000
    arguments = (ctypes.c_size_t(PAGE_BYTES), mmap.PROT_READ, flags, -1, ctypes.c_long(0))
    mapped = LIBC.mmap(None, *arguments)
    return ctypes.get_errno() if mapped == ctypes.c_void_p(-1).value else 0


MEMORY = mmap.mmap(-1, PAGE_BYTES)
AT_CWD = -100

ATTEMPTS: dict[str, Callable[[], int]] = {
    "fcntl F_SETOWN": lambda: fcntl(8, os.getpid()),
    "fcntl F_SETOWN_EX": lambda: fcntl(15, struct.pack("=ii", 1, os.getpid())),
    "fcntl F_SETSIG": lambda: fcntl(10, 10),
    "fcntl F_SETLEASE": lease,
    "ioctl FIOSETOWN": lambda: ioctl(0x8901),
    "ioctl SIOCSPGRP": lambda: ioctl(0x8902),
    "socketpair": lambda: syscall(SOCKETPAIR, 1, 1, 0, ctypes.create_string_buffer(8)),
    "sendto an address": send_to_an_address,
    "utime": lambda: syscall(UTIME, private("utime"), None),
    "utimes": lambda: syscall(UTIMES, private("utimes"), None),
    "futimesat": lambda: syscall(FUTIMESAT, AT_CWD, private("futimesat"), None),
    "utimensat": lambda: syscall(UTIMENSAT, AT_CWD, private("utimensat"), None, 0),
    "sync": lambda: syscall(SYNC),
    "syncfs": lambda: syscall(SYNCFS, os.open(private("syncfs"), os.O_RDONLY)),
    "mlock": lambda: syscall(MLOCK, page(), ctypes.c_size_t(PAGE_BYTES)),
    "mlock2": lambda: syscall(MLOCK2, page(), ctypes.c_size_t(PAGE_BYTES), 0),
    "mlockall": lock_all,
    "mmap MAP_LOCKED": map_locked,
    "statfs": lambda: syscall(STATFS, b"/", ctypes.create_string_buffer(256)),
    "fstatfs": lambda: syscall(FSTATFS, link(), ctypes.create_string_buffer(256)),
    "openat2": lambda: syscall(
        OPENAT2, AT_CWD, private("openat2"), struct.pack("=QQQ", os.O_RDONLY, 0, 0),
        ctypes.c_size_t(24),
    ),
}  # fmt: skip


def capabilities() -> list[int]:
    """Return what is held: effective, permitted, inheritable, bounding and ambient ones."""
    sets = ctypes.create_string_buffer(24)
    LIBC.capget(struct.pack("=Ii", 0x20080522, 0), sets)
    low = struct.unpack("=6I", sets.raw)
    held = [low[which] | low[which + 3] << 32 for which in range(3)]
    bounding = sum(1 << each for each in range(64) if LIBC.prctl(23, each, 0, 0, 0) == 1)
    ambient = sum(1 << each for each in range(64) if LIBC.prctl(47, 1, each, 0, 0) == 1)
    return [*held, bounding, ambient]


def report() -> str:
    """Try everything; returns JSON of (attempts, capabilities)."""
    return json.dumps([{name: attempt() for name, attempt in ATTEMPTS.items()}, capabilities()])


if __name__ == "__main__":
    os.mkdir(f"room.{os.getpid()}")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(ADDRESS)
        print(report())
