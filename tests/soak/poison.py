"""The poisoner of a soak: requests that must be refused, at any gateway and at any time.

Each is answered with 4xx in bounded time, or not at all while the gateway is down. Beside it a
worker lies (`Part.start`) and clocks jump (`Faults`).
"""

import asyncio
import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.const import API_ROOT
from tests.helpers.hostile_specs import HUGE, SPECS
from tests.soak.part import Part

_WITHIN_S: Final = 12.0
_PAUSE_S: Final = (0.05, 0.5)
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


async def poison(
    part: Part, modules: dict[str, bytes], rng: random.Random, over: asyncio.Event
) -> None:
    """Send hostile requests until the soak is over."""
    makers: list[Callable[[], _Request]] = [
        lambda: _job(modules["primes"], b"0:5", rng.choice(SPECS)),
        lambda: _job(modules["primes"], rng.choice(_RANGES)),
        lambda: _job(modules["primes"], b"0:5", {"x" * 300_000: 1}),
        lambda: _job(rng.randbytes(rng.choice((0, 8, 5000))), b"0:5"),
        lambda: _many_fields(modules["primes"], rng.randint(500, 3000)),
        lambda: _Request("GET", f"/jobs/{rng.choice(('a%00b', 'a%ED%A0%80', 'x' * 3000))}"),
        lambda: _Request("GET", "/jobs?cursor=a%00b"),
        lambda: _json("/nodes/x/ban", rng.choice(_BANS)),
        lambda: _json("/invites", {"expires_s": HUGE}),
        lambda: _bomb(rng.randint(8, 64)),
        lambda: _Request("POST", "/jobs", b"--b\r\n\xff\0", {"Content-Type": _FORM}),
    ]
    async with aiohttp.ClientSession() as session:
        while not over.is_set():
            await _send(part, session, rng.choice(part.gateways), rng.choice(makers)())
            await asyncio.sleep(rng.uniform(*_PAUSE_S))


_FORM: Final = "multipart/form-data; boundary=b"
_RANGES: Final = (
    f"{-(2**63)}:{2**63 - 1}".encode(), f"0:{2**63}".encode(), b"1" * 5000 + b":2", b"\0:\xff",
)  # fmt: skip
_BANS: Final = ({"reason": "a\0b"}, {"for_s": HUGE}, {"for_s": -1}, {"reason": ["x"]})


async def _send(
    part: Part, session: aiohttp.ClientSession, hub: LocalHub, request: _Request
) -> None:
    headers = {"Authorization": f"Bearer {hub.token}", **request.headers}
    try:
        async with (
            asyncio.timeout(_WITHIN_S),
            session.request(
                request.method,
                f"{hub.url}{API_ROOT}{request.path}",
                data=request.body,
                headers=headers,
            ) as response,
        ):
            text = (await response.read()).decode(errors="replace")
    except (TimeoutError, aiohttp.ClientError, OSError):
        # It is down or frozen, or has cut the connection of a body that it won't read.
        part.counts["poison_unanswered"] += 1
        return
    part.counts["poison"] += 1
    if not (400 <= response.status < 500 or response.status in (503, 507)):
        part.problem(f"poison {request.method} {request.path[:60]}: {response.status} {text[:200]}")


def _job(module: bytes, dataset: bytes, spec: dict[str, Any] | None = None) -> _Request:
    return _Request("POST", "/jobs", _form(module, dataset, spec or {}))


def _form(module: bytes, dataset: bytes, spec: dict[str, Any]) -> aiohttp.FormData:
    made = aiohttp.FormData()
    made.add_field("module", module, filename="module.wasm")
    made.add_field("dataset", dataset, filename="0.bin")
    made.add_field("spec", json.dumps(spec), content_type="application/json")
    return made


def _many_fields(module: bytes, count: int) -> _Request:
    made = _form(module, b"0:5", {"known_answers": []})
    for number in range(count):
        made.add_field(f"unknown{number}", b"x")
    return _Request("POST", "/jobs", made)


def _json(path: str, content: Any) -> _Request:
    return _Request(
        "POST", path, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )


def _bomb(size_mib: int) -> _Request:
    """A body that is much larger when it is unpacked."""
    packed = gzip.compress(bytes(size_mib * _MIB))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return _Request("POST", "/invites", packed, headers)
