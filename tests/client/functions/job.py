"""Functions as a user's file has them: sent to devices by tests, and called here to compare."""

import collections
import datetime
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from swarm_hub.client import Swarm

if TYPE_CHECKING:
    import numpy

SCALE = 3
CALLS: list[int] = []


class BadRow(Exception):
    pass


def scaled(x: int) -> int:
    return helper(x) * SCALE


def helper(x: int) -> int:
    return x + 1


def simulate(seed: int) -> int:
    r = random.Random(seed)
    return sum(r.random() ** 2 + r.random() ** 2 < 1 for _ in range(1000))


def kinds(x: Any) -> Any:
    return {
        "same": x, (1, 2): {3, 1, 2}, "big": 2**200, "bytes": b"\x00\xff", "nan": -0.0,
        "at": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "day": datetime.date(2024, 2, 29), "long": datetime.timedelta(1, 2, 3),
        "counts": dict(collections.Counter("banana")),
    }  # fmt: skip


def divides(x: int) -> float:
    return 10 / x


def bad(x: int) -> int:
    if x == 2:
        raise BadRow(f"row {x}")
    if x == 3:
        sys.exit(7)
    if x == 4:
        return [].missing  # type: ignore[attr-defined, no-any-return]
    if x == 5:
        return Swarm  # type: ignore[return-value]
    return x


def endless(x: int) -> int:
    while x == 1:
        pass
    return x


def endless_at_rest(x: int) -> int:
    while x == 1:
        time.sleep(0.05)
    return x


def calls_before(x: int) -> int:
    """Count the calls in this interpreter."""
    CALLS.append(x)
    return len(CALLS) - 1


def crashes(x: int) -> int:
    import os

    return os._exit(3) if x == 1 else x


def eats(x: int) -> int:
    return len("x" * 2**30) if x == 1 else x


def prints(x: int) -> int:
    for _ in range(2000):
        print("much " * 100)
    return x


def returns(megabytes: int) -> bytes:
    return b"x" * (megabytes * 1_000_000)


def hostile(what: str) -> Any:
    import io
    import os

    if what == "environment":
        return dict(os.environ)
    if what == "files":
        found = []
        for root, folders, files in os.walk("/"):
            found += [os.path.join(root, each) for each in [*folders, *files]]
        return [each for each in found if not each.startswith("/usr/local/lib/python3")]
    reads = io.open
    if what == "passwd":
        return reads("/etc/passwd").read()
    if what == "writes":
        return reads("/tmp/x", "w").write("x")
    if what == "network":
        module = __import__("socket")
        made = module.socket(module.AF_INET, module.SOCK_STREAM)
        made.connect(("127.0.0.1", 22))
        return "connected"
    if what == "ctypes":
        return __import__("ctypes").CDLL(None).getpid()
    return getattr(os, what)()


def numpy_at_once(x: int) -> int:
    import numpy

    return int(numpy.sum(x))


def typed(x: "numpy.ndarray") -> Any:
    return x
