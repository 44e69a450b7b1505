"""Modules no assembler would write: built byte by byte, some of them very large."""

from functools import cache

MAGIC = b"\0asm\1\0\0\0"
# Types: () -> (), (i64, i64) -> i64 and (i32) -> i32.
VOID, RANGE, UNARY = b"\x60\0\0", b"\x60\2\x7e\x7e\1\x7e", b"\x60\1\x7f\1\x7f"
TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA = range(1, 12)
DATA_COUNT = 12
# A body that returns zero: no locals, i64.const 0, end.
ZERO = b"\0\x42\0\x0b"


def leb(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def vector(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def repeated(item: bytes, count: int) -> bytes:
    return leb(count) + item * count


def named(name: bytes) -> bytes:
    return leb(len(name)) + name


def body(code: bytes) -> bytes:
    return leb(len(code)) + code


def custom(name: bytes, content: bytes) -> bytes:
    return section(0, named(name) + content)


def exported(kind: int = 0, index: int = 0, name: bytes = b"map") -> bytes:
    return section(EXPORT, b"\1" + named(name) + bytes([kind]) + leb(index))


def a_map(code: bytes = ZERO, *, more: bytes = b"", last: bytes = b"") -> bytes:
    """A module of abi range with this body; `more` comes between functions and exports."""
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + more
        + exported()
        + section(CODE, vector([body(code)]))
        + last
    )


@cache
def giant_function(size_bytes: int) -> bytes:
    # Each repetition loads, multiplies and branches, so that the compiler has real work.
    step = bytes.fromhex("200041016a220020006c21000240 20000d000b")
    code = b"\0" + step * (size_bytes // len(step)) + b"\x20\0\x0b"
    return (
        MAGIC
        + section(TYPE, vector([UNARY]))
        + section(FUNCTION, b"\1\0")
        + exported(name=b"f")
        + section(CODE, vector([body(code)]))
    )


def many_functions(count: int, code: bytes = b"\0\x0b") -> bytes:
    """`map` and many more functions."""
    return (
        MAGIC
        + section(TYPE, vector([RANGE, VOID]))
        + section(FUNCTION, leb(count + 1) + b"\0" + b"\1" * count)
        + exported()
        + section(CODE, leb(count + 1) + body(ZERO) + body(code) * count)
    )


def many_exports(count: int) -> bytes:
    exports = b"".join(named(b"%d" % number) + b"\0\0" for number in range(count))
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + section(EXPORT, leb(count) + exports)
        + section(CODE, vector([body(ZERO)]))
    )


def many_locals(count: int) -> bytes:
    return a_map(b"\1" + leb(count) + b"\x7e" + ZERO[1:])


def locals_bomb() -> bytes:
    """As many locals as there may be, and a conditional branch that keeps them all alive."""
    step = b"\x20\x02\xa7\x0d\0"  # local.get 2, i32.wrap_i64, br_if 0
    uses = b"".join(b"\x20" + leb(2 + n) + b"\x50\x0d\0" for n in range(0, 49_000, 7))
    code = b"\1" + leb(49_000) + b"\x7e\x02\x40" + uses + step * 600_000 + b"\x0b" + ZERO[1:]
    return a_map(code)


def nested_blocks(depth: int) -> bytes:
    return a_map(b"\0" + b"\x02\x40" * depth + b"\x0b" * depth + ZERO[1:])


def br_table(targets: int) -> bytes:
    # block, i32.const 0, br_table with every target the block, end.
    return a_map(b"\0\x02\x40\x41\0\x0e" + repeated(b"\0", targets) + b"\0\x0b" + ZERO[1:])


def br_table_loop() -> bytes:
    # loop, i32.const 1, br_table [1 0 ... 0] 0: goes round for ever.
    jump = b"\x41\1\x0e" + leb(1000) + b"\1" + b"\0" * 999 + b"\0"
    return a_map(b"\0\x02\x40\x03\x40" + jump + b"\x0b\x0b" + ZERO[1:])


def many_types(count: int) -> bytes:
    return (
        MAGIC
        + section(TYPE, leb(count + 1) + RANGE + VOID * count)
        + section(FUNCTION, b"\1\0")
        + exported()
        + section(CODE, vector([body(ZERO)]))
    )


def many_globals(count: int) -> bytes:
    return a_map(more=section(GLOBAL, repeated(b"\x7f\1\x41\0\x0b", count)))


def many_data_segments(count: int) -> bytes:
    memory = section(MEMORY, b"\1\0\1")
    return a_map(more=memory, last=section(DATA, repeated(b"\0\x41\0\x0b\1\xaa", count)))


def many_element_segments(count: int) -> bytes:
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + section(TABLE, b"\1\x70\0\x0a")
        + exported()
        + section(ELEMENT, repeated(b"\0\x41\0\x0b\1\0", count))
        + section(CODE, vector([body(ZERO)]))
    )


def huge_element_segment(count: int) -> bytes:
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + section(TABLE, b"\1\x70\0" + leb(count))
        + exported()
        + section(ELEMENT, b"\1\0\x41\0\x0b" + repeated(b"\0", count))
        + section(CODE, vector([body(ZERO)]))
    )


def wide_function(width: int) -> bytes:
    """`map`, and an exported function with this many parameters and results."""
    wide = b"\x60" + repeated(b"\x7e", width) * 2
    gets = b"".join(b"\x20" + leb(index) for index in range(width))
    exports = [named(b"map") + b"\0\0", named(b"wide") + b"\0\1"]
    return (
        MAGIC
        + section(TYPE, vector([RANGE, wide]))
        + section(FUNCTION, b"\2\0\1")
        + section(EXPORT, vector(exports))
        + section(CODE, vector([body(ZERO), body(b"\0" + gets + b"\x0b")]))
    )


def many_empty_sections(count: int) -> bytes:
    return a_map(last=custom(b"", b"") * count)


def large_custom_section(size_bytes: int) -> bytes:
    return a_map(last=custom(b"notes", bytes(size_bytes)))


def lying_section(number: int, claims: int) -> bytes:
    """A section that says it has far more bytes than follow."""
    return a_map(last=bytes([number]) + leb(claims) + b"\4name")


def lying_name_section(claims: int) -> bytes:
    """A name section whose one name says it has far more bytes than follow."""
    return a_map(last=custom(b"name", b"\1" + leb(claims + 8) + b"\1\0" + leb(claims) + b"f"))


def lying_vector(number: int, claims: int) -> bytes:
    """A section that says it has far more items than follow."""
    return MAGIC + section(TYPE, vector([RANGE])) + section(number, leb(claims))


def overlong_number() -> bytes:
    """One type, counted with six bytes where five are the most."""
    return MAGIC + section(TYPE, b"\x81\x80\x80\x80\x80\0" + RANGE)


def padded_number() -> bytes:
    """One type, counted with five bytes where one would do: allowed."""
    return (
        a_map()
        .replace(b"\1" + RANGE, b"\x81\x80\x80\x80\0" + RANGE)
        .replace(bytes([TYPE, 1 + len(RANGE)]), bytes([TYPE, 5 + len(RANGE)]))
    )


def bad_utf8() -> bytes:
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + exported(name=b"\xff\xfe")
        + section(CODE, vector([body(ZERO)]))
    )


def memory_that_is_a_function() -> bytes:
    """For abi i32-array: an export called `memory` that is a function."""
    exports = [named(b"memory") + b"\0\0", named(b"sum") + b"\0\0"]
    return (
        MAGIC
        + section(TYPE, vector([b"\x60\2\x7f\x7f\1\x7f"]))
        + section(FUNCTION, b"\1\0")
        + section(EXPORT, vector(exports))
        + section(CODE, vector([body(b"\0\x41\0\x0b")]))
    )


def sections_twice() -> bytes:
    return a_map() + section(TYPE, vector([RANGE]))


def long_names(count: int, size_bytes: int) -> bytes:
    """Few exports with very long names."""
    exports = [named(b"%d" % number + b"x" * size_bytes) + b"\0\0" for number in range(count)]
    return (
        MAGIC
        + section(TYPE, vector([RANGE]))
        + section(FUNCTION, b"\1\0")
        + section(EXPORT, vector(exports))
        + section(CODE, vector([body(ZERO)]))
    )
