"""Mutants of modules: mostly broken a little, so that they get deep into parser and compiler."""

import random
from collections.abc import Sequence

from tests.helpers.wasm_bytes import CODE, MAGIC, section

# Bytes that mean something: ends, block types, value types, and the borders of numbers.
_TELLING = b"\x00\x01\x02\x03\x04\x0b\x0e\x0f\x10\x11\x20\x40\x41\x42\x60\x6f\x70\x7b\x7f\x80\xff"
_NUMBERS = (
    b"\x80\x00", b"\x80\x80\x80\x80\x00", b"\x80\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x7f", b"\xff\xff\x03", b"\x80\x80\x04", b"\xff\xff\xff\xff\xff\x01",
)  # fmt: skip
_BYTES_MAX = 200_000

# Operators of the same types: comparisons and arithmetic of i32 and i64.
_ALIKE = ((0x46, 0x4F), (0x51, 0x5A), (0x6A, 0x78), (0x7C, 0x8A))

Section = tuple[int, bytes]


def mutant(corpus: Sequence[bytes], draw: random.Random) -> bytes:
    """Return one mutant; the same random numbers give the same one."""
    wasm = draw.choice(corpus)
    for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 3, 5))):
        change = draw.choice(_CHANGES)
        wasm = change(wasm, corpus, draw)[:_BYTES_MAX]
    return wasm


def sections(wasm: bytes) -> list[Section]:
    """Cut a module into its sections; what does not parse is left out."""
    found: list[Section] = []
    at = len(MAGIC)
    while at < len(wasm):
        number, at = wasm[at], at + 1
        size = shift = 0
        while at < len(wasm) and shift < 35:
            byte, at = wasm[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append((number, wasm[at : at + size]))
        at += size
    return found


def join(parts: Sequence[Section]) -> bytes:
    """The module of these sections, with their true sizes."""
    return MAGIC + b"".join(section(number, content) for number, content in parts)


def _flip_bits(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    changed = bytearray(wasm)
    for _ in range(draw.randint(1, 4)):
        changed[_place(changed, draw)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set_bytes(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    changed = bytearray(wasm)
    for _ in range(draw.randint(1, 4)):
        value = draw.choice(_TELLING) if draw.random() < 0.7 else draw.randrange(256)
        changed[_place(changed, draw)] = value
    return bytes(changed)


def _truncate(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    return wasm[: draw.randint(0, len(wasm))]


def _insert(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randint(0, len(wasm))
    return wasm[:at] + draw.randbytes(draw.randint(1, 8)) + wasm[at:]


def _remove(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randint(0, len(wasm))
    return wasm[:at] + wasm[at + draw.randint(1, 8) :]


def _number(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randint(min(len(MAGIC), len(wasm)), len(wasm))
    return wasm[:at] + draw.choice(_NUMBERS) + wasm[at + 1 :]


def _duplicate_section(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    parts = sections(wasm)
    if parts:
        parts.insert(draw.randint(0, len(parts)), draw.choice(parts))
    return join(parts)


def _drop_section(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    parts = sections(wasm)
    if parts:
        del parts[draw.randrange(len(parts))]
    return join(parts)


def _swap_sections(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    parts = sections(wasm)
    draw.shuffle(parts)
    return join(parts)


def _splice(wasm: bytes, corpus: Sequence[bytes], draw: random.Random) -> bytes:
    """Put a section of another module in the place of one of the same kind, or anywhere."""
    parts, others = sections(wasm), sections(draw.choice(corpus))
    if not parts or not others:
        return wasm
    guest = draw.choice(others)
    same = [at for at, (number, _) in enumerate(parts) if number == guest[0]]
    if same and draw.random() < 0.8:
        parts[draw.choice(same)] = guest
    else:
        parts.insert(draw.randint(0, len(parts)), guest)
    return join(parts)


def _inside(wasm: bytes, corpus: Sequence[bytes], draw: random.Random) -> bytes:
    """Change the content of a section and give it its true size: the module still parses."""
    parts = sections(wasm)
    if not parts:
        return wasm
    at = draw.randrange(len(parts))
    number, content = parts[at]
    change = draw.choice((_flip_bits, _set_bytes, _insert, _remove))
    if content:
        parts[at] = (number, change(content, corpus, draw))
    return join(parts)


def _same_shape(wasm: bytes, _corpus: Sequence[bytes], draw: random.Random) -> bytes:
    """Replace operators by others with the same types, and small constants: mostly still valid."""
    parts = sections(wasm)
    for at, (number, content) in enumerate(parts):
        if number == CODE:
            changed = bytearray(content)
            for _ in range(draw.randint(1, 6)):
                _replace_one(changed, draw)
            parts[at] = (number, bytes(changed))
    return join(parts)


def _replace_one(code: bytearray, draw: random.Random) -> None:
    start = draw.randrange(len(code)) if code else 0
    for at in range(start, len(code)):
        if at and code[at - 1] in (0x41, 0x42) and code[at] < 0x80:
            code[at] = draw.randrange(0x80)
            return
        for first, last in _ALIKE:
            if first <= code[at] <= last:
                code[at] = draw.randint(first, last)
                return


def _place(changed: bytearray, draw: random.Random) -> int:
    if not changed:
        changed.append(0)
    # The first bytes are looked at by the hub itself, and seldom of interest.
    first = len(MAGIC) if len(changed) > len(MAGIC) and draw.random() < 0.97 else 0
    return draw.randrange(first, len(changed))


_CHANGES = (
    _flip_bits, _set_bytes, _truncate, _insert, _remove, _number, _duplicate_section,
    _drop_section, _swap_sections, _splice, _splice, _inside, _inside, _inside, _inside,
    _same_shape, _same_shape, _same_shape,
)  # fmt: skip
