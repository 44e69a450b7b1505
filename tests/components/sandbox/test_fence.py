"""The fence: the kernel refuses a child what no shard needs, and what is absent is told."""

import asyncio
import ctypes
import errno
import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.sandbox import launch as launching
from swarm_hub.components.sandbox.child import capabilities, fence, landlock, seccomp
from swarm_hub.components.sandbox.fence import Fence, parse_fence
from swarm_hub.components.sandbox.pool import Sandbox
from tests.helpers import modules
from tests.helpers.sandboxes import Bench, until

HERE = Path(launching.__file__).parent
NewSandbox = Callable[..., Awaitable[Sandbox]]

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X86, ARM = 0xC000003E, 0xC00000B7
PID = 4242


def verdict(machine: str, arch: int, number: int, *arguments: int) -> int:
    """Run the filter as the kernel does on one system call."""
    seen = struct.pack("=IIQ6Q", number, arch, 0, *(arguments + (0,) * (6 - len(arguments))))
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID)))
    accumulator = at = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", seen, value)
            case 0x54:
                accumulator &= value
            case 0x06:
                return value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


THREAD = 0x3D0F00  # what glibc asks for to start a thread
# Call and arguments, numbers on x86_64 and aarch64 (from the kernel's headers), verdict.
CALLS: list[tuple[str, tuple[int, ...], int | None, int | None, int]] = [
    ("read", (), 0, 63, ALLOW),
    ("write", (), 1, 64, ALLOW),
    ("mmap", (), 9, 222, ALLOW),
    ("mprotect", (), 10, 226, ALLOW),
    ("futex", (), 202, 98, ALLOW),
    ("openat", (), 257, 56, ALLOW),
    ("recvfrom", (), 45, 207, ALLOW),
    ("sendto", (), 44, 206, ALLOW),
    ("memfd_create", (), 319, 279, ALLOW),
    ("exit_group", (), 231, 94, ALLOW),
    ("rseq", (), 334, 293, ALLOW),
    ("futex_waitv", (), 449, 449, ALLOW),
    ("execve", (), 59, 221, KILL),
    ("execveat", (), 322, 281, KILL),
    ("ptrace", (), 101, 117, KILL),
    ("process_vm_writev", (), 311, 271, KILL),
    ("kexec_file_load", (), 320, 294, KILL),
    ("fork", (), 57, None, EPERM),
    ("socket", (), 41, 198, EPERM),
    ("connect", (), 42, 203, EPERM),
    ("open_by_handle_at", (), 304, 265, EPERM),
    ("mount", (), 165, 40, EPERM),
    ("unshare", (), 272, 97, EPERM),
    ("bpf", (), 321, 280, EPERM),
    ("userfaultfd", (), 323, 282, EPERM),
    ("chmod", (), 90, None, EPERM),
    ("fchmodat", (), 268, 53, EPERM),
    ("io_setup", (), 206, 0, EPERM),
    ("io_uring_setup", (), 425, 425, ENOSYS),
    ("pidfd_getfd", (), 438, 438, ENOSYS),
    ("clone3", (), 435, 435, ENOSYS),
    ("a call of a later kernel", (), 999, 999, ENOSYS),
    ("a call of x32", (), 0x40000000, 0x40000000, ENOSYS),
    ("clone of a thread", (THREAD,), 56, 220, ALLOW),
    ("clone of a process", (0x1200011,), 56, 220, EPERM),
    ("vfork by clone", (0x4111,), 56, 220, EPERM),
    ("clone of a thread in a new namespace", (THREAD | 0x10000000,), 56, 220, EPERM),
    ("kill oneself", (PID, 6), 62, 129, ALLOW),
    ("kill another", (PID + 1, 9), 62, 129, EPERM),
    ("kill the group", (0, 9), 62, 129, EPERM),
    ("kill everybody", (2**32 - 1, 9), 62, 129, EPERM),
    ("tgkill oneself", (PID, 5, 6), 234, 131, ALLOW),
    ("tgkill another", (1, 1, 9), 234, 131, EPERM),
    ("prctl: name a thread", (15,), 157, 167, ALLOW),
    ("prctl: outlive the hub", (1, 0), 157, 167, EPERM),
    ("own limits", (0, 7), 302, 261, ALLOW),
    ("limits of another", (1, 7), 302, 261, EPERM),
    ("ioctl: is it a terminal", (1, 0x5401), 16, 29, ALLOW),
    ("ioctl: type into a terminal", (1, 0x5412), 16, 29, EPERM),
    ("ioctl: FIOSETOWN", (1, 0x8901), 16, 29, EPERM),
    ("ioctl: SIOCSPGRP", (1, 0x8902), 16, 29, EPERM),
    ("fcntl: F_DUPFD_CLOEXEC", (1, 1030), 72, 25, ALLOW),
    ("fcntl: F_SETFL", (1, 4), 72, 25, ALLOW),
    ("fcntl: F_SETOWN", (1, 8), 72, 25, EPERM),
    ("fcntl: F_SETOWN, high half set", (1, 2**32 | 8), 72, 25, EPERM),
    ("fcntl: F_SETOWN_EX", (1, 15), 72, 25, EPERM),
    ("fcntl: F_SETSIG", (1, 10), 72, 25, EPERM),
    ("fcntl: F_SETLEASE", (1, 1024), 72, 25, EPERM),
    ("fcntl: F_NOTIFY", (1, 1026), 72, 25, EPERM),
    ("fcntl: F_SETDELEG", (1, 1040), 72, 25, EPERM),
    ("sendto an address below 4 GiB", (1, 1, 1, 0, 0x1000), 44, 206, EPERM),
    ("sendto an address", (1, 1, 1, 0, 0x7F << 32), 44, 206, EPERM),
    ("socketpair", (), 53, 199, EPERM),
    ("utime", (), 132, None, EPERM),
    ("utimes", (), 235, None, EPERM),
    ("futimesat", (), 261, None, EPERM),
    ("utimensat", (), 280, 88, EPERM),
    ("sync", (), 162, 81, EPERM),
    ("syncfs", (), 306, 267, EPERM),
    ("mlock", (), 149, 228, EPERM),
    ("mlock2", (), 325, 284, EPERM),
    ("mlockall", (), 151, 230, EPERM),
    ("statfs", (), 137, 43, EPERM),
    ("fstatfs", (), 138, 44, EPERM),
    ("openat2", (), 437, 437, ENOSYS),
]


@pytest.mark.parametrize("call", CALLS, ids=[call[0] for call in CALLS])
def test_the_filter_judges_a_call_the_same_on_both_machines(
    call: tuple[str, tuple[int, ...], int | None, int | None, int],
) -> None:
    _, arguments, on_x86, on_arm, expected = call
    if on_x86 is not None:
        assert verdict("x86_64", X86, on_x86, *arguments) == expected
    if on_arm is not None:
        assert verdict("aarch64", ARM, on_arm, *arguments) == expected


def test_a_call_by_another_machines_numbers_is_deadly() -> None:
    assert verdict("x86_64", 0x40000003, 1) == KILL
    assert verdict("aarch64", 0x40000028, 1) == KILL


# What the kernel here offers, asked without the code under test.


def kernel_offers() -> set[str]:
    offered = {"no_new_privs", "capabilities"}
    if ctypes.CDLL(None).syscall(444, None, 0, 1) > 0:
        offered.add("landlock")
    status = Path("/proc/self/status").read_text()
    if re.search(r"^Seccomp:", status, re.MULTILINE) and os.uname().machine in (
        "x86_64",
        "aarch64",
    ):
        offered.add("seccomp")
    return offered


TRIES = """
import ctypes, json, os, socket, sys, threading
here, private, secret = sys.argv[1:4]
sys.path.insert(0, here)
import child.fence
report = child.fence.apply(private)

def tried(work):
    try:
        work()
    except OSError as err:
        return err.errno
    return 0

said = {}
def write(path):
    with open(path, "w") as file:
        file.write("x")
def in_a_thread():
    def work():
        said["thread"] = tried(lambda: open(secret))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
def fork():
    if os.fork() == 0:
        os._exit(0)

said["read a key"] = tried(lambda: open(secret))
said["read /etc/passwd"] = tried(lambda: open("/etc/passwd"))
said["list /"] = tried(lambda: os.listdir("/"))
said["write elsewhere"] = tried(lambda: write(secret + ".new"))
said["change modes"] = tried(lambda: os.chmod(secret, 0o644))
said["remove a key"] = tried(lambda: os.unlink(secret))
said["connect"] = tried(lambda: socket.create_connection(("127.0.0.1", 9), 1))
said["fork"] = tried(fork)
said["signal the parent"] = tried(lambda: os.kill(os.getppid(), 0))
said["raise its priority"] = tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
said["own file"] = tried(lambda: write(private + "/a"))
said["own directory"] = tried(lambda: os.mkdir(private + "/d"))
said["rename"] = tried(lambda: os.rename(private + "/a", private + "/d/b"))
said["remove"] = tried(lambda: os.unlink(private + "/d/b"))
said["symlink"] = tried(lambda: os.symlink(secret, private + "/link"))
memory = os.memfd_create("m")
said["memfd by name"] = tried(lambda: open(f"/proc/self/fd/{memory}", "r+"))
said["signal itself"] = tried(lambda: os.kill(os.getpid(), 0))
in_a_thread()
print(json.dumps([report.in_force, report.absent, said]), flush=True)
match sys.argv[4]:
    case "exec":
        os.execv("/bin/true", ["true"])
    case "ptrace":
        ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)
    case "nothing":
        pass
"""


def try_all(
    tmp_path: Path, last: str
) -> tuple[dict[str, str], dict[str, str], dict[str, int], int]:
    private = tmp_path / "private"
    private.mkdir()
    secret = tmp_path / "cache.key"
    secret.write_text("secret")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", TRIES, HERE, private, secret, last],
        capture_output=True,
        timeout=90,
        env={},
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    in_force, absent, said = json.loads(done.stdout)
    return in_force, absent, said, done.returncode


def test_what_no_shard_needs_is_refused_by_the_kernel(tmp_path: Path) -> None:
    in_force, absent, said, _ = try_all(tmp_path, "nothing")
    assert set(in_force) == kernel_offers()
    assert set(absent) == {
        "no_new_privs", "capabilities", "landlock", "seccomp",
    } - set(in_force)  # fmt: skip
    assert all(absent.values())
    # Nothing of what scratch files and the runtime need is lost, whatever is in force.
    for name in ("own file", "own directory", "rename", "remove", "memfd by name", "signal itself"):
        assert said[name] == 0, name
    refused = {name for name, number in said.items() if number in (errno.EPERM, errno.EACCES)}
    if "landlock" in in_force:
        assert refused >= {
            "read a key", "read /etc/passwd", "list /", "write elsewhere", "remove a key",
            "symlink", "thread",
        }  # fmt: skip
    if "seccomp" in in_force:
        assert refused >= {
            "connect", "fork", "signal the parent", "raise its priority", "change modes", "symlink"
        }  # fmt: skip


@pytest.mark.parametrize("last", ["exec", "ptrace"])
def test_a_program_or_another_process_is_out_of_reach(tmp_path: Path, last: str) -> None:
    in_force, absent, _, status = try_all(tmp_path, last)
    if "seccomp" in in_force:
        assert status == -signal.SIGSYS
    else:
        assert absent["seccomp"]


def test_with_other_threads_the_fence_says_that_it_would_not_hold_them() -> None:
    program = (
        "import sys, threading, time; sys.path.insert(0, sys.argv[1]); import child.fence;"
        "threading.Thread(target=time.sleep, args=(1,), daemon=True).start();"
        "print(child.fence.apply(None).absent)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, HERE], capture_output=True, check=True
    )
    said = "other threads run already: 1"
    assert done.stdout.decode().strip() == str(
        {"capabilities": said, "landlock": said, "seccomp": said}
    )


class Refusing:
    """A C library whose kernel refuses everything, and which keeps what it was asked."""

    def __init__(self, number: int) -> None:
        self.asked: list[int] = []
        self._number = number

    def syscall(self, number: int, *_arguments: Any) -> int:
        self.asked.append(number)
        ctypes.set_errno(self._number)
        return -1

    prctl = capset = syscall


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSYS, "Function not implemented"), (errno.EOPNOTSUPP, "Operation not supported")],
)
def test_a_kernel_that_refuses_is_reported_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    libc = Refusing(number)
    monkeypatch.setattr(fence, "LIBC", libc)
    monkeypatch.setattr(landlock, "LIBC", libc)
    monkeypatch.setattr(capabilities, "LIBC", libc)
    monkeypatch.setattr(capabilities, "_any_held", lambda: True)
    monkeypatch.setattr(fence, "_other_threads", lambda: 0)
    report = fence.apply(None)
    assert report.in_force == {}
    assert report.absent == dict.fromkeys(
        ("no_new_privs", "capabilities", "landlock", "seccomp"), f"the kernel says: {reason}"
    )
    assert libc.asked[:3] == [38, 47, 24]
    assert libc.asked[-2:] == [444, 22]


def test_android_is_not_asked_for_what_it_kills_for(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Refusing(errno.EINVAL)
    monkeypatch.setattr(fence, "LIBC", libc)
    monkeypatch.setattr(landlock, "LIBC", libc)
    # An app holds none, and is not made to ask for what the system's own filter may kill for.
    monkeypatch.setattr(capabilities, "LIBC", libc)
    monkeypatch.setattr(capabilities, "_any_held", lambda: False)
    monkeypatch.setattr(fence, "_other_threads", lambda: 0)
    monkeypatch.setattr(sys, "getandroidapilevel", lambda: 24, raising=False)
    assert fence.apply(None).absent["landlock"] == "Android ends an app that asks for it"
    assert libc.asked == [38, 22]


def test_a_machine_without_a_table_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(fence, "LIBC", Refusing(errno.EINVAL))
    monkeypatch.setattr(landlock, "LIBC", Refusing(errno.EINVAL))
    monkeypatch.setattr(capabilities, "LIBC", Refusing(errno.EINVAL))
    monkeypatch.setattr(fence, "_other_threads", lambda: 0)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], "riscv64")))
    assert (
        fence.apply(None).absent["seccomp"] == "no table of system calls for riscv64 with 64 bits"
    )


# Real children


async def test_a_child_is_fenced_and_says_so(bench: Bench) -> None:
    assert bench.sandbox.stats().fence is None
    await bench.sandbox.warm()
    stats = bench.sandbox.stats()
    assert stats.fence is not None
    assert {name for name, _ in stats.fence.in_force} == kernel_offers()
    status = await asyncio.to_thread(Path(f"/proc/{stats.pids[0]}/status").read_text)
    assert "NoNewPrivs:\t1\n" in status
    if "seccomp" in kernel_offers():
        assert "Seccomp:\t2\n" in status


async def test_what_is_absent_is_logged_once(
    new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    as_android = "import child.fence; child.fence.is_android = lambda: True\nfrom child.main"
    monkeypatch.setattr(launching, "_BOOT", launching._BOOT.replace("from child.main", as_android))
    sandbox = await new_sandbox(slots=2)
    with caplog.at_level(logging.INFO, "swarm_hub.components.sandbox"):
        await sandbox.warm()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "no landlock (Android ends an app that asks for it)" in line
    outcome = await Bench(sandbox).run(modules.says(1, "hello", 0), "wasi")
    assert (outcome.code, outcome.output) == ("ok", b"hello")


async def test_without_memory_files_commands_have_theirs_in_the_private_directory(
    new_sandbox: NewSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = "import os; del os.memfd_create\nimport child"
    monkeypatch.setattr(launching, "_BOOT", launching._BOOT.replace("import child", without, 1))
    bench = Bench(await new_sandbox())
    outcome = await bench.run(modules.CAT, "wasi", b"x" * 10_000)
    assert (outcome.code, outcome.output) == ("ok", b"x" * 10_000)
    (child,) = bench.sandbox._children
    room = child.launched.room
    assert set(os.listdir(room)) == {"stdin", "stdout"}
    await bench.sandbox.stop()
    await until(lambda: not os.path.exists(room))


def test_a_report_is_read_and_anything_else_refused() -> None:
    read = parse_fence(b'{"in_force": {"seccomp": "x86_64"}, "absent": {"landlock": "old"}}')
    assert read == Fence((("seccomp", "x86_64"),), (("landlock", "old"),))
    assert str(read) == "seccomp (x86_64), no landlock (old)"
    for body in (b"", b"{}", b"[]", b'{"in_force": 1, "absent": {}}', b"[" * 100_000):
        with pytest.raises(ValueError, match=r".+"):
            parse_fence(body)


def test_a_child_that_the_filter_ended_says_so() -> None:
    code, text = launching.explain_death("run", -signal.SIGSYS, "")
    assert code == "child_died"
    assert text == ("The sandbox process ended (SIGSYS, for a system call that the fence forbids)")
