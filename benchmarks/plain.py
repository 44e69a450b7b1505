"""The kernels of `benchmarks/kernels` in plain Python, to compare at equal sizes."""

from collections.abc import Callable
from typing import Final

_MASK: Final = 0xFFFFFFFF


def primes(lo: int, hi: int) -> int:
    """Count the primes in [lo, hi) by trial division."""
    count = int(lo <= 2 < hi)
    for n in range(max(lo | 1, 3), hi, 2):
        d = 3
        while d * d <= n:
            if n % d == 0:
                break
            d += 2
        else:
            count += 1
    return count


def sieve(lo: int, hi: int) -> int:
    """Count the primes below hi by the sieve of Eratosthenes, lo times."""
    count = 0
    for _ in range(lo):
        composite = bytearray(hi)
        for n in range(2, hi):
            if composite[n]:
                continue
            count += 1
            for multiple in range(n * n, hi, n):
                composite[multiple] = 1
    return count


def matmul(lo: int, hi: int) -> int:
    """Multiply two hi × hi matrices, lo times; returns the sum of all elements."""
    a = [[float((i * 3 + j) % 7) for j in range(hi)] for i in range(hi)]
    b = [[float((i + j * 5) % 11) for j in range(hi)] for i in range(hi)]
    total = 0.0
    for turn in range(lo):
        for i in range(hi):
            row = a[i]
            for j in range(hi):
                dot = 0.0
                for k in range(hi):
                    dot += row[k] * b[k][j]
                total += dot
        a[0][0] = float(turn)
    return int(total)


def mandelbrot(lo: int, hi: int) -> int:
    """Count the steps of all points in the rows from lo to below hi."""
    total = 0
    for row in range(lo, hi):
        for column in range(600):
            cx, cy, x, y = column * 0.005 - 2.2, row * 0.005 - 1.5, 0.0, 0.0
            step = 0
            while step < 500 and x * x + y * y <= 4:
                x, y = x * x - y * y + cx, 2 * x * y + cy
                step += 1
            total += step
    return total


def sha256(lo: int, hi: int) -> int:
    """Hash hi bytes, lo times in a chain; returns the first eight bytes as a signed number."""
    message = bytearray((i * 7 + 1) & 255 for i in range(hi))
    found = 0
    for _ in range(lo):
        state = list(_START)
        padded = bytes(message) + b"\x80" + bytes(-(hi + 9) % 64) + (8 * hi).to_bytes(8, "big")
        for at in range(0, len(padded), 64):
            _compress(state, padded[at : at + 64])
        found = state[0] << 32 | state[1]
        message[0] = found & 255
    return found - (found >> 63 << 64)


def _compress(state: list[int], block: bytes) -> None:
    w = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for i in range(16, 64):
        s0 = _rotate(w[i - 15], 7) ^ _rotate(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = _rotate(w[i - 2], 17) ^ _rotate(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & _MASK)
    a, b, c, d, e, f, g, h = state
    for i in range(64):
        s1 = _rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)
        t1 = h + s1 + ((e & f) ^ (~e & g)) + _K[i] + w[i]
        s0 = _rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)
        t2 = s0 + ((a & b) ^ (a & c) ^ (b & c))
        h, g, f, e, d, c, b, a = g, f, e, (d + t1) & _MASK, c, b, a, (t1 + t2) & _MASK
    for i, word in enumerate((a, b, c, d, e, f, g, h)):
        state[i] = (state[i] + word) & _MASK


def _rotate(word: int, bits: int) -> int:
    return (word >> bits | word << (32 - bits)) & _MASK


def _fractions(count: int, root: float) -> list[int]:
    """Return the first 32 bits behind the point of the roots of the first primes."""
    found: list[int] = []
    n = 2
    while len(found) < count:
        if all(n % d for d in range(2, n)):
            found.append(int(n**root % 1 * 2**32))
        n += 1
    return found


_START: Final = _fractions(8, 1 / 2)
_K: Final = _fractions(64, 1 / 3)

KERNELS: Final[dict[str, Callable[[int, int], int]]] = {
    "primes": primes,
    "sieve": sieve,
    "matmul": matmul,
    "mandelbrot": mandelbrot,
    "sha256": sha256,
}
