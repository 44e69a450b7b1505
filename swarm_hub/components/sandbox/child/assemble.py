"""WAT text made a binary module, or told where its mistake is."""

import re

from wasmtime import WasmtimeError, wat2wasm

from .failure import Failure

# Of a large text wasmtime shows no line.
_PLACE = re.compile(r"(.*?)(?: at |\s+--> )<anon>:(\d+):(\d+)(?:\n|$)", re.DOTALL)
# Text without line breaks is one line, of any length.
_SHOWN_CHARS_MAX = 80


def assemble(wat: bytes) -> bytes:
    """Return the module; a Failure names line and column, and shows that line."""
    try:
        text = wat.decode()
    except UnicodeDecodeError as err:
        line = wat.count(b"\n", 0, err.start) + 1
        raise _failure(f" in line {line}: it is not UTF-8") from None
    try:
        return bytes(wat2wasm(wat))
    except WasmtimeError as err:
        said = str(err)
    found = _PLACE.match(said)
    if found is None:
        raise _failure(f": {said[:200]}")
    what, line, column = found[1].strip(), int(found[2]), int(found[3])
    shown = _around(text.split("\n")[line - 1], column)
    raise _failure(f" in line {line}, column {column}: {what[:200]}: `{shown}`")


def _failure(said: str) -> Failure:
    return Failure("bad_module", f"The WAT text has an error{said}")


def _around(line: str, column: int) -> str:
    """Return a line, or what stands around that column of a long one."""
    if len(line) <= _SHOWN_CHARS_MAX:
        return line.strip()
    start = max(0, column - _SHOWN_CHARS_MAX // 2)
    return f"…{line[start : start + _SHOWN_CHARS_MAX].strip()}…"
