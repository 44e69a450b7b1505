"""An inspection says what a module is for, and why it would be refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_hub.components.sandbox.call import SandboxError
from swarm_hub.components.sandbox.report import Export, Import, parse_report
from tests.helpers import modules
from tests.helpers.sandboxes import EXAMPLES, Bench

ALL_ABIS = """(module
  (memory (export "memory") 2 8)
  (func (export "_start"))
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "map") (param i32 i32) (result i64) (i64.const 0))
  (func (export "count") (param i64 i64) (result i64) (i64.const 0))
  (func (export "sum") (param i32 i32) (result i32) (i32.const 0))
  (func (export "max") (param i32 i32) (result i32) (i32.const 0))
  (global (export "version") i32 (i32.const 1))
  (table (export "table") 1 funcref))"""


async def test_the_abis_a_module_fits_come_best_first(bench: Bench) -> None:
    report = await bench.sandbox.inspect(await bench.wasm(ALL_ABIS))
    assert report.abis == ("wasi", "bytes", "range", "i32-array", "wasi-files")
    assert report.entries("i32-array") == ("sum", "max")
    assert report.entries("wasi") == ("_start",)
    assert report.entries("cobol") == ()
    assert (report.memory_min_bytes, report.memory_max_bytes) == (2 * 65536, 8 * 65536)
    assert report.refused is None


async def test_exports_have_readable_types(bench: Bench) -> None:
    report = await bench.sandbox.inspect(await bench.wasm(ALL_ABIS))
    assert Export("memory", "memory", "2..8 pages") in report.exports
    assert Export("map", "func", "(i32, i32) -> i64") in report.exports
    assert Export("_start", "func", "() -> ()") in report.exports
    assert Export("version", "global", "i32") in report.exports
    assert Export("table", "table", "funcref") in report.exports


async def test_a_module_with_a_foreign_import_says_so(bench: Bench) -> None:
    abort = """(module
      (import "env" "abort" (func (param i32 i32 i32 i32)))
      (func (export "map") (param i64 i64) (result i64) (i64.const 0)))"""
    report = await bench.sandbox.inspect(await bench.wasm(abort))
    assert report.refused is not None
    assert "env.abort" in report.refused
    assert report.abis == ()
    assert report.imports == (Import("env.abort", "func", "(i32, i32, i32, i32) -> ()"),)


async def test_a_module_that_hides_its_memory_would_never_see_its_data(bench: Bench) -> None:
    function = '(func (export "f") (param i32 i32) (result i32) (local.get 1))'
    for memory, abis in (
        ("", ("i32-array",)),
        ("(memory 1)", ()),
        ('(memory (export "memory") 1)', ("i32-array",)),
    ):
        report = await bench.sandbox.inspect(await bench.wasm(f"(module {memory} {function})"))
        assert report.abis == abis, memory


async def test_a_module_without_a_memory_fits_no_abi_that_needs_one(bench: Bench) -> None:
    report = await bench.sandbox.inspect(await bench.wasm(modules.SPIN))
    assert report.abis == ("range",)
    assert report.memory_min_bytes == 0


async def test_a_mistake_in_wat_is_shown_with_its_place(bench: Bench) -> None:
    with pytest.raises(SandboxError, match="unknown operator") as refused:
        await bench.sandbox.assemble("(module\n  (func (i32.bogus)))")
    assert refused.value.code == "bad_module"


@pytest.mark.parametrize(
    ("example", "abis"),
    [
        ("sum_i32/sum", ("i32-array",)),
        ("primes/primes", ("range",)),
        ("wordcount/wordcount", ("wasi", "wasi-files")),
        ("echo/echo", ("bytes",)),
        ("bytesum/bytesum", ("bytes",)),
    ],
)
async def test_the_examples_fit_the_abi_they_show(
    bench: Bench, example: str, abis: tuple[str, ...]
) -> None:
    wasm = await bench.wasm((EXAMPLES / f"{example}.wat").read_text())
    assert (await bench.sandbox.inspect(wasm)).abis == abis


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("abis", "exports", "imports", "memory_min_bytes", "memory_max_bytes", "refused")


@settings(max_examples=50)
@given(st.binary() | st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)))
def test_a_report_from_a_lying_child_is_a_value_error_or_a_report(body: object) -> None:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        report = parse_report(encoded)
    except ValueError:
        return
    assert all(isinstance(abi, str) for abi in report.abis)
