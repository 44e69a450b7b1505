"""A campaign: mutants through the real sandbox, each answer held against the validator's."""

import asyncio
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from swarm_hub.components.sandbox.call import Call, Limits, SandboxError
from swarm_hub.components.sandbox.pool import Sandbox
from tests.fuzz.mutate import mutant
from tests.fuzz.oracle import Oracle
from tests.helpers import commands, modules, wasm_bytes
from tests.hostile import module_cases

EXAMPLES = Path(__file__).parents[2] / "examples"
_MIB = 1024 * 1024
# An own bound for each thing a mutant may need, so that none takes long.
COMPILE_S, _WALL_S, _FUEL = 5.0, 0.5, 200_000
_TOGETHER = 8

# What a module that the validator accepts may be refused for.
_STATED = re.compile(
    r"The module (imports|exports \d+ items|exports or imports a function with a type)"
    r"|The module can't be linked"
    r"|Unsupported feature|[Ii]mplementation limit|Code for function is too large"
    r"|does not start with the bytes|component or an unknown version|WAT text"
)
_LIMIT = re.compile(r"Compiling took longer|out of CPU time|memory allocation of")
_ENDS = re.compile(
    r"ok|fuel|memory|wall_time|output|bad_export|bad_input|trap: [a-z_]+( at .*)?|exit: .*"
)


@dataclass
class Tally:
    """What a campaign has seen so far."""

    seed: int
    modules: int = 0
    accepted: int = 0
    ran: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Modules a second."""
        return self.modules / max(time.monotonic() - self.began_s, 1e-3)

    def __str__(self) -> str:
        codes = ", ".join(f"{count} {code}" for code, count in self.codes.most_common())
        return (
            f"{self.modules} modules, {self.rate:.0f}/s: {self.accepted} valid, {self.ran} run; "
            f"{codes}; {len(self.findings)} findings"
        )


async def corpus(sandbox: Sandbox) -> list[bytes]:
    """The valid modules that mutants are made of."""
    texts = [path.read_text() for path in sorted(EXAMPLES.glob("*/*.wat"))]
    texts += [modules.SUM, modules.SPIN, modules.CAT, modules.says(1, "x", 0)]
    texts += [modules.bytes_module("(i64.const 8)"), modules.range_module("(i64.const 1)")]
    texts += [commands.SLEEPER, commands.STDERR_FLOOD, commands.opens(3)]
    built = [case.module for case in module_cases.CASES if case.limits is not module_cases.SHORT]
    texts += [module for module in built if isinstance(module, str) and len(module) < 4_000]
    made = [
        wasm_bytes.a_map(),
        wasm_bytes.br_table(20),
        wasm_bytes.many_functions(5),
        wasm_bytes.many_exports(5),
        wasm_bytes.many_globals(3),
        wasm_bytes.many_data_segments(3),
        wasm_bytes.many_element_segments(3),
        wasm_bytes.wide_function(5),
        wasm_bytes.nested_blocks(10),
        wasm_bytes.large_custom_section(100),
        wasm_bytes.lying_name_section(10),
    ]
    return [*[await sandbox.assemble(text) for text in dict.fromkeys(texts)], *made]


async def hunt(
    sandbox: Sandbox, tally: Tally, *, modules_max: int, time_s: float, keep: Path
) -> None:
    """Try mutants until there were so many or the time is over; fills the tally."""
    seeds = await corpus(sandbox)
    tally.began_s = time.monotonic()
    numbers = iter(range(modules_max))

    async def work(oracle: Oracle) -> None:
        for number in numbers:
            if time.monotonic() - tally.began_s >= time_s:
                return
            wasm = mutant(seeds, random.Random(f"{tally.seed}:{number}"))
            problem = await judge(sandbox, oracle, wasm, tally)
            tally.modules += 1
            if problem is not None:
                tally.findings.append(f"{_save(keep, tally.seed, number, wasm)}: {problem}")

    async with Oracle() as oracle, asyncio.TaskGroup() as group:
        for _ in range(_TOGETHER):
            group.create_task(work(oracle))


async def judge(sandbox: Sandbox, oracle: Oracle, wasm: bytes, tally: Tally) -> str | None:
    """Put a module through the sandbox; returns what is wrong with what it said, or None."""
    valid = await oracle.accepts(wasm)
    tally.accepted += valid
    try:
        report = await sandbox.inspect(wasm)
    except SandboxError as err:
        tally.codes[f"inspect: {err.code}"] += 1
        return _unfit_refusal(valid, err.code, str(err))
    if not valid:
        return "the validator refuses it, the sandbox does not"
    if report.refused is not None:
        tally.codes["inspect: not for a job"] += 1
        return None if _STATED.search(report.refused) else f"refused: {report.refused}"
    if not report.abis:
        tally.codes["inspect: no abi"] += 1
        return None
    abi = report.abis[0]
    outcome = await sandbox.run(
        Call(
            hashlib.sha256(wasm).hexdigest(),
            abi,
            report.entries(abi)[0],
            Limits(16 * _MIB, _WALL_S, 64 * 1024, fuel=_FUEL),
        ),
        b"1 9" if abi == "range" else b"12345678",
        _loader(wasm),
    )
    tally.ran += 1
    tally.codes[f"run: {_kind(outcome.code)}"] += 1
    if _ENDS.fullmatch(outcome.code):
        return None
    return _unfit_refusal(valid, outcome.code, outcome.text)


def _kind(code: str) -> str:
    return "exit" if code.startswith("exit: ") else code.partition(" at ")[0]


def _unfit_refusal(valid: bool, code: str, text: str) -> str | None:
    stated = f"{code}: {text}"
    if code == "compile_limit":
        return None if _LIMIT.search(text) else stated
    if code == "bad_module":
        return None if not valid or _STATED.search(text) else stated
    return stated


def _loader(wasm: bytes) -> Callable[[], Awaitable[bytes]]:
    async def load() -> bytes:
        return wasm

    return load


def _save(keep: Path, seed: int, number: int, wasm: bytes) -> Path:
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{seed}-{number}.wasm"
    path.write_bytes(wasm)
    return path
