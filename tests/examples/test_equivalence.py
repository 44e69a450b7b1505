"""Each example gives what plain Python gives, on one worker and on four, however it is cut."""

import asyncio
import hashlib
import json
import runpy
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from script.example_tools import build, catalog
from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway.results.reduce import fold
from swarm_hub.components.sandbox import OK, Call, Limits, Sandbox
from swarm_hub.models.shard import ShardResult
from swarm_hub.tasks import TaskSupervisor
from tests.examples import reference


@dataclass(frozen=True)
class Case:
    """Items for an example, its arguments, and the sizes of shards to try."""

    items: Any
    args: tuple[str, ...] = ()
    shard_sizes: tuple[int | None, ...] = (None, 1)


CASES = {
    "primes": [Case(range(*bounds)) for bounds in ((0, 10), (2, 3), (-5, 60), (99_990, 100_030))],
    "pi": [Case(range(*bounds)) for bounds in ((0, 50), (0, 1), (10**12, 10**12 + 30))],
    # The padding of SHA-256 takes another block from 56 bytes on.
    "sha256": [
        Case(range(low, low + 24), args, (None, 5))
        for low, args in (
            (0, ()), (95, ("größe",)), (0, ("x" * 54,)), (10**11, ("y" * 50,)), (5, ("z" * 999,)),
        )
    ],
    # Rows at both edges, the middle one, and one alone; Python takes seconds for all of them.
    "mandelbrot": [
        Case(range(*rows), (), (None, 7)) for rows in ((0, 20), (195, 205), (399, 400))
    ],
    "wordcount": [
        Case(b"one two\n\n\ntwo  t_w_o\n"),
        Case(b"no end of line"),
        Case(b"\n"),
        Case(b"\xc3\xa9t\xc3\xa9 \xff\0 x9\r\n_\n"),
        Case(b"word " * 40_000 + b"\n" + b"x" * 70_000 + b"\nword\n", (), (None, 1)),
        Case(b"\n".join(b"a%d a%d" % (n, n // 3) for n in range(3000)), (), (None, 700)),
    ],
    "groupby": [
        Case(b"north,5\nsouth,7\nnorth,-2\n"),
        Case("city,cents\n\n\nZürich,3\r\nOslo,+4".encode()),
        Case(b'"a, b",1\n"a ""b""",2\n"a, b",4\n'),
        Case(b"x\n,\n,1\nx,9223372036854775807\ny,9223372036854775808\nx,9\n", (), (1,)),
        Case(b"low,-9223372036854775808\n\\\t,1\n,,3\n\n"),
        Case((catalog.EXAMPLES / "groupby" / "sales.csv").read_bytes(), ("2", "4"), (None, 1, 5)),
    ],
}  # fmt: skip
EXPECTED: dict[str, Callable[[Case], Any]] = {
    "primes": lambda case: reference.primes(case.items),
    "pi": lambda case: reference.darts(case.items),
    "sha256": lambda case: reference.best_hash("".join(case.args), case.items),
    "mandelbrot": lambda case: reference.pixels(case.items),
    "wordcount": lambda case: reference.words(case.items),
    "groupby": lambda case: reference.grouped(case.items.decode(), *map(int, case.args)),
}
# The same program twice: with a compiler and without one.
SOURCES = [
    *((name, catalog.read(name).source) for name in CASES),
    ("wordcount", catalog.EXAMPLES / "wordcount" / "wordcount.wat"),
]


def test_every_example_is_compared() -> None:
    assert sorted(CASES) == sorted(EXPECTED) == catalog.names()


@pytest.mark.parametrize("workers", [1, 4])
async def test_every_example_gives_what_plain_python_gives(
    workers: int,
    gateway_with_workers: Callable[[int], Awaitable[SwarmClient]],
    subtests: pytest.Subtests,
) -> None:
    client = await gateway_with_workers(workers)
    for name, source in SOURCES:
        with subtests.test(source.name):
            await compare(client, name, source)


async def compare(client: SwarmClient, name: str, source: Path) -> None:
    module = await asyncio.to_thread(build.module, source)
    spec = {key: catalog.read(name).spec.get(key) for key in ("abi", "split", "reduce")}
    for case in CASES[name]:
        expected = EXPECTED[name](case)
        for size in case.shard_sizes:
            job_id = await client.submit(
                module, case.items, **spec, shard_size=size, args=list(case.args) or None
            )
            status = await client.wait(job_id)
            assert status["state"] == "completed", status["failures"]
            result = await client.result(job_id)
            found = result if spec["reduce"] == "concat" else json.loads(result)
            assert found == expected, (case, size)


@pytest.fixture
async def run_shards(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Return a way to run an example on shards given by hand, and to fold what they give."""
    tasks = TaskSupervisor()
    sandbox = Sandbox(cache_dir=tmp_path / "cache", slots=1, spawn=tasks.spawn)
    await sandbox.start()
    modules: dict[Path, bytes] = {}

    async def run(source: Path, shards: list[bytes]) -> Any:
        if source not in modules:
            modules[source] = await sandbox.as_wasm(await asyncio.to_thread(build.module, source))
        wasm = modules[source]

        async def load() -> bytes:
            return wasm

        call = Call(hashlib.sha256(wasm).hexdigest(), "wasi", None, Limits(2**27, 20, 2**20))
        results = []
        for index, shard in enumerate(shards):
            outcome = await sandbox.run(call, shard, load)
            assert outcome.code == OK, outcome.text
            shown = ShardResult("a", "j", index, index, 1, "n", "", 0, outcome.output, 0, 0)
            results.append((shown, outcome.output))
        return json.loads(fold("json", results))

    yield run
    await sandbox.stop()
    await tasks.stop(timeout_s=2)


def shards_of(alphabet: str) -> st.SearchStrategy[list[bytes]]:
    """Make shards of lines: any cut between two lines is as good as any other."""
    line = st.tuples(st.text(alphabet, max_size=12), st.sampled_from(["\n", "\r\n"])).map("".join)
    shard = st.lists(line, max_size=6).map(lambda lines: "".join(lines).encode())
    return st.lists(shard, min_size=1, max_size=4)


in_the_sandbox = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@in_the_sandbox
@given(shards=shards_of('abZ09_ -é世\\"\x01'))
async def test_words_are_counted_alike_in_c_in_wat_and_in_python(
    run_shards: Callable[..., Awaitable[Any]], shards: list[bytes]
) -> None:
    folder = catalog.EXAMPLES / "wordcount"
    expected = reference.words(b"".join(shards))
    assert await run_shards(folder / "wordcount.c", shards) == expected
    assert await run_shards(folder / "wordcount.wat", shards) == expected


@in_the_sandbox
@given(shards=shards_of('ab,,,""0123+- é世\\\x01'))
async def test_groups_are_those_of_pythons_csv_module(
    run_shards: Callable[..., Awaitable[Any]], shards: list[bytes]
) -> None:
    source = catalog.EXAMPLES / "groupby" / "groupby.c"
    assert await run_shards(source, shards) == reference.grouped(b"".join(shards).decode())


async def test_a_sum_beyond_64_bits_fails_its_shard_with_what_to_do(
    gateway_with_workers: Callable[[int], Awaitable[SwarmClient]],
) -> None:
    module = await asyncio.to_thread(build.module, catalog.EXAMPLES / "groupby" / "groupby.c")
    client = await gateway_with_workers(1)
    job_id = await client.submit(
        module, b"a,9223372036854775807\n" * 2, split="lines", shard_size=2
    )
    status = await client.wait(job_id)
    assert status["state"] == "failed"
    assert "cut smaller shards" in status["failures"][0]


def test_the_png_file_holds_the_pixels_of_the_image() -> None:
    png = runpy.run_path(str(catalog.EXAMPLES / "mandelbrot" / "png.py"))["png"]
    ppm = b"P6\n3 2\n255\n" + bytes(range(18))
    body = png(ppm)
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(body):
        (size,) = struct.unpack_from(">I", body, at)
        name, content = body[at + 4 : at + 8], body[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", body, at + 8 + size) == (zlib.crc32(name + content),)
        chunks[name] = content
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (3, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + ppm[-18:-9] + b"\0" + ppm[-9:]
    with pytest.raises(ValueError, match="not a whole P6 image"):
        png(ppm[:-1])
