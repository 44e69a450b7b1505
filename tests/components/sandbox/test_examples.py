"""The example modules compute what plain Python computes."""

import json
import random
import re
import struct
from collections import Counter

import pytest

from tests.helpers.sandboxes import EXAMPLES, MIB, Bench


def example(name: str) -> str:
    return (EXAMPLES / name).read_text()


def python_word_counts(text: bytes) -> Counter[str]:
    return Counter(word.decode() for word in re.findall(rb"[A-Za-z0-9_]+", text))


async def test_sum_i32_wraps_like_the_machine(bench: Bench) -> None:
    draw = random.Random(1)
    numbers = [draw.randint(-(2**31), 2**31 - 1) for _ in range(5000)]
    outcome = await bench.run(
        example("sum_i32/sum.wat"), "i32-array", struct.pack(f"<{len(numbers)}i", *numbers)
    )
    assert int(outcome.output) == (sum(numbers) + 2**31) % 2**32 - 2**31


@pytest.mark.parametrize(
    ("lo", "hi", "count"),
    [(0, 0, 0), (0, 2, 0), (0, 3, 1), (2, 3, 1), (3, 4, 1), (-10, 30, 10), (24, 29, 0), (10, 3, 0)],
)
async def test_primes_in_small_ranges(bench: Bench, lo: int, hi: int, count: int) -> None:
    outcome = await bench.run(example("primes/primes.wat"), "range", b"%d %d" % (lo, hi))
    assert int(outcome.output) == count


async def test_primes_below_two_million_in_shards(bench_2: Bench) -> None:
    total = 0
    for lo in range(0, 2_000_000, 250_000):
        outcome = await bench_2.run(
            example("primes/primes.wat"), "range", b"%d %d" % (lo, lo + 250_000)
        )
        total += int(outcome.output)
    assert total == 148_933


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n \t.,;",
        b"one",
        b"one two one\ntwo three ",
        "naïve caf\u00e9".encode(),
        b"A_1 a_1 A_1",
        b"x" * 64 + b" " + b"x" * 65 + b" " + b"x" * 64,
        b"y" * 200_000 + b" " + b"y" * 200_000 + b" z",
    ],
    ids=range(8),
)
async def test_wordcount_of_special_texts(bench: Bench, text: bytes) -> None:
    outcome = await bench.run(example("wordcount/wordcount.wat"), "wasi", text)
    assert outcome.code == "ok"
    assert json.loads(outcome.output) == python_word_counts(text)


async def test_wordcount_of_many_megabytes_with_many_words(bench: Bench) -> None:
    draw = random.Random(2)
    words = ["".join(draw.choices("abcXYZ_09", k=draw.randint(1, 9))) for _ in range(60_000)]
    text = " ".join(draw.choices(words, k=1_200_000)).encode()
    assert len(text) > 5 * MIB
    outcome = await bench.run(
        example("wordcount/wordcount.wat"), "wasi", text, output_bytes=8 * MIB
    )
    assert outcome.code == "ok"
    assert json.loads(outcome.output) == python_word_counts(text)


async def test_wordcount_without_memory_says_so(bench: Bench) -> None:
    text = b" ".join(b"%d" % number for number in range(100_000))
    outcome = await bench.run(example("wordcount/wordcount.wat"), "wasi", text, memory_bytes=MIB)
    assert (outcome.code, outcome.text) == ("exit: 1", "wordcount: out of memory")


@pytest.mark.parametrize("size", [0, 1, 65_000, 3_000_000])
async def test_echo_and_bytesum(bench: Bench, size: int) -> None:
    data = random.Random(size).randbytes(size)
    echo = await bench.run(example("echo/echo.wat"), "bytes", data, output_bytes=4 * MIB)
    assert echo.output == data
    total = await bench.run(example("bytesum/bytesum.wat"), "bytes", data)
    assert int(total.output) == sum(data)
