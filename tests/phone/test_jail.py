"""The jail itself: what an app may not do is not to be done in it."""

import json
import textwrap

from tests.phone import jail
from tests.phone.phone import LACKING, Phone

# Each part prints one entry: what was tried, and what came of it.
TRIES = textwrap.dedent(
    """\
    import ctypes, errno, importlib, json, os, signal, socket, sys, time
    found = {}

    def attempt(name, do):
        try:
            found[name] = do()
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
        except ImportError as error:
            found[name] = "ImportError"
        except NotImplementedError:
            found[name] = "NotImplementedError"

    def ended_by(number):
        child = os.fork()
        if not child:
            ctypes.CDLL(None).syscall(number, 0, 0, 0, 0)
            os._exit(0)
        return signal.Signals(os.waitpid(child, 0)[1] & 127).name

    def many():
        children = []
        try:
            while len(children) < 64:
                if not (child := os.fork()):
                    time.sleep(60)
                    os._exit(0)
                children.append(child)
        except BlockingIOError:
            return 1 + len(children)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)

    def others():
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) != [os.getpid()]

    for name in ("diskstats", "loadavg", "stat", "uptime", "version", "vmstat"):
        attempt("/proc/" + name, lambda name=name: open("/proc/" + name).read())
    for name in ("/sys", "/tmp", "/var/tmp", "/dev/shm"):
        attempt(name, lambda path=name: os.listdir(path))
    for name in ("/etc", "/source", "/venv", "/data"):
        attempt("write " + name, lambda path=name: open(path + "/new", "w"))
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    open("first", "w").close()
    attempt("hard link", lambda: os.link("first", "second"))
    for number in (425, 426, 427, 444, 445, 446):
        attempt(f"system call {number}", lambda number=number: ended_by(number))
    attempt("processes", many)
    attempt("sees others", others)
    attempt("psutil of the index", lambda: importlib.import_module("psutil"))
    for name in sys.argv[1:]:
        attempt("import " + name, lambda name=name: importlib.import_module(name))
    found["uids"] = [*os.getresuid(), *os.getgroups()]
    found["platform"] = sys.platform
    found["home"] = os.getcwd()
    attempt("memory", lambda: open("/proc/meminfo").read()[:8])
    print(json.dumps(found))
    """
)


async def test_what_android_denies_an_app_is_denied_in_the_jail(phone: Phone) -> None:
    done = await phone.run("python", "-c", TRIES, *LACKING)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    uids = found.pop("uids")
    assert len(set(uids)) == 1
    assert 10_000 <= uids[0] < 20_000
    assert found == {
        **{f"/proc/{name}": "EACCES" for name in jail.DENIED},
        **dict.fromkeys(("/sys", "/tmp", "/var/tmp", "/dev/shm"), "EACCES"),
        **dict.fromkeys(("write /etc", "write /source", "write /venv", "write /data"), "EROFS"),
        "netlink": "EACCES",
        "hard link": "EACCES",
        **{f"system call {number}": "SIGSYS" for number in jail.IO_URING_AND_LANDLOCK},
        "processes": jail.TASKS_MAX,
        "sees others": False,
        "psutil of the index": "NotImplementedError",
        **{f"import {name}": "ImportError" for name in LACKING},
        "platform": "android",
        "home": f"{jail.TERMUX}/home",
        "memory": "MemTotal",
    }


async def test_what_needs_more_memory_than_a_phone_gives_ends(phone: Phone) -> None:
    takes = "print(len(b'x' * ({} << 20)))"
    assert (await phone.run("python", "-c", takes.format(40))).returncode == 0
    assert (await phone.run("python", "-c", takes.format(200))).returncode != 0
