#!/usr/bin/python3.14
"""The first process of the aarch64 machine: a network, then a worker, whose log is the console."""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time

_FINIT_MODULE = 273
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP = 1
# What qemu gives to its one guest; the machine outside is 10.0.2.2, on the same network.
_ADDRESS, _MASK = "10.0.2.15", "255.255.255.0"
_TRIES = 5

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Prepare the machine and become the worker."""
    for kind, folder in (("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")):
        _libc.mount(kind.encode(), folder.encode(), kind.encode(), 0, None)
    for name in ("failover", "net_failover", "virtio_net"):
        with open(f"/modules/{name}.ko", "rb") as module:
            if _libc.syscall(_FINIT_MODULE, module.fileno(), b"", 0):
                print(f"{name}: {os.strerror(ctypes.get_errno())}", flush=True)
    _configure("lo", "127.0.0.1", "255.0.0.0")
    _configure("eth0", _ADDRESS, _MASK)
    os.environ.update(PATH="/usr/bin:/bin", HOME="/root", PYTHONPATH="/source:/site")
    sys.path[:0] = ["/source", "/site"]
    started = time.monotonic()
    print(f"machine: {' '.join(os.uname())}, Python {sys.version.split()[0]}", flush=True)
    print(f"fence: {_fence()}", flush=True)
    print(f"fence known after {time.monotonic() - started:.0f} s", flush=True)
    ended = subprocess.run([sys.executable, "-m", "swarm_hub", "run", "-c", "/worker"], check=False)
    print(f"worker: exit code {ended.returncode}", flush=True)
    os.sync()
    _libc.reboot(0x4321FEDC)


def _fence() -> str:
    from swarm_hub.cli.inspect import with_sandbox
    from swarm_hub.components.sandbox import Sandbox

    async def start_one(sandbox: Sandbox) -> str:
        await sandbox.assemble("(module)")
        return str(sandbox.stats().fence)

    tries: list[str] = []
    # Beside others' load the emulated machine may take too long for a child to start.
    while len(tries) < _TRIES:
        try:
            return asyncio.run(with_sandbox(start_one))
        except Exception as error:
            tries.append(repr(error))
    return tries[-1]


def _configure(interface: str, address: str, mask: str) -> None:
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
            fcntl.ioctl(asking, request, struct.pack("16s16s", name, _address(value)))
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sH14x", name, _UP))


def _address(text: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


if __name__ == "__main__":
    main()
