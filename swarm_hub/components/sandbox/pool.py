"""The sandbox: shards and inspections placed over a few child processes.

It is long because one queue decides about all of them: which child may still run whose module, and
which has to be started, suspended or ended for that, is one question.
"""

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

from swarm_hub.util.device import available_memory_bytes

from . import duty_cycle
from .cache import ModuleCache, cache_key
from .call import (
    BAD_INPUT,
    BAD_MODULE,
    CHILD_DIED,
    OK,
    Call,
    CallResult,
    ModuleSource,
    SandboxError,
    SandboxStats,
    is_wat,
    not_wasm,
)
from .child.keeping import FRAMES, SEED_BYTES
from .child.variants import DETERMINISTIC, PLAIN
from .child.wire import encode_header
from .child_pool import ChildPool
from .native import CompileLimits, NativeCode, Spawn
from .placement import DEPTH_MAX, choose
from .protocol import ChildLink
from .report import ModuleReport, parse_report
from .request import PREEMPTED, STOPPED, Answer, Request

_MIB = 1024 * 1024
_SPARES_MAX = 2
_ASIDE_PATIENCE_S = 0.5
_REPORT_BYTES_MAX = 4 * _MIB
_OUTPUT_BYTES_MIN = 64
_ATTEMPTS_MAX = 3


class Sandbox:
    """Runs shards in `slots` children; the hub's own process never parses or runs Wasm."""

    def __init__(
        self,
        *,
        cache_dir: Path,
        slots: int,
        spawn: Spawn,
        module_bytes_max: int = 64 * _MIB,
        compile_time_s: float = 60.0,
        compile_memory_bytes: int = 768 * _MIB,
        cache_bytes_max: int = 256 * _MIB,
        memory_bytes: int = 128 * _MIB,
        available_memory: Callable[[], int | None] = available_memory_bytes,
    ) -> None:
        self._slots = slots
        self._spawn = spawn
        self._cache_dir = cache_dir
        self._cache = ModuleCache(cache_dir, size_bytes_max=cache_bytes_max)
        self._compile = CompileLimits(module_bytes_max, compile_time_s, compile_memory_bytes)
        # What a shard may need, and what there is for one more beside those that are suspended.
        self._memory_bytes = memory_bytes
        self._available_memory = available_memory
        self._native = NativeCode(
            self._cache, self._compile, spawn, self._in_a_clean_child, self._start_clean_child
        )
        self._runs: deque[Request] = deque()
        self._asides: deque[Request] = deque()
        self._child_pool = ChildPool(
            self,
            cwd=cache_dir / "empty",
            slots=slots,
            spawn=spawn,
            wake=self._dispatch,
            give_up=self._give_up,
        )
        self._children = self._child_pool.children
        # The children on shards that give way to others, in the order in which they were told.
        self._background: list[ChildLink] = []
        self._hurry: asyncio.TimerHandle | None = None
        self._begins: Callable[[str], object] = lambda _tag: None
        # How many shards had a scope of their own.
        self._lone = 0
        self._stopped = True
        # The part of the time in which children run.
        self._share = 1.0
        self._duty_cycle: asyncio.Task[None] | None = None

    def bound(self, compilation: CompileLimits, cache_bytes: int) -> None:
        """Inspect, compile and cache within these bounds from now on."""
        self._compile = compilation
        self._native.bound(compilation)
        self._cache.bound(cache_bytes)

    def throttle(self, share: float) -> None:
        """Let children run for that share of the time only."""
        if share == self._share:
            return
        self._share = share
        if self._duty_cycle is not None:
            self._duty_cycle.cancel()
            self._duty_cycle = None
        if not self._stopped:
            self._begin_duty_cycle()

    def resize(self, slots: int) -> None:
        """Run that many shards at once from now on; those that run are finished."""
        self._slots = slots
        self._child_pool.resize(slots)
        if not self._stopped:
            self._dispatch()

    async def start(self) -> None:
        """Open the cache; children start when they are first needed, or by `warm`."""
        await self._native.open()
        await self._child_pool.open()
        self._stopped = False
        self._begin_duty_cycle()

    def _begin_duty_cycle(self) -> None:
        if self._share < 1.0:
            work = duty_cycle.keep(self._children, self._share)
            self._duty_cycle = self._spawn(work, "duty cycle of the sandbox")

    async def add_abi(self, path: Path) -> None:
        """Have children know one more ABI, a file like `child/abi_bytes.py`.

        For `async_setup` of a custom component: an absolute path, before the first shard.
        Raises SetupError if the file isn't an ABI; then nothing changes.
        """
        await self._child_pool.add_abi(path)

    async def warm(self) -> None:
        """Start a child for every slot and wait until they are ready or failed to start."""
        missing = self._slots - len(self._children)
        starting = [self._start_child(spare=False) for _ in range(missing)]
        if tasks := [task for task in starting if task is not None]:
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Kill every child and wait for their end, at most 2 s (and 1 s for the cache)."""
        self._stopped = True
        if self._duty_cycle is not None:
            self._duty_cycle.cancel()
        if self._hurry is not None:
            self._hurry.cancel()
        self._settle_waiting(Answer(STOPPED, "The sandbox is stopping"))
        await self._child_pool.stop()
        await self._native.finish()

    async def inspect(self, wasm: bytes) -> ModuleReport:
        """Describe a module; raises SandboxError when it is not Wasm or can't be compiled."""
        problem = not_wasm(wasm)
        if problem is None and len(wasm) > self._compile.module_bytes:
            limit = self._compile.module_bytes
            problem = f"The module has {len(wasm)} bytes, more than the limit of {limit}"
        if problem is not None:
            raise SandboxError(BAD_MODULE, problem)
        body = await self._aside("inspect", wasm, _REPORT_BYTES_MAX)
        try:
            return parse_report(body)
        except ValueError as err:
            raise SandboxError(CHILD_DIED, f"The sandbox process sent {err}") from err

    async def as_wasm(self, module: bytes) -> bytes:
        """Return a module as it is run: WAT text assembled, and everything else as it came.

        Raises SandboxError with the place of a mistake.
        """
        if not is_wat(module):
            return module
        if len(module) > (most := self._compile.module_bytes):
            said = f"The WAT text has {len(module)} bytes, more than the limit of {most}"
            raise SandboxError(BAD_MODULE, said)
        return await self._aside("assemble", module, most)

    async def assemble(self, wat: str) -> bytes:
        """Turn WAT text into a binary module; raises SandboxError with the place of a mistake."""
        return await self._aside("assemble", wat.encode(), self._compile.module_bytes)

    def compile_ahead(self, cache_bytes: int, time_s: float, memory_bytes: int) -> None:
        """Let `prepare` compile within these bounds; call it before the start."""
        cache = ModuleCache(self._cache_dir / "ahead", size_bytes_max=cache_bytes)
        module_bytes = self._compile.module_bytes
        limits = CompileLimits(module_bytes, time_s, memory_bytes)
        self._native.compile_ahead(cache, limits, self._in_a_last_child)

    def is_prepared(self, sha: str, *, deterministic: bool) -> bool:
        """Whether `prepare` need do nothing for this module."""
        return self._native.is_prepared(cache_key(sha, DETERMINISTIC if deterministic else PLAIN))

    async def prepare(
        self, sha: str, load_wasm: Callable[[], Awaitable[bytes]], *, deterministic: bool
    ) -> None:
        """Compile a module that jobs will name, and keep it whatever else is compiled.

        Raises SandboxError when that is not possible here.
        """
        variant = DETERMINISTIC if deterministic else PLAIN
        source = ModuleSource(cache_key(sha, variant), sha, variant, load_wasm)
        failure = await self._native.prepare(source)
        if failure is not None:
            raise SandboxError(failure.code, failure.text)

    async def run(
        self,
        call: Call,
        data: bytes | bytearray,
        load_wasm: Callable[[], Awaitable[bytes]],
        tag: str = "",
        module_bytes: int = 0,
        seed: bytes = bytes(SEED_BYTES),
    ) -> CallResult:
        """Run one shard; a fault of the module is an outcome, never an exception.

        `load_wasm` is awaited only if the module is in neither a child nor the cache. By
        `module_bytes`, what that will give, it is known early whether a child has to start for it.
        `begun` names the shard by its `tag`. A command that reads frames is told its `seed`.
        Cancelling the caller takes the shard back, killing the child if it has begun.
        Raises SandboxError `preempted` when it had to give way and could not be suspended.
        """
        problem, key, header = _prepare(call)
        if problem is not None:
            return Answer(BAD_INPUT, problem).outcome
        if call.abi == FRAMES:
            data = seed + data
        source = ModuleSource(key, call.module_sha, call.variant, load_wasm, module_bytes)
        scope = call.scope
        if scope is None:
            self._lone += 1
            scope = f"\0{self._lone}"
        for _ in range(_ATTEMPTS_MAX):
            answer = await self._run_once(call, header, data, source, tag, scope)
            if call.scope is None:
                self._replace(scope)
            # A module that the child forgot is loaded again; the shard itself has not begun.
            if answer.code != "not_loaded":
                return answer.outcome
        return Answer(CHILD_DIED, "The sandbox process forgot the module repeatedly").outcome

    def on_begun(self, begins: Callable[[str], object]) -> None:
        """Have `begins` called with the tag of each shard when a child comes to it."""
        self._begins = begins

    def begun(self) -> set[str]:
        """Return the tags of the shards that run or have just ended; others wait for a child."""
        # Whoever waits for those that ended has not heard of it yet.
        ended = {tag for child in self._children for tag in child.catch_up()}
        return (ended | {child.running for child in self._children}) - {""}

    def preempt(self, tag: str) -> None:
        """Have a shard that has begun give way, from now on, to those that wait for its slot.

        It is suspended while one waits, if there is memory for another child and no more than one
        for each slot is; else its child is killed.
        """
        for each in self._children:
            each.catch_up()
        child = next((child for child in self._children if child.running == tag), None)
        if child is None or child.background:
            return
        child.background = True
        self._background.append(child)
        self._take_back(child)
        self._dispatch()

    def stats(self) -> SandboxStats:
        """Return counters for diagnostics."""
        return SandboxStats(
            children=len(self._children),
            running=sum(child.takes_runs for child in self._children),
            suspended=self._suspended(),
            queued=len(self._runs) + len(self._asides),
            restarts=self._child_pool.restarts,
            loaded=sum(len(child.loaded) for child in self._children),
            compiled=self._native.compiled,
            cache_bytes=self._native.size_bytes,
            pids=tuple(child.pid for child in self._children),
            fence=self._child_pool.fence,
        )

    # What the children tell, see protocol.Owner

    def child_answered(self, child: ChildLink) -> None:
        """Place waiting shards; a surplus child that stays idle is stopped after a while."""
        # A child that still has enough to do is filled up later, several shards in one write.
        if child.queued <= DEPTH_MAX // 2:
            self._dispatch()
            self._child_pool.resting(child)

    def child_begins(self, tag: str) -> None:
        """Tell that a shard is run from now on."""
        self._begins(tag)

    def child_held_up(self, child: ChildLink) -> None:
        """Move the shards behind a long one elsewhere, if there is a free slot."""
        if self._has_free_slot(child.scope) or self._can_make_way():
            self._take_back(child)
            self._dispatch()
        else:
            self._start_for_runs(1)

    def child_lost(self, child: ChildLink, waiting: list[Request]) -> None:
        """Run elsewhere what the child had not begun, and start another child."""
        was_used = not child.spare
        self._child_pool.lost(child)
        for request in reversed(waiting):
            request.child = None
            self._runs.appendleft(request)
        if was_used and not self._stopped:
            self._child_pool.restarts += 1
            if child.started and self._lacks_warm_child():
                self._start_child(spare=False)
        self._dispatch()

    # Placing

    async def _run_once(
        self,
        call: Call,
        header: bytes,
        data: bytes | bytearray,
        source: ModuleSource,
        tag: str,
        scope: str,
    ) -> Answer:
        request = Request(
            "run",
            header,
            data,
            max(call.limits.output_bytes, _OUTPUT_BYTES_MIN),
            call.limits.wall_time_s,
            self._future(),
            source,
            tag=tag,
            scope=scope,
        )
        self._runs.append(request)
        self._dispatch()
        if request.child is None and self._waits_for_start(source.key):
            self._native.read_early(source)
        try:
            answer = await self._wait(request)
        finally:
            self._native.take_early(source.key)
        if answer.code == "not_loaded" and request.child is not None:
            request.child.loaded.pop(source.key, None)
        return answer

    async def _aside(self, operation: str, body: bytes, body_bytes_max: int) -> bytes:
        header = encode_header(
            {
                "op": operation,
                "memory": self._compile.memory_bytes,
                "time": self._compile.time_s,
            }
        )
        request = Request(
            operation, header, body, body_bytes_max, self._compile.time_s, self._future()
        )
        self._asides.append(request)
        self._dispatch()
        answer = await self._wait(request)
        if answer.code != OK:
            raise SandboxError(answer.code, answer.text)
        return answer.body

    async def _in_a_clean_child(self, request: Request) -> Answer:
        self._asides.append(request)
        self._dispatch()
        try:
            return await request.future
        except asyncio.CancelledError:
            if request.child is not None:
                request.child.withdraw(request)
            raise

    async def _in_a_last_child(self, request: Request) -> Answer:
        """Have a child that has run nothing do a request, and end it.

        The allocator keeps up to 100 MB after a large compilation, which a shard would lack.
        """
        try:
            return await self._in_a_clean_child(request)
        finally:
            child = request.child
            if child is not None and child.idle and not child.ran:
                self._child_pool.retire(child)
                if not self._stopped and self._lacks_warm_child():
                    self._start_child(spare=False)

    def _waits_for_start(self, key: str) -> bool:
        """Whether a child starts while none has that module."""
        return not all(child.ready for child in self._children) and not any(
            child.has(key) for child in self._children
        )

    def _start_clean_child(self) -> None:
        """Start a child that runs nothing unless there is one, or one that starts."""
        if not any(not (child.ran or child.reserved) for child in self._children):
            self._start_spare()

    async def _wait(self, request: Request) -> Answer:
        try:
            answer = await request.future
        except asyncio.CancelledError:
            if request.child is not None:
                request.child.withdraw(request)
            elif self._background:
                # One that gave way to it can go on.
                self._dispatch()
            raise
        if answer.code in (STOPPED, PREEMPTED, "no_child"):
            raise SandboxError(answer.code, answer.text)
        return answer

    def _future(self) -> asyncio.Future[Answer]:
        if self._stopped:
            raise SandboxError("stopped", "The sandbox is not running")
        return asyncio.get_running_loop().create_future()

    def _dispatch(self) -> None:
        if self._stopped:
            # A shard whose child was lost may come back after `stop` has emptied the queue.
            self._settle_waiting(Answer(STOPPED, "The sandbox is stopping"))
            return
        if self._runs:
            self._place_runs()
        if self._asides:
            self._place_asides()
        if not self._runs:
            # A slot became free: shards that wait behind a long one can go there.
            for child in self._children:
                if child.held_up and (self._has_free_slot(child.scope) or self._can_make_way()):
                    self._take_back(child)
            if self._runs:
                self._place_runs()
        if self._background:
            self._resume_suspended()

    def _place_runs(self) -> None:
        self._place_waiting()
        if self._runs and self._background and self._make_way():
            self._place_waiting()
        self._start_for_runs(len(self._runs))

    def _place_waiting(self) -> None:
        written: set[ChildLink] = set()
        # Those whose scope has no child yet let others pass, as a start takes a while.
        passed: list[Request] = []
        childless: set[str] = set()
        while self._runs:
            request = self._runs[0]
            assert request.module is not None
            if request.future.done():
                self._runs.popleft()
                continue
            if request.scope in childless:
                passed.append(self._runs.popleft())
                continue
            child = choose(
                self._children, request.module.key, len(request.body), self._slots, request.scope
            )
            if child is None:
                if not self._lacks_child():
                    break
                childless.add(request.scope)
                continue
            self._runs.popleft()
            child.spare, child.scope = False, request.scope
            if child.has(request.module.key):
                child.post(request)
                written.add(child)
            else:
                child.reserved = True
                self._spawn(
                    self._install(child, request, request.module),
                    f"sandbox: load a module into child {child.pid}",
                )
        self._runs.extendleft(reversed(passed))
        for child in written:
            child.flush_soon()

    def _lacks_child(self) -> bool:
        """Whether a slot is free, so that a shard waits for a child alone."""
        return sum(child.takes_runs for child in self._children) < self._slots

    def _start_for_runs(self, wanted: int) -> None:
        """Start children for slots that have none yet, or none of that scope."""
        while wanted > 0:
            busy = sum(child.takes_runs or not child.ready for child in self._children)
            if busy >= self._slots or self._start_child(spare=False) is None:
                return
            wanted -= 1
            self._make_room()

    def _make_room(self) -> None:
        """End the child that rested longest when other scopes keep more than one each slot."""
        used = [child for child in self._children if not child.spare and not child.suspended]
        resting = [child for child in used if child.idle and child.scope is not None]
        if resting and len(used) > 2 * self._slots:
            self._child_pool.retire(min(resting, key=lambda child: child.idle_since_s))

    def _replace(self, scope: str) -> None:
        """End the child of a scope that never comes again, and have another one ready."""
        for child in tuple(self._children):
            if child.scope == scope and child.idle:
                self._child_pool.retire(child)
        if not self._stopped and self._lacks_warm_child():
            self._start_child(spare=False)

    def _take_back(self, child: ChildLink) -> None:
        self._runs.extendleft(reversed(child.withdraw_followers()))

    def _place_asides(self) -> None:
        while self._asides:
            request = self._asides[0]
            if request.future.done():
                self._asides.popleft()
                continue
            child = next((child for child in self._children if child.idle and not child.ran), None)
            if child is None:
                break
            self._asides.popleft()
            child.post(request)
            child.flush()
        if not self._asides:
            return
        if all(
            (child.ready and not child.queued) or child.takes_runs or child.suspended
            for child in self._children
        ):
            self._start_spare()
        elif self._hurry is None:
            # Most inspections take milliseconds, so waiting for one is cheaper than a child.
            loop = asyncio.get_running_loop()
            self._hurry = loop.call_later(_ASIDE_PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._hurry = None
        if self._asides and not self._stopped:
            self._start_spare()

    def _start_spare(self) -> None:
        if sum(child.spare for child in self._children) < _SPARES_MAX:
            self._start_child(spare=True)

    async def _install(self, child: ChildLink, request: Request, source: ModuleSource) -> None:
        try:
            failure = await self._native.install(child, source)
        except Exception as err:
            # Reading the module is the caller's code, so its error is the caller's to see.
            if not request.future.done():
                request.future.set_exception(err)
        else:
            if failure is not None:
                if not request.future.done():
                    request.future.set_result(failure)
            elif child.lost:
                self._runs.appendleft(request)
            elif not request.future.done():
                child.post(request)
                child.flush()
        finally:
            child.reserved = False
            if not child.ran:
                child.scope = None
            self._dispatch()

    def _has_free_slot(self, scope: str | None) -> bool:
        return self._lacks_child() and any(
            child.idle and child.scope in (None, scope) for child in self._children
        )

    def _start_child(self, *, spare: bool) -> asyncio.Task[None] | None:
        if self._stopped:
            # A warm-up may get its turn only after `stop` has ended the children it knew.
            return None
        return self._child_pool.start(spare=spare)

    def _give_up(self, why: str) -> None:
        self._settle_waiting(Answer("no_child", why))

    def _settle_waiting(self, answer: Answer) -> None:
        for request in (*self._runs, *self._asides):
            if not request.future.done():
                request.future.set_result(answer)
        self._runs.clear()
        self._asides.clear()

    # Giving way

    def _can_make_way(self) -> bool:
        return bool(self._background) and bool(self._running_in_background())

    def _make_way(self) -> bool:
        """Suspend shards in the background for those that wait; returns whether any gave way."""
        made_way = False
        while (running := self._running_in_background()) and self._wanted_slots() > 0:
            self._suspend(running[0])
            made_way = True
        return made_way

    def _wanted_slots(self) -> int:
        """Return how many more shards wait than slots are free."""
        waiting = sum(not request.future.done() for request in self._runs)
        return waiting + sum(child.takes_runs for child in self._children) - self._slots

    def _suspend(self, child: ChildLink) -> None:
        why_not = self._why_not_suspended()
        if why_not is None and not child.suspend():
            why_not = "the system does not allow to suspend it"
        if why_not is not None:
            child.kill(Answer(PREEMPTED, why_not))

    def _why_not_suspended(self) -> str | None:
        if self._suspended() >= self._slots:
            return "there is a suspended shard for each slot"
        available_bytes = self._available_memory()
        if available_bytes is not None and available_bytes < self._memory_bytes:
            return f"only {available_bytes // _MIB} MiB of memory are available for another one"
        return None

    def _resume_suspended(self) -> None:
        """Let suspended shards go on while slots are free, those that waited longest first."""
        self._background = [
            child for child in self._background if child.background and not child.lost
        ]
        if any(not request.future.done() for request in self._runs):
            return
        for child in sorted(self._background, key=lambda child: child.suspended_since_s or 0.0):
            if child.suspended and self._lacks_child():
                child.resume()

    def _running_in_background(self) -> list[ChildLink]:
        return [
            child
            for child in self._background
            if child.background and not child.suspended and not child.lost
        ]

    def _suspended(self) -> int:
        return sum(child.suspended for child in self._children)

    def _lacks_warm_child(self) -> bool:
        """Whether there are fewer children than slots, without those that only wait to go on."""
        return len(self._children) - self._suspended() < self._slots


@lru_cache(maxsize=64)
def _prepare(call: Call) -> tuple[str | None, str, bytes]:
    """Return what all shards of a call share: its problem, its key, its header."""
    limits = call.limits
    if call.problem is not None:
        return call.problem, "", b""
    key = cache_key(call.module_sha, call.variant)
    header = {
        "op": "run",
        "key": key,
        "abi": call.abi,
        "entry": call.entry,
        "memory": limits.memory_bytes,
        "time": limits.wall_time_s,
        "output": limits.output_bytes,
        "fuel": limits.fuel,
        "args": call.args,
        "env": call.env,
        "script": call.script and (call.script[0], b64encode(call.script[1]).decode()),
    }
    return None, key, encode_header(header)
