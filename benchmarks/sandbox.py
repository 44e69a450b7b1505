"""The sandbox: what a shard costs besides its work, and how fast its work is next to C.

Ratios are of CPU time, as a busy machine changes the rest: both sides run in turns, the figure is
the median of the ratios of neighbours, and between the two numbers of `half` lie half of them.
Inputs are small enough for the caches of one core. For wasm3, an interpreter: pip install pywasm3.
"""

import asyncio
import hashlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import geometric_mean, median, quantiles
from typing import Any, Final

from contender import Contender, ContenderError, Spent, in_python
from figures import Figures, percentile, start
from programs import KERNELS, Kernel, Programs, compile_kernels, many_functions

from swarm_hub.components.sandbox import OK, Call, CallResult, Limits, Sandbox, archive
from swarm_hub.components.sandbox.child.variants import PLAIN, SETTINGS
from swarm_hub.tasks import TaskSupervisor

_HERE: Final = Path(__file__).parent
_EXAMPLES: Final = _HERE.parent / "examples"
_MIB: Final = 1024 * 1024
# The defaults of `sandbox:`, but for an output that holds the largest input here.
_LIMITS: Final = Limits(128 * _MIB, 60.0, 17 * _MIB)
_WITH_FUEL: Final = Limits(128 * _MIB, 60.0, 17 * _MIB, fuel=2**60)
_FUEL_TARGET: Final = 2.4
_SHARDS: Final = 16
_PRIMES_BELOW: Final = 2_000_000
_PRIMES: Final = 148_933


# What each knob changes against the settings of `PLAIN`; every one runs in a process of its own,
# since wasmtime ends the process for combinations that it refuses.
_KNOBS: Final[dict[str, dict[str, Any]]] = {
    "fuel": {"consume_fuel": True},
    "epoch": {"epoch_interruption": True},
    "nan_canonicalization": {"cranelift_nan_canonicalization": True},
    "deterministic": {"consume_fuel": True, "cranelift_nan_canonicalization": True},
    "explicit_bounds": {"signals_based_traps": False},
    "no_reservation": {"memory_reservation": 0, "memory_guard_size": 0},
    "guard_64k": {"memory_guard_size": 65536},
    "memory_fixed": {"memory_may_move": False},
    "no_memory_image": {"memory_init_cow": False},
    "opt_none": {"cranelift_opt_level": "none"},
    "opt_size": {"cranelift_opt_level": "speed_and_size"},
}


class Runner:
    """A sandbox of one slot, and shards in it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def run(self, wasm: bytes, abi: str, data: bytes, limits: Limits = _LIMITS) -> CallResult:
        """Run a shard; ends the benchmark when it fails."""

        async def load() -> bytes:
            return wasm

        call = Call(hashlib.sha256(wasm).hexdigest(), abi, None, limits)
        outcome = await self.sandbox.run(call, data, load)
        if outcome.code != OK:
            raise SystemExit(f"a shard failed: {outcome.code}: {outcome.text}")
        return outcome

    async def kernel(self, wasm: bytes, size: tuple[int, int], limits: Limits = _LIMITS) -> Spent:
        """Run a kernel as a shard."""
        outcome = await self.run(wasm, "range", b"%d %d\n" % size, limits)
        return Spent(outcome.cpu_s, int(outcome.output))

    def child_cpu_s(self) -> float:
        """Return the CPU time of the children so far; the kernel counts it in nanoseconds here."""
        total = 0
        for pid in self.sandbox.stats().pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9


async def main() -> None:
    """Measure every figure."""
    figures, arguments = start(__doc__ or "")
    quick = arguments.quick
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as name:
        folder = Path(name)
        programs = compile_kernels(folder)
        async with _runner(folder / "cache") as runner:
            empty = await runner.sandbox.assemble((_HERE / "kernels/empty.wat").read_text())
            await _overhead(runner, figures, empty, 500 if quick else 3000)
            await _sixteen_shards(runner, figures, programs, 3 if quick else 7)
            await _data(runner, figures, programs, 3 if quick else 9)
            for kernel in KERNELS:
                await _ratio(runner, figures, programs, kernel, 4 if quick else 25)
            await _interpreters(runner, figures, programs)
            module = await runner.sandbox.assemble(many_functions())
        await _loading(folder, figures, module, 2 if quick else 5)
        # Those three are the ones that knobs change most.
        _knobs(figures, programs, KERNELS[1:4] if quick else KERNELS, 1 if quick else 9)


async def _overhead(runner: Runner, figures: Figures, empty: bytes, count: int) -> None:
    for _ in range(50):
        await runner.run(empty, "range", b"0 1\n")
    walls: list[float] = []
    child, hub = runner.child_cpu_s(), time.process_time()
    for _ in range(count):
        started = time.perf_counter()
        await runner.run(empty, "range", b"0 1\n")
        walls.append((time.perf_counter() - started) * 1e6)
    child, hub = runner.child_cpu_s() - child, time.process_time() - hub
    figures.add("shard_overhead_p50_us", percentile(walls, 0.5), "us", shards=count)
    figures.add("shard_overhead_p99_us", percentile(walls, 0.99), "us")
    figures.add("shard_child_cpu_us", child / count * 1e6, "us")
    figures.add("shard_hub_cpu_us", hub / count * 1e6, "us")
    child, hub, started = runner.child_cpu_s(), time.process_time(), time.perf_counter()
    for _ in range(count // 64):
        await asyncio.gather(*(runner.run(empty, "range", b"0 1\n") for _ in range(64)))
    done = count // 64 * 64
    wall = (time.perf_counter() - started) / done
    child, hub = runner.child_cpu_s() - child, time.process_time() - hub
    figures.add(
        "shard_batch_us", wall * 1e6, "us", at_once=64,
        child_cpu_us=round(child / done * 1e6, 1), hub_cpu_us=round(hub / done * 1e6, 1),
    )  # fmt: skip


async def _sixteen_shards(runner: Runner, figures: Figures, programs: Programs, turns: int) -> None:
    """Compare 16 shards with the same native code in one instance of one process."""
    wasm = programs.wasm("primes").read_bytes()
    step = _PRIMES_BELOW // _SHARDS
    shards = [b"%d %d\n" % (low, low + step) for low in range(0, _PRIMES_BELOW, step)]
    await runner.run(wasm, "range", shards[0])
    added, kernels = [], []
    with _contender(in_python("wasmtime", str(programs.wasm("primes")), _settings())) as bare:
        bare.run(0, 1000)
        for _ in range(turns):
            kernel = bare.run(0, _PRIMES_BELOW)
            child, hub = runner.child_cpu_s(), time.process_time()
            outputs = await asyncio.gather(*(runner.run(wasm, "range", each) for each in shards))
            spent = runner.child_cpu_s() - child + time.process_time() - hub
            _expect(sum(int(each.output) for each in outputs), _PRIMES)
            _expect(kernel.result, _PRIMES)
            added.append(spent - kernel.cpu_s)
            kernels.append(kernel.cpu_s)
    figures.add(
        "shards_16_added_cpu_s", median(added), "s", target=0.05,
        kernel_s=round(median(kernels), 3), half=_half(added),
    )  # fmt: skip


async def _data(runner: Runner, figures: Figures, programs: Programs, turns: int) -> None:
    assemble = runner.sandbox.assemble
    echo = await assemble((_EXAMPLES / "echo/echo.wat").read_text())
    total = await assemble((_EXAMPLES / "sum_i32/sum.wat").read_text())
    cat, copy = (programs.wasm(name).read_bytes() for name in ("cat", "copy"))
    for size_mib in (1, 16):
        items = os.urandom(4096) * (size_mib * 256)
        for abi, wasm, data in (
            ("bytes", echo, items),
            ("wasi", cat, items),
            ("wasi-files", copy, archive.header("data", len(items)) + items),
            ("i32-array", total, items),
        ):
            # The first run touches memory for the first time, also the hub's.
            await runner.run(wasm, abi, data)
            walls = []
            child, hub = runner.child_cpu_s(), time.process_time()
            for _ in range(turns):
                started = time.perf_counter()
                outcome = await runner.run(wasm, abi, data)
                walls.append(time.perf_counter() - started)
                if abi != "i32-array":
                    _expect(outcome.output == data, True)
            child, hub = runner.child_cpu_s() - child, time.process_time() - hub
            figures.add(
                f"{abi.replace('-', '_')}_{size_mib}mib_ms", median(walls) * 1000, "ms",
                child_cpu_ms=round(child / turns * 1000, 2),
                hub_cpu_ms=round(hub / turns * 1000, 2),
            )  # fmt: skip


async def _loading(folder: Path, figures: Figures, module: bytes, turns: int) -> None:
    """Time the first shard of a module that was never seen, and of one that is in the cache."""
    cold: list[float] = []
    warm: list[float] = []
    for turn in range(turns):
        for times in (cold, warm):
            async with _runner(folder / f"cache-{turn}") as runner:
                await runner.sandbox.warm()
                started = time.perf_counter()
                await runner.run(module, "range", b"0 1\n")
                first = time.perf_counter() - started
                started = time.perf_counter()
                await runner.run(module, "range", b"0 1\n")
                times.append((first - (time.perf_counter() - started)) * 1000)
    kb = len(module) // 1000
    figures.add("cold_compile_ms", median(cold), "ms", module_kb=kb, half=_half(cold))
    figures.add("warm_load_ms", median(warm), "ms", module_kb=kb, half=_half(warm))


async def _ratio(
    runner: Runner, figures: Figures, programs: Programs, kernel: Kernel, turns: int
) -> None:
    wasm = programs.wasm(kernel.name).read_bytes()
    ways = {"": (kernel.target, _LIMITS), "_fuel": (_FUEL_TARGET, _WITH_FUEL)}
    ratios: dict[str, list[float]] = {suffix: [] for suffix in ways}
    spent = []
    for turn in range(turns + 1):
        # A process for each turn, as a shard has an instance of its own: both begin with memory
        # that was never touched, and not always in the same places, which changes the speed too.
        with _contender(Contender(programs.native(kernel.name))) as native:
            base = native.run(*kernel.size)
        for suffix, (_, limits) in ways.items():
            ours = await runner.kernel(wasm, kernel.size, limits)
            _expect(ours.result, base.result)
            # The first turn compiles and loads.
            if turn:
                ratios[suffix].append(ours.cpu_s / base.cpu_s)
        spent.append(base.cpu_s)
    for suffix, (target, _) in ways.items():
        figures.add(
            f"native_ratio_{kernel.name}{suffix}", median(ratios[suffix]), "x", target=target,
            native_ms=round(median(spent) * 1000, 1), half=_half(ratios[suffix]),
        )  # fmt: skip


async def _interpreters(runner: Runner, figures: Figures, programs: Programs) -> None:
    """Tell how many times longer interpreters take than the sandbox, at the same small size."""
    for kernel in KERNELS:
        wasm = programs.wasm(kernel.name).read_bytes()
        ours = [await runner.kernel(wasm, kernel.small) for _ in range(5)]
        for engine, start_it in (
            ("wasm3", ("wasm3", str(programs.wasm(kernel.name, "-mvp")))),
            ("cpython", ("cpython", kernel.name)),
        ):
            with _contender(in_python(*start_it)) as other:
                try:
                    theirs = other.run(*kernel.small)
                except ContenderError as error:
                    figures.add(f"{engine}_slower_{kernel.name}", None, "x", why=str(error))
                    continue
            _expect(theirs.result, ours[0].result)
            figures.add(
                f"{engine}_slower_{kernel.name}", theirs.cpu_s / median(e.cpu_s for e in ours),
                "x", better="higher", theirs_s=round(theirs.cpu_s, 3),
            )  # fmt: skip


def _knobs(figures: Figures, programs: Programs, kernels: tuple[Kernel, ...], turns: int) -> None:
    """Tell what each setting of the compiler costs against the default, in a bare instance."""
    ways = {knob: (_settings(**changed), "") for knob, changed in _KNOBS.items()}
    ways["module_simd128"] = (_settings(), "-simd")
    prices: dict[str, dict[str, float]] = {knob: {} for knob in ways}
    refused: dict[str, str] = {}
    for kernel in kernels:
        file = str(programs.wasm(kernel.name))
        with _contender(in_python("wasmtime", file, _settings())) as base:
            base.run(*kernel.size)
            for knob, (settings, kind) in ways.items():
                module = str(programs.wasm(kernel.name, kind))
                with _contender(in_python("wasmtime", module, settings)) as other:
                    try:
                        _expect(other.run(*kernel.size).result, base.run(*kernel.size).result)
                        pairs = [
                            (other.run(*kernel.size).cpu_s, base.run(*kernel.size).cpu_s)
                            for _ in range(turns)
                        ]
                    except ContenderError as error:
                        refused[knob] = str(error)
                        continue
                prices[knob][kernel.name] = median(one / two for one, two in pairs)
    for knob, price in prices.items():
        if knob in refused:
            figures.add(f"knob_{knob}", None, "x", why=refused[knob])
            continue
        shown: dict[str, Any] = {name: round(value, 2) for name, value in price.items()}
        figures.add(f"knob_{knob}", geometric_mean(price.values()), "x", **shown)


def _settings(**changed: Any) -> str:
    return json.dumps({**SETTINGS[PLAIN], **changed})


def _half(values: list[float]) -> str:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{low:.3g} to {high:.3g}"


def _expect(found: Any, expected: Any) -> None:
    if found != expected:
        raise SystemExit(f"wrong answer: {str(found)[:100]}, expected {str(expected)[:100]}")


@contextmanager
def _contender(contender: Contender) -> Iterator[Contender]:
    try:
        yield contender
    finally:
        contender.stop()


@asynccontextmanager
async def _runner(cache: Path) -> AsyncIterator[Runner]:
    tasks = TaskSupervisor()
    sandbox = Sandbox(cache_dir=cache, slots=1, spawn=tasks.spawn)
    await sandbox.start()
    try:
        yield Runner(sandbox)
    finally:
        await sandbox.stop()
        await tasks.stop(timeout_s=2)


if __name__ == "__main__":
    asyncio.run(main())
