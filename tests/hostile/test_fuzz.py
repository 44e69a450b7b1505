"""Mutated modules: the sandbox refuses what the validator refuses, and no child dies of one."""

import random
from pathlib import Path

from swarm_hub.components.sandbox.pool import Sandbox
from tests.fuzz.campaign import COMPILE_S, Tally, corpus, hunt, judge
from tests.fuzz.mutate import join, mutant, sections
from tests.fuzz.oracle import Oracle
from tests.helpers.sandboxes import Tasks
from tests.helpers.wasm_bytes import a_map, custom, exported, sections_twice
from tests.hostile.slot import one_slot

SEED = 20_261_125
# script/fuzz tries more.
MODULES = 120
TIME_S = 60.0
# A run that tried fewer would prove nothing, however slow the machine is.
LEAST = 100


async def test_mutants_are_refused_or_run_and_nothing_else_happens(tmp_path: Path) -> None:
    tasks = Tasks()
    sandbox = Sandbox(
        cache_dir=tmp_path / "cache", slots=2, spawn=tasks.spawn, compile_time_s=COMPILE_S
    )
    await sandbox.start()
    tally = Tally(SEED)
    try:
        await hunt(sandbox, tally, modules_max=MODULES, time_s=TIME_S, keep=tmp_path)
    finally:
        await sandbox.stop()
        await tasks.settle()
    print(tally)
    assert tally.findings == []
    assert tasks.failures == []
    assert tally.modules >= LEAST
    assert tally.accepted > 0
    assert tally.ran > 0


async def test_every_module_the_mutants_are_made_of_is_valid_or_meant_not_to_be(
    tmp_path: Path,
) -> None:
    async with one_slot(tmp_path) as bench, Oracle() as oracle:
        seeds = await corpus(bench.sandbox)
        refused = [wasm for wasm in seeds if not await oracle.accepts(wasm)]
    assert len(seeds) > 50
    # Some hostile modules use what the sandbox turns off.
    assert len(refused) < len(seeds) / 10


class Liar(Oracle):
    """A validator that says the opposite."""

    async def accepts(self, wasm: bytes) -> bool:
        return not await super().accepts(wasm)


async def test_a_disagreement_is_a_finding(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as bench, Liar() as liar, Oracle() as oracle:
        good, bad, tally = a_map(), sections_twice(), Tally(0)
        assert await judge(bench.sandbox, oracle, good, tally) is None
        assert await judge(bench.sandbox, oracle, bad, tally) is None
        said = await judge(bench.sandbox, liar, good, tally)
        assert said == "the validator refuses it, the sandbox does not"
        said = await judge(bench.sandbox, liar, bad, tally)
        assert said is not None
        assert said.startswith("bad_module: ")
    assert (tally.accepted, tally.ran) == (2, 1)


def test_the_same_seed_makes_the_same_mutants() -> None:
    seeds = [a_map(), a_map(last=custom(b"a", b"b"))]

    def some(seed: int) -> list[bytes]:
        return [mutant(seeds, random.Random(f"{seed}:{number}")) for number in range(200)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    assert len(set(some(1))) > 100


def test_a_module_is_cut_into_its_sections_and_joined_again() -> None:
    wasm = a_map(last=custom(b"a", bytes(300)))
    assert [number for number, _ in sections(wasm)] == [1, 3, 7, 10, 0]
    assert join(sections(wasm)) == wasm
    # A section that claims more than there is ends with the module.
    assert sections(wasm[:-1])[-1] == (0, b"\1a" + bytes(299))
    assert sections(a_map()[:8] + exported() + b"\1\x85")[1:] == [(1, b"")]
