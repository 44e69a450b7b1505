"""A sandbox with real children, and a short way to run WAT in it."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm_hub.components.sandbox.call import Call, CallResult, Limits
from swarm_hub.components.sandbox.pool import Sandbox

MIB = 1024 * 1024
EXAMPLES = Path(__file__).parents[2] / "examples"


class Tasks:
    """Owns background tasks like the hub does and fails the test when one of them failed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.failures: list[BaseException] = []

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def settle(self) -> None:
        async with asyncio.timeout(30):
            while self._tasks:
                await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)


def limits(**changed: Any) -> Limits:
    """Limits that every well-behaved module of these tests stays in."""
    normal: dict[str, Any] = {
        "memory_bytes": 64 * MIB,
        "wall_time_s": 20.0,
        "output_bytes": MIB,
    }
    return Limits(**{**normal, **changed})


@dataclass
class Bench:
    """A sandbox and the modules it was given."""

    sandbox: Sandbox
    loads: int = 0
    assembled: dict[str, bytes] = field(default_factory=dict)
    assembling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def wasm(self, wat: str) -> bytes:
        async with self.assembling:
            if wat not in self.assembled:
                self.assembled[wat] = await self.sandbox.assemble(wat)
        return self.assembled[wat]

    async def run(
        self, module: str | bytes, abi: str, data: bytes = b"", **changed: Any
    ) -> CallResult:
        """Run WAT text or module bytes; keywords are fields of the call or of its limits."""
        wasm = await self.wasm(module) if isinstance(module, str) else module
        call = make_call(wasm, abi, **changed)
        return await self.sandbox.run(call, data, self.loader(wasm))

    def loader(self, wasm: bytes) -> Callable[[], Awaitable[bytes]]:
        async def load() -> bytes:
            self.loads += 1
            return wasm

        return load


def make_call(wasm: bytes, abi: str, **changed: Any) -> Call:
    """Build a call; unknown keywords go to the limits."""
    own = {
        name: changed.pop(name)
        for name in ("args", "env", "deterministic", "scope")
        if name in changed
    }
    entry = changed.pop("entry", None)
    return Call(hashlib.sha256(wasm).hexdigest(), abi, entry, limits(**changed), **own)


async def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    for _ in iter(condition, True):
        assert asyncio.get_running_loop().time() < deadline_s
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
