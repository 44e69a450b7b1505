"""What the owner of a completed job may not expect of its result; pure."""

from typing import Any, Final

from swarm_hub.components.sandbox import archive
from swarm_hub.models.job import REDUCE_MODULE

_NO_FILES: Final = "0 files were written to /out: a module of abi wasi-files writes there"
_NO_OUTPUT: Final = "the result is empty: no shard wrote any output"


def note(reducer: str, size_bytes: int, value: Any) -> str | None:
    """Return what to say of a result, None if it is like any other.

    `value` is that of a result in JSON, None if it is too large to be looked at.
    """
    if reducer == "files":
        return _NO_FILES if size_bytes == len(archive.END_MARKER) else None
    if reducer == "list":
        # Of a shard without output there is an empty text in the list.
        return _NO_OUTPUT if value and all(each == "" for each in value) else None
    return _NO_OUTPUT if reducer in ("concat", REDUCE_MODULE) and not size_bytes else None
