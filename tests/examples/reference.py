"""What each example computes, in plain Python."""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_MASK = 2**64 - 1


def primes(numbers: Iterable[int]) -> int:
    def is_prime(number: int) -> bool:
        return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))

    return sum(map(is_prime, numbers))


def words(text: bytes) -> dict[str, int]:
    return {word.decode(): n for word, n in Counter(re.findall(rb"[A-Za-z0-9_]+", text)).items()}


def pixels(rows: range) -> bytes:
    found = bytearray(b"P6\n600 400\n255\n" if 0 in rows else b"")
    for row in rows:
        for column in range(600):
            c = complex(column * 0.006 - 2.55, row * 0.006 - 1.2)
            found += bytes(_colour(_steps(c.real, c.imag)))
    return bytes(found)


def _steps(cx: float, cy: float) -> int:
    x = y = 0.0
    for step in range(100):
        if x * x + y * y > 4:
            return step
        x, y = x * x - y * y + cx, 2 * x * y + cy
    return 100


def _colour(step: int) -> tuple[int, int, int]:
    if step == 100:
        return 0, 0, 0
    near = min(step * 12, 510)
    if near <= 255:
        return near, near, 100 + near // 2
    gone = near - 255
    return 255, 255 - gone // 3, 227 - gone // 5 * 4


def best_hash(text: str, numbers: range) -> int:
    def bits(number: int) -> int:
        digest = hashlib.sha256(f"{text}{number}".encode()).digest()
        return 256 - int.from_bytes(digest, "big").bit_length()

    return max(bits(number) * 10**12 + number for number in numbers)


def darts(numbers: Iterable[int]) -> int:
    def inside(number: int) -> bool:
        z = (2026 + (number + 1) * 0x9E3779B97F4A7C15) & _MASK
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
        z ^= z >> 31
        return (z >> 33) ** 2 + (z & 0x7FFFFFFF) ** 2 < 2**62

    return sum(map(inside, numbers))


def grouped(text: str, key_column: int = 1, value_column: int = 2) -> dict[str, Any]:
    sums: Counter[str] = Counter()
    rows = skipped = 0
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if not line:
            continue
        (fields,) = csv.reader([line])
        try:
            key, value = fields[key_column - 1], fields[value_column - 1]
            if not _INTEGER.match(value) or not -(2**63) <= int(value) < 2**63:
                raise ValueError(value)
        except (IndexError, ValueError):
            skipped += 1
        else:
            sums[key] += int(value)
            rows += 1
    return {"rows": rows, "skipped": skipped, "sums": dict(sums)}
