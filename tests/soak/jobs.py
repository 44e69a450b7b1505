"""The jobs of a soak: different shapes, each with what must come of it."""

import random
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.components.sandbox import Sandbox
from tests.helpers.modules import MAYBE_ENDLESS, SPIN, range_module
from tests.soak.part import HONEST_LABEL

_EXAMPLES = Path(__file__).parents[2] / "examples"
_NAMES = ("sum_i32/sum", "primes/primes", "wordcount/wordcount", "echo/echo", "bytesum/bytesum")
# Of these jobs the results are compared, and the node that lies takes part.
_VOTED_SHARE = 0.3
_VOTED = {"redundancy": 3}
_HONEST = {"constraints": {"node_labels": HONEST_LABEL}}
_RECORD_BYTES = 1024
# `unlucky` fails on a shard with such an item: 7, 507, 1007 and so on.
_BAD_EVERY = 500
_BAD_FIRST = 7
_BAD_BELOW = f"(i64.div_u (i64.add (local.get %d) (i64.const {_BAD_EVERY - _BAD_FIRST - 1}))" + (
    f" (i64.const {_BAD_EVERY}))"
)
# Gives the sum of its items, so that a result tells which of them are in it.
_UNLUCKY = range_module(
    f"(if (i64.ne {_BAD_BELOW % 0} {_BAD_BELOW % 1}) (then unreachable))"
    "(i64.div_u (i64.mul (i64.sub (i64.add (local.get 0) (local.get 1)) (i64.const 1))"
    " (i64.sub (local.get 1) (local.get 0))) (i64.const 2))"
)
_WATS = {"spin": SPIN, "maybe_endless": MAYBE_ENDLESS, "unlucky": _UNLUCKY}
_ENDLESS_WALL_S = 6
_ENDLESS_CANCELLED_SHARE = 0.25
_CANCELLED_SHARE = 0.12
# About a second of work.
_SMALL_ITEMS = 1000


@dataclass(slots=True)
class Wanted:
    """A job as it is submitted, and what must come of it."""

    module: str
    items: Any
    spec: dict[str, Any]
    result: Any
    key: str
    cancel: bool = False
    # How the only reason of its failure begins, if it has to fail.
    fails: str | None = None
    # The items on which its module fails.
    bad: tuple[int, ...] = ()
    job_id: str | None = None
    state: str | None = None

    @property
    def skips(self) -> bool:
        """Whether its bad items are left out."""
        return self.spec.get("on_error") == "skip"


async def assemble() -> dict[str, bytes]:
    """Return the modules of the jobs."""

    async def work(sandbox: Sandbox) -> dict[str, bytes]:
        texts = {
            name.rpartition("/")[2]: (_EXAMPLES / f"{name}.wat").read_text() for name in _NAMES
        }
        return {name: await sandbox.assemble(text) for name, text in (texts | _WATS).items()}

    return await with_sandbox(work)


def any_job(rng: random.Random, key: str) -> Wanted:
    """Return a job of any shape that ends by itself."""
    made = rng.choice(_SHAPES)(rng, key)
    made.cancel = rng.random() < _CANCELLED_SHARE
    # What fails on an honest node gets a result of one that lies.
    voted = not made.bad and rng.random() < _VOTED_SHARE
    made.spec |= _VOTED if voted else _HONEST
    return made


def endless_job(rng: random.Random, key: str) -> Wanted:
    """Return a job that never ends: it fails, unless it is cancelled before."""
    spec = {"reduce": "sum", "limits": {"wall_time": _ENDLESS_WALL_S}, **_HONEST}
    cancel = rng.random() < _ENDLESS_CANCELLED_SHARE
    return Wanted("maybe_endless", range(1, 2), spec, None, key, cancel, fails="it does not end")


def small_job(key: str) -> Wanted:
    """Return an honest job of about a second, whose wait is measured."""
    spec = {"reduce": "sum", **_HONEST}
    return Wanted("spin", range(_SMALL_ITEMS), spec, _SMALL_ITEMS, key)


def wrong_end(wanted: Wanted, status: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the end that a job came to, None if it is one it may come to."""
    state, failures = status["state"], status["failures"]
    told = f"{state}: {'; '.join(failures)}"
    if state == "cancelled" and wanted.cancel:
        return None
    if wanted.fails is not None:
        right = state == "failed" and failures[0].startswith(wanted.fails)
        return None if right else f"{told}, expected: {wanted.fails}"
    if wanted.bad and not wanted.skips:
        right = state == "failed" and any(_names(each, wanted.bad) for each in failures)
        return None if right else f"{told}, expected a failure of {wanted.bad}"
    if state != "completed":
        return told
    left_out = status["progress"]["items_failed"]
    right = left_out == len(wanted.bad)
    return None if right else f"{told}: {left_out} items failed, expected {wanted.bad}"


def _names(failure: str, items: Iterable[int]) -> bool:
    """Whether a failure is of items among which one of these is."""
    found = re.match(r"items? (\d+)(?: to (\d+))?: ", failure)
    if found is None:
        return False
    return any(int(found[1]) <= item <= int(found[2] or found[1]) for item in items)


def _spin(rng: random.Random, key: str) -> Wanted:
    count = rng.randint(200, 1800)
    spec = {"reduce": "sum", "shard_size": rng.randint(40, 200)}
    return Wanted("spin", range(count), spec, count, key)


def _primes(rng: random.Random, key: str) -> Wanted:
    below = rng.choice(((1000, 168), (10_000, 1229), (100_000, 9592)))
    return Wanted("primes", range(below[0]), {"reduce": "sum"}, below[1], key)


def _sum(rng: random.Random, key: str) -> Wanted:
    values = [rng.randrange(-(2**20), 2**20) for _ in range(rng.randint(100, 5000))]
    body = struct.pack(f"<{len(values)}i", *values)
    return Wanted("sum", body, {"split": "i32", "reduce": "sum"}, sum(values), key)


def _tiny(rng: random.Random, key: str) -> Wanted:
    """Many shards of one item."""
    body = rng.randbytes(64 * rng.randint(50, 500))
    return Wanted("echo", body, _bytes_spec("records:64", 1), body, key)


def _large(rng: random.Random, key: str) -> Wanted:
    """Dataset, inputs and results that are blobs."""
    body = rng.randbytes(_RECORD_BYTES * rng.randint(100, 900))
    spec = _bytes_spec(f"records:{_RECORD_BYTES}", rng.randint(70, 300))
    return Wanted("echo", body, spec, body, key)


def _bytesum(rng: random.Random, key: str) -> Wanted:
    """A blob as dataset, small results."""
    body = rng.randbytes(_RECORD_BYTES * rng.randint(100, 400))
    spec = {"abi": "bytes", "split": f"records:{_RECORD_BYTES}", "reduce": "sum", "shard_size": 80}
    return Wanted("bytesum", body, spec, sum(body), key)


def _words(rng: random.Random, key: str) -> Wanted:
    words = [f"word{rng.randrange(50)}" for _ in range(rng.randint(200, 3000))]
    body = "".join(f"{word}\n" for word in words).encode()
    spec = {"split": "lines", "reduce": "json"}
    return Wanted("wordcount", body, spec, dict(Counter(words)), key)


def _skips(rng: random.Random, key: str) -> Wanted:
    """Up to three items that fail, and are left out."""
    count = rng.randint(100, 1300)
    bad = tuple(range(_BAD_FIRST, count, _BAD_EVERY))
    spec = {"reduce": "sum", "on_error": "skip"}
    return Wanted("unlucky", range(count), spec, sum(range(count)) - sum(bad), key, bad=bad)


def _fails(rng: random.Random, key: str) -> Wanted:
    """One item that fails, and with it the job."""
    count = rng.randint(_BAD_FIRST + 1, _BAD_FIRST + _BAD_EVERY)
    spec = {"reduce": "sum", "on_error": "fail"}
    return Wanted("unlucky", range(count), spec, None, key, bad=(_BAD_FIRST,))


def _bytes_spec(split: str, shard_size: int) -> dict[str, Any]:
    return {"abi": "bytes", "split": split, "reduce": "concat", "shard_size": shard_size}


_SHAPES: tuple[Callable[[random.Random, str], Wanted], ...] = (
    _spin, _primes, _sum, _tiny, _large, _bytesum, _words, _skips, _fails,
)  # fmt: skip
