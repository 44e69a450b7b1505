"""The filter of system calls, as a BPF program: a function of the machine and this process's id.

It refuses the calls by which a process reaches beyond itself. Numbers that are unknown to this
file get ENOSYS, as on an older kernel, so a new call of a new kernel is never open by omission.
"""

import errno
import struct
from collections.abc import Iterator

# Nothing here calls these: a caller is no longer Python or wasmtime.
_DEADLY = """
execve 59 221, execveat 322 281, ptrace 101 117, process_vm_readv 310 270,
process_vm_writev 311 271, init_module 175 105, finit_module 313 273, delete_module 176 106,
kexec_load 246 104, kexec_file_load 320 294, reboot 169 142"""

# Name, number on x86_64, number on aarch64.
_REFUSED = """
fork 57 -, vfork 58 -,
socket 41 198, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242,
setsockopt 54 208, socketpair 53 199, sendmsg 46 211, sendmmsg 307 269, recvmsg 47 212,
recvmmsg 299 243,
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, setns 308 268, unshare 272 97,
swapon 167 224, swapoff 168 225, sethostname 170 161, setdomainname 171 162, quotactl 179 60,
acct 163 89,
name_to_handle_at 303 264, open_by_handle_at 304 265, fanotify_init 300 262,
fanotify_mark 301 263, inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27,
mknod 133 -, mknodat 259 33, symlink 88 -, symlinkat 266 36, chmod 90 -, fchmod 91 52,
fchmodat 268 53, chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54,
setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15,
fremovexattr 199 16, utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88,
statfs 137 43, fstatfs 138 44, sync 162 81, syncfs 306 267,
mlock 149 228, mlock2 325 284, mlockall 151 230,
setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147,
setresgid 119 149, setfsuid 122 151, setfsgid 123 152, setgroups 116 159, capset 126 91,
setpgid 109 154, setsid 112 157,
setpriority 141 140, sched_setscheduler 144 119, sched_setparam 142 118, sched_setattr 314 274,
sched_setaffinity 203 122, ioprio_set 251 30,
settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266,
bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, add_key 248 217, request_key 249 218,
keyctl 250 219, kcmp 312 272, syslog 103 116, vhangup 153 58, personality 135 92,
nfsservctl 180 42, lookup_dcookie 212 18,
mbind 237 235, set_mempolicy 238 237, migrate_pages 256 238, move_pages 279 239,
shmget 29 194, shmat 30 196, shmctl 31 195, shmdt 67 197, semget 64 190, semop 65 193,
semtimedop 220 192, semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187,
mq_open 240 180, mq_unlink 241 181, mq_timedsend 242 182, mq_timedreceive 243 183,
mq_notify 244 184, mq_getsetattr 245 185,
io_setup 206 0, io_destroy 207 1, io_submit 209 2, io_cancel 210 3, io_getevents 208 4,
io_pgetevents 333 292, splice 275 76, tee 276 77, vmsplice 278 75,
modify_ldt 154 -, iopl 172 -, ioperm 173 -, uselib 134 -, ustat 136 -, sysfs 139 -,
_sysctl 156 -, create_module 174 -, get_kernel_syms 177 -, query_module 178 -"""

# Judged by an argument, see _judged.
_JUDGED = """
clone 56 220, kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138,
rt_tgsigqueueinfo 297 240, prctl 157 167, prlimit64 302 261, ioctl 16 29,
fcntl 72 25, sendto 44 206"""

# From here on the numbers are the same on every machine, and only these calls are open. clone3
# isn't, nor is openat2: what they are asked lies where a filter can't look, and whoever makes them
# falls back to clone and openat.
_UNIFIED_FROM = 424
_UNIFIED_OPEN = {
    "close_range": 436,
    "faccessat2": 439,
    "epoll_pwait2": 441,
    "futex_waitv": 449,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "mseal": 462,
}

# Column of the tables above, AUDIT_ARCH and the last number before the unified ones.
_MACHINES = {
    "x86_64": (0, 0xC000_003E, 334),
    "aarch64": (1, 0xC000_00B7, 294),
}
MACHINES = tuple(_MACHINES)

_ALLOW = 0x7FFF_0000
_KILL = 0x8000_0000
_EPERM = 0x0005_0000 | errno.EPERM
_ENOSYS = 0x0005_0000 | errno.ENOSYS

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
# Offsets in struct seccomp_data; of an argument that is no pointer only the low half counts.
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

_CLONE_THREAD = 0x0001_0000 | 0x0000_0800 | 0x0000_0100  # THREAD | SIGHAND | VM
_CLONE_NEW = 0x7E02_0000
# What a child must not undo or open up: PDEATHSIG, DUMPABLE, KEEPCAPS, SECUREBITS, MM,
# CHILD_SUBREAPER, CAP_AMBIENT, PTRACER.
_PRCTL_REFUSED = (1, 4, 8, 28, 35, 36, 47, 0x5961_6D61)
_IOCTL_REFUSED = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP
# By these the kernel itself sends a signal to whoever is named, where nothing else checks it, or
# holds up who opens a file: SETOWN, SETSIG, SETOWN_EX, SETLEASE, NOTIFY, SETDELEG.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026, 1040)

_Instruction = tuple[int, int, int, int]


def program(machine: str, pid: int) -> bytes:
    """Return the filter for a process of this id; KeyError for a machine that is not known."""
    column, arch, classic_last = _MACHINES[machine]
    code: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1 + 2 * len(_UNIFIED_OPEN), classic_last + 1),
    ]
    for number in _UNIFIED_OPEN.values():
        code += _case(number, [(_RETURN, 0, 0, _ALLOW)])
    code.append((_RETURN, 0, 0, _ENOSYS))
    # The kernel remembers which calls are allowed whatever their arguments; only these are examined
    # each time, and some of them are made for each shard.
    for name, number in reversed(list(_numbers(_JUDGED, column))):
        code += _case(number, _judged(name, pid))
    for _, number in _numbers(_DEADLY, column):
        code += _case(number, [(_RETURN, 0, 0, _KILL)])
    for _, number in _numbers(_REFUSED, column):
        code += _case(number, [(_RETURN, 0, 0, _EPERM)])
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _numbers(table: str, column: int) -> Iterator[tuple[str, int]]:
    for entry in table.split(","):
        name, *numbers = entry.split()
        if numbers[column] != "-":
            yield name, int(numbers[column])


def _case(number: int, block: list[_Instruction]) -> list[_Instruction]:
    return [(_EQUAL, 0, len(block), number), *block]


def _judged(name: str, pid: int) -> list[_Instruction]:
    match name:
        case "clone":
            # Only a thread of this process, in no other namespace.
            return [
                *_argument(0),
                (_ANY_BIT, 3, 0, _CLONE_NEW),
                (_AND, 0, 0, _CLONE_THREAD),
                (_EQUAL, 0, 1, _CLONE_THREAD),
                (_RETURN, 0, 0, _ALLOW),
                (_RETURN, 0, 0, _EPERM),
            ]
        case "prctl":
            return _none_of(0, _PRCTL_REFUSED)
        case "ioctl":
            return _none_of(1, _IOCTL_REFUSED)
        case "fcntl":
            return _none_of(1, _FCNTL_REFUSED)
        case "sendto":
            # Without an address, which is a pointer, so both of its halves count.
            return [
                *_argument(4),
                (_EQUAL, 0, 3, 0),
                (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * 4 + 4),
                (_EQUAL, 0, 1, 0),
                (_RETURN, 0, 0, _ALLOW),
                (_RETURN, 0, 0, _EPERM),
            ]
        case "prlimit64":
            return _one_of(0, (0, pid))
        case _:
            # Signals go to this process only: an abort sends itself one.
            return _one_of(0, (pid,))


def _one_of(index: int, values: tuple[int, ...]) -> list[_Instruction]:
    return [*_argument(index), *_choice(values, _ALLOW), (_RETURN, 0, 0, _EPERM)]


def _none_of(index: int, values: tuple[int, ...]) -> list[_Instruction]:
    return [*_argument(index), *_choice(values, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _argument(index: int) -> list[_Instruction]:
    return [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)]


def _choice(values: tuple[int, ...], verdict: int) -> list[_Instruction]:
    return [
        instruction for value in values for instruction in _case(value, [(_RETURN, 0, 0, verdict)])
    ]
