"""Getting a module's native code into a child: from the cache, or compiled once for all of them.

All owners share the cache, so what goes there is made by a child that has run nothing yet: one that
a module took over would give the code of its choice for another module. What such a child compiles,
it may run itself, but nobody else does.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from .cache import ModuleCache
from .call import BAD_MODULE, COMPILE_LIMIT, OK, ModuleSource, not_wasm
from .child.wire import encode_header
from .protocol import ChildLink, ChildLostError
from .request import Answer, Request

_LOGGER = logging.getLogger(__name__)

# Native code is a few times larger than Wasm; more than this is not a module for a phone.
NATIVE_BYTES_MAX = 512 * 1024 * 1024

_REFUSED_MAX = 64
# A compilation can hit its limits because the machine was busy, so it is tried again later.
_REFUSED_S = 600.0
_LOAD_S = 20.0
_FINISH_S = 1.0
_LARGE_BYTES = 256 * 1024
# A module up to this size compiles in less time than a child takes to start.
_QUICK_BYTES = 64 * 1024
_ALONE_MAX = 1024

_Clean = Callable[[Request], Awaitable[Answer]]
Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """The bounds of a compilation or an inspection."""

    module_bytes: int
    time_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Where and within which bounds modules are compiled ahead, and who has that done."""

    cache: ModuleCache
    limits: CompileLimits
    clean: _Clean


class NativeCode:
    """Installs modules in children; each module is compiled by one child only."""

    def __init__(
        self,
        cache: ModuleCache,
        limits: CompileLimits,
        spawn: Spawn,
        clean: _Clean,
        start_clean: Callable[[], None],
    ) -> None:
        self.compiled = 0
        # Has a request done by a child that has run nothing, and starts one for a request to come.
        self._clean = clean
        self._start_clean = start_clean
        self._cache = cache
        self._limits = limits
        # Of what is compiled ahead, in bounds of its own: other modules do not push it out.
        self._ahead: _Ahead | None = None
        self._spawn = spawn
        self._keeping: set[asyncio.Task[None]] = set()
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        # The module that is read while a child starts for it: its key, and what comes of it.
        self._early: tuple[str, asyncio.Future[bytes | None]] | None = None
        self._refused: OrderedDict[str, tuple[Answer, float]] = OrderedDict()
        # What a child compiled for itself alone; whoever wants it next has it put into the cache.
        self._alone: OrderedDict[str, None] = OrderedDict()

    def compile_ahead(self, cache: ModuleCache, limits: CompileLimits, clean: _Clean) -> None:
        """Have `prepare` keep what it compiles in this cache; call it before the start."""
        self._ahead = _Ahead(cache, limits, clean)

    def bound(self, limits: CompileLimits) -> None:
        """Compile within these bounds from now on, and ahead modules of that size."""
        self._limits = limits
        # What could not be compiled may be now.
        self._refused.clear()
        if self._ahead is not None:
            ahead = replace(self._ahead.limits, module_bytes=limits.module_bytes)
            self._ahead = replace(self._ahead, limits=ahead)

    async def open(self) -> None:
        """Open the caches."""
        await self._cache.open()
        if self._ahead is not None:
            await self._ahead.cache.open()

    @property
    def size_bytes(self) -> int:
        """The size of all that is compiled."""
        return self._cache.size_bytes + (self._ahead.cache.size_bytes if self._ahead else 0)

    def is_prepared(self, key: str) -> bool:
        """Whether a module is compiled to stay."""
        return self._ahead is not None and key in self._ahead.cache

    async def prepare(self, source: ModuleSource) -> Answer | None:
        """Compile a module to stay, in a child that has run nothing; returns the failure.

        Whoever wants to run it meanwhile waits for this.
        """
        assert self._ahead is not None
        cache, limits = self._ahead.cache, self._ahead.limits
        while (flight := self._flights.get(source.key)) is not None:
            await asyncio.shield(flight)
        if source.key in cache:
            return None
        loop = asyncio.get_running_loop()
        native: bytes | None = None
        flight = self._flights[source.key] = loop.create_future()
        try:
            native = await self._cache.get(source.key)
            if native is None:
                self._start_clean()
                wasm = await source.load_wasm()
                if (problem := await self._check(wasm, source)) is not None:
                    return problem
                answer = await self._ahead.clean(self._request(source, wasm, limits, keep=False))
                if answer.code != OK:
                    return answer
                native = answer.body
                self.compiled += 1
            await cache.put(source.key, native)
            if source.key in cache:
                return None
            return Answer(
                COMPILE_LIMIT,
                f"Its native code has {len(native)} bytes, more than the bound of its cache",
            )
        finally:
            del self._flights[source.key]
            flight.set_result(native)

    async def install(self, child: ChildLink, source: ModuleSource) -> Answer | None:
        """Load a module into a child; returns the failure, or None if loaded or child lost."""
        try:
            return await self._install(child, source)
        except ChildLostError:
            return None

    def read_early(self, source: ModuleSource) -> None:
        """Begin to read a module that is kept nowhere, one at a time; `install` takes it over."""
        key = source.key
        if self._early or key in self._flights or key in self._refused:
            return
        if key in self._cache or self.is_prepared(key):
            return
        reading: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._early = key, reading
        self._spawn(_read(source, reading), "sandbox: read a module early")

    def take_early(self, key: str) -> "asyncio.Future[bytes | None] | None":
        """Return the reading of a module that was begun early, and hold it no longer."""
        if self._early is None or self._early[0] != key:
            return None
        (_, reading), self._early = self._early, None
        return reading

    async def finish(self) -> None:
        """Wait until what was compiled is in the cache, a second at most."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=_FINISH_S)

    async def _install(self, child: ChildLink, source: ModuleSource) -> Answer | None:
        while True:
            refused = self._known_refusal(source.key, child.loop.time())
            if refused is not None:
                return refused
            flight = self._flights.get(source.key)
            if flight is None:
                return await self._lead(child, source)
            # Another child is loading or compiling it; if that fails, this one finds out why.
            native = await asyncio.shield(flight)
            if native is not None:
                return await self._load(child, source, native)

    async def _lead(self, child: ChildLink, source: ModuleSource) -> Answer | None:
        flight: asyncio.Future[bytes | None] = child.loop.create_future()
        self._flights[source.key] = flight
        native: bytes | None = None
        try:
            native = await self._compiled(source.key)
            if native is not None:
                failure = await self._load(child, source, native)
                if failure is None or failure.code != "bad_native":
                    return failure
                native = None
                await self._cache.drop(source.key)
                if self._ahead is not None:
                    await self._ahead.cache.drop(source.key)
            if child.ran and not self._may_compile_alone(source.key, source.size_bytes):
                # It starts while the module is on its way.
                self._start_clean()
            wasm = await self._wasm(source)
            problem = await self._check(wasm, source)
            if problem is not None:
                self._remember(source.key, problem, child.loop.time())
                return problem
            if child.ran and self._may_compile_alone(source.key, len(wasm)):
                return await self._compile_alone(child, source, wasm)
            request = self._request(source, wasm, self._limits, keep=not child.ran)
            answer = await (self._clean(request) if child.ran else child.ask(request))
            if answer.code != OK:
                self._remember(source.key, answer, child.loop.time())
                return answer
            native = answer.body
            if request.child is child:
                child.note_loaded(source.key)
            self.compiled += 1
            keeping = self._spawn(
                self._cache.put(source.key, native), "sandbox: keep a compiled module"
            )
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)
            return None if request.child is child else await self._load(child, source, native)
        finally:
            del self._flights[source.key]
            flight.set_result(native)

    async def _wasm(self, source: ModuleSource) -> bytes:
        early = self.take_early(source.key)
        wasm = None if early is None else await asyncio.shield(early)
        return await source.load_wasm() if wasm is None else wasm

    async def _check(self, wasm: bytes, source: ModuleSource) -> Answer | None:
        problem = not_wasm(wasm)
        if problem is None and len(wasm) > self._limits.module_bytes:
            problem = (
                f"The module has {len(wasm)} bytes, more than the limit of "
                f"{self._limits.module_bytes}"
            )
        if problem is None:
            large = len(wasm) > _LARGE_BYTES
            digest = await asyncio.to_thread(_sha, wasm) if large else _sha(wasm)
            # Native code is kept under this hash, so it must be the hash of the compiled module.
            if digest != source.sha:
                problem = f"The module's bytes have the hash {digest}, expected {source.sha}"
        return None if problem is None else Answer(BAD_MODULE, problem)

    def _may_compile_alone(self, key: str, size_bytes: int) -> bool:
        return size_bytes <= _QUICK_BYTES and key not in self._alone

    async def _compile_alone(
        self, child: ChildLink, source: ModuleSource, wasm: bytes
    ) -> Answer | None:
        """Compile in a child that ran something, for its own use; what it says is kept nowhere."""
        self._alone[source.key] = None
        if len(self._alone) > _ALONE_MAX:
            self._alone.popitem(last=False)
        answer = await child.ask(self._request(source, wasm, self._limits, keep=True))
        if answer.code != OK:
            return answer
        child.note_loaded(source.key)
        self.compiled += 1
        return None

    async def _compiled(self, key: str) -> bytes | None:
        if self._ahead is not None and key in self._ahead.cache:
            return await self._ahead.cache.get(key)
        return await self._cache.get(key)

    def _request(
        self, source: ModuleSource, wasm: bytes, limits: CompileLimits, *, keep: bool
    ) -> Request:
        return Request(
            "compile",
            encode_header(
                {
                    "op": "compile",
                    "key": source.key,
                    "variant": source.variant,
                    # One that compiles for another child has no use for it.
                    "keep": keep,
                    "memory": limits.memory_bytes,
                    "time": limits.time_s,
                }
            ),
            wasm,
            NATIVE_BYTES_MAX,
            limits.time_s,
            asyncio.get_running_loop().create_future(),
        )

    async def _load(self, child: ChildLink, source: ModuleSource, native: bytes) -> Answer | None:
        answer = await child.ask(
            Request(
                "load",
                encode_header(
                    {
                        "op": "load",
                        "key": source.key,
                        "variant": source.variant,
                        "memory": 0,
                        "time": _LOAD_S,
                    }
                ),
                native,
                0,
                _LOAD_S,
                child.loop.create_future(),
            )
        )
        if answer.code != OK:
            return answer
        child.note_loaded(source.key)
        return None

    def _known_refusal(self, key: str, now_s: float) -> Answer | None:
        answer, until_s = self._refused.get(key, (None, 0.0))
        if answer is None or now_s < until_s:
            return answer
        del self._refused[key]
        return None

    def _remember(self, key: str, answer: Answer, now_s: float) -> None:
        if answer.code not in (BAD_MODULE, COMPILE_LIMIT):
            return
        self._refused[key] = (answer, now_s + _REFUSED_S)
        if len(self._refused) > _REFUSED_MAX:
            self._refused.popitem(last=False)


async def _read(source: ModuleSource, reading: asyncio.Future[bytes | None]) -> None:
    try:
        reading.set_result(await source.load_wasm())
    except Exception as err:
        # Whoever installs the module reads it again, from a source of its own, and is told.
        _LOGGER.debug("A module could not be read early: %s", err)
        reading.set_result(None)
    finally:
        reading.cancel()


def _sha(wasm: bytes) -> str:
    return hashlib.sha256(wasm).hexdigest()
