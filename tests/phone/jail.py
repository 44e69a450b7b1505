"""A program that runs a command as Android would run it in Termux, as far as Linux can play that.

    python jail.py FOLDER [--uid N] [--venv VENV] [--cgroup GROUP | --data MIB] -- COMMAND…

FOLDER/files is /data/data/com.termux/files, and belongs to the app; FOLDER/root is a mount point.
The command replaces this program, so it has its process id. Needs root, and Python alone.
"""

import argparse
import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TERMUX = "/data/data/com.termux/files"
VENV = "/venv"
SOURCE = "/source"
ANDROID = "/android"
_ROOT = Path(__file__).parents[2]
# Android kills background processes beyond 32 of all apps; here it is all tasks of the app's user.
TASKS_MAX = 32
DENIED = ("diskstats", "loadavg", "stat", "uptime", "version", "vmstat")
_DEVICES = ("full", "null", "random", "urandom", "zero")
_SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "usr")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_RDONLY, _NOSUID, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 32, 4096, 16384, 1 << 18


@dataclass(frozen=True)
class _Machine:
    """What seccomp calls this machine, and the numbers of its system calls."""

    audit: int
    socket: int
    # An app gets EACCES.
    hard_links: Sequence[int]
    # An app is ended with SIGSYS: pivot_root, chroot, mount, umount2, unshare, setns.
    privileged: Sequence[int]


MACHINES = {
    "x86_64": _Machine(0xC000003E, 41, (86, 265), (155, 161, 165, 166, 272, 308)),
    "aarch64": _Machine(0xC00000B7, 198, (37,), (41, 51, 40, 39, 97, 268)),
}
# io_uring and Landlock have the same numbers everywhere.
IO_URING_AND_LANDLOCK = (425, 426, 427, 444, 445, 446)
_AF_NETLINK = 16
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _TRAP, _EACCES = 0x7FFF0000, 0x00030000, 0x00050000 | 13
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def main() -> None:
    """Build the jail, go into it, and become the command."""
    options = _options()
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", flags=_PRIVATE | _REC)
    root = _built(options.folder, options.venv)
    if options.cgroup:
        Path(options.cgroup, "cgroup.procs").write_text("0")
    if options.data:
        resource.setrlimit(resource.RLIMIT_DATA, (options.data << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_NPROC, (TASKS_MAX,) * 2)
    os.chroot(root)
    os.chdir(f"{TERMUX}/home")
    os.setgroups([])
    os.setgid(options.uid)
    os.setuid(options.uid)
    # Neither the hub nor a child is shown more than an app is.
    _refuse_system_calls()
    environment = {
        "PATH": f"{TERMUX}/usr/bin:{VENV}/bin:/usr/bin:/bin",
        "HOME": f"{TERMUX}/home",
        "PREFIX": f"{TERMUX}/usr",
        "TMPDIR": f"{TERMUX}/usr/tmp",
        "LANG": "en_US.UTF-8",
        "TERMUX_VERSION": "0.119.0-beta.3",
        "PYTHONPATH": f"{ANDROID}:{SOURCE}",
        "PYTHONUNBUFFERED": "1",
        "JAIL_WITHOUT": options.without,
    }
    os.execvpe(options.command[0], options.command, environment)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--uid", type=int, default=10123)
    parser.add_argument("--venv", type=Path, default=Path(sys.prefix))
    parser.add_argument("--cgroup", default="", help="a group of memory to join")
    parser.add_argument("--data", type=int, default=0, help="MiB of data for each process")
    parser.add_argument("--without", default="", help="libraries, that can't be imported")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def _built(folder: Path, venv: Path) -> Path:
    """Mount what an app sees; returns its root."""
    root = folder / "root"
    _mount("tmpfs", root, "tmpfs", "mode=755,size=1m")
    for name in _SYSTEM:
        if (top := Path("/", name)).is_symlink():
            (root / name).symlink_to(top.readlink())
        elif top.is_dir():
            _show(top, root / name)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        _show(Path(sys.base_prefix), root / sys.base_prefix[1:])
    _show(venv.resolve(), root / VENV[1:])
    _show(_ROOT / "swarm_hub", root / SOURCE[1:] / "swarm_hub")
    _show(Path(__file__).parent / "android", root / ANDROID[1:])
    _show(folder / "files", root / TERMUX[1:], writable=True)
    _make_proc(root)
    _make_devices(root / "dev")
    # By this a child of the sandbox, whose Python is that of Linux, sees where it is.
    (root / "system").mkdir()
    (root / "system" / "build.prop").touch()
    for closed in ("sys", "tmp", "var/tmp", "dev/shm"):
        (root / closed).mkdir(parents=True)
        (root / closed).chmod(0)
    _mount("none", root, flags=_REMOUNT | _BIND | _RDONLY | _NOSUID)
    return root


def _make_proc(root: Path) -> None:
    proc = root / "proc"
    proc.mkdir()
    # An app sees its own processes.
    _mount("proc", proc, "proc", "hidepid=2")
    denied = root / "denied"
    denied.touch(mode=0)
    for name in DENIED:
        _mount(denied, proc / name, flags=_BIND)


def _make_devices(folder: Path) -> None:
    folder.mkdir()
    for name in _DEVICES:
        (folder / name).touch()
        _mount(Path("/dev", name), folder / name, flags=_BIND)
    (folder / "fd").symlink_to("/proc/self/fd")


def _show(outside: Path, inside: Path, *, writable: bool = False) -> None:
    inside.mkdir(parents=True)
    _mount(outside, inside, flags=_BIND | _REC)
    if not writable:
        _mount("none", inside, flags=_REMOUNT | _BIND | _RDONLY | _NOSUID)


def _mount(
    source: Path | str, target: Path | str, kind: str = "none", data: str = "", flags: int = 0
) -> None:
    arguments = [str(each).encode() for each in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def _refuse_system_calls() -> None:
    code = b"".join(struct.pack("=HBBI", *each) for each in _filter(MACHINES[platform.machine()]))
    program = _Program(len(code) // 8, code)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0), "seccomp")


def _filter(machine: _Machine) -> Iterator[tuple[int, int, int, int]]:
    """Yield (code, jump if true, jump if false, value) of a program for struct seccomp_data."""
    yield _LOAD, 0, 0, 4
    yield _EQUAL, 1, 0, machine.audit
    yield _RETURN, 0, 0, _TRAP
    yield _LOAD, 0, 0, 0
    for numbers, verdict in (
        ((*IO_URING_AND_LANDLOCK, *machine.privileged), _TRAP),
        (machine.hard_links, _EACCES),
    ):
        for number in numbers:
            yield _EQUAL, 0, 1, number
            yield _RETURN, 0, 0, verdict
    yield _EQUAL, 0, 3, machine.socket
    yield _LOAD, 0, 0, 16
    yield _EQUAL, 0, 1, _AF_NETLINK
    yield _RETURN, 0, 0, _EACCES
    yield _RETURN, 0, 0, _ALLOW


def _check(failed: int, what: str) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
