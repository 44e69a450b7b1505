"""What devices answered, read: values, and exceptions as those that the function raised.

Nothing that a device says is unpickled or imported: an exception is one of a list, or RemoteError.
"""

import builtins
import json
from typing import Any, Final

from swarm_hub.client.errors import ClientError
from swarm_hub.client.functions.encoding import EncodingError, decode
from swarm_hub.util.printable import printable

_TEXT_MAX_CHARS: Final = 16_000
# Those that do nothing but say what went wrong; none ends a program or a loop.
_EXCEPTIONS: Final = {
    name: getattr(builtins, name)
    for name in (
        "ArithmeticError", "AssertionError", "AttributeError", "BlockingIOError", "BufferError",
        "EOFError", "Exception", "FileExistsError", "FileNotFoundError", "FloatingPointError",
        "ImportError", "IndexError", "IsADirectoryError", "KeyError", "LookupError", "MemoryError",
        "ModuleNotFoundError", "NameError", "NotADirectoryError", "NotImplementedError", "OSError",
        "OverflowError", "PermissionError", "RecursionError", "ReferenceError", "RuntimeError",
        "TimeoutError", "TypeError", "UnboundLocalError", "UnicodeError", "ValueError",
        "ZeroDivisionError",
    )
}  # fmt: skip


class RemoteError(Exception):
    """An exception on a device that is none of Python's own; `kind` is the name of its class.

    >>> RemoteError("job.BadRow: no price", "job.BadRow").kind
    'job.BadRow'
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class RemoteTraceback(Exception):
    """Where an exception was raised on a device: the cause of the one that is raised here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def outcomes(body: bytes, first_item: int, n_items: int | None, node: str | None) -> list[Any]:
    """Return what a shard's items gave, in order: values, and exceptions as objects.

    Raises ClientError for what is no such answer.
    """
    lines = body.split(b"\n")
    if lines.pop() or (n_items is not None and len(lines) != n_items):
        raise ClientError(
            f"items {first_item}–{first_item + (n_items or 1) - 1}: "
            f"{node or 'a device'} gave no answer for each of them"
        )
    return [_outcome(line, item, node) for item, line in enumerate(lines, first_item)]


def _outcome(line: bytes, item: int, node: str | None) -> Any:
    try:
        text = line.decode("ascii")
        if text.startswith("+"):
            return decode(text[1:])
        if not text.startswith("-"):
            raise EncodingError("it is neither a value nor an exception")
        told = json.loads(text[1:])
        kind, said, trace = (told[key] for key in ("type", "text", "trace"))
        arguments = told["arguments"]
        if not all(isinstance(each, str) for each in (kind, said, trace)):
            raise EncodingError("an exception is told in texts")
        error = _exception(printable(kind[:200]), printable(said[:_TEXT_MAX_CHARS]), arguments)
    except (ValueError, KeyError, TypeError, RecursionError) as wrong:
        raise ClientError(
            f"item {item}: {node or 'a device'} answered what is no answer: {wrong}"
        ) from None
    return _placed(error, printable(trace[-_TEXT_MAX_CHARS:]), item, node)


def _exception(kind: str, said: str, arguments: Any) -> Exception:
    known = _EXCEPTIONS.get(kind)
    if known is None:
        return RemoteError(f"{kind}: {said}" if said else kind, kind)
    values = decode(arguments) if isinstance(arguments, str) else (said,)
    if not isinstance(values, tuple):
        raise EncodingError("arguments of an exception are a tuple")
    made: Exception
    try:
        made = known(*(printable(each) if isinstance(each, str) else each for each in values))
    except TypeError:
        made = known(said)
    # An OSError does not have the name of its file among its arguments.
    return known(said) if isinstance(made, OSError) and str(made) != said else made


def _placed(error: Exception, trace: str, item: int, node: str | None) -> Exception:
    """Say where it happened, as attributes and in what Python shows."""
    error.item = item  # type: ignore[attr-defined]
    error.node = node  # type: ignore[attr-defined]
    error.add_note(f"item {item}" + (f", on {printable(node)}" if node else ""))
    error.__cause__ = RemoteTraceback(trace)
    return error


def first_exception(found: list[Any]) -> Exception | None:
    """Return the first exception that came from a device."""
    return next((each for each in found if is_failure(each)), None)


def is_failure(value: Any) -> bool:
    """Whether it is an exception of a device; a value is data and never one."""
    return isinstance(value, Exception)
