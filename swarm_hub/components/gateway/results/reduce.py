"""Folding results, always in item order, with Python's unbounded integers."""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from swarm_hub.components.gateway.submission.reducers import add_name
from swarm_hub.components.sandbox import archive
from swarm_hub.exceptions import HubError, RequestError
from swarm_hub.models.blob import Readable
from swarm_hub.models.job import REDUCE_MODULE
from swarm_hub.models.shard import ShardResult
from swarm_hub.util.strict_json import parse_json

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

# Integers beyond this lose digits in readers that hold numbers as doubles (RFC 8259, section 6).
SAFE_INTEGER_MAX: Final = 2**53
_DIGITS_MAX: Final = 4000
_PART_BYTES: Final = 64 * 1024
_JSON_TYPE: Final = "application/json"
_BYTES_TYPE: Final = "application/octet-stream"
# Of every result.
MEDIA_TYPES: Final = (_JSON_TYPE, _BYTES_TYPE)
_DECIMALS: Final = tuple(b"%d" % value for value in range(256))
_NUMBER: Final = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")


class ReduceError(HubError):
    """The results can't be folded; the text names the shard and what was expected."""


class Fold(Protocol):
    """A reduction under way: results go in one by one, in item order, and bytes come out.

    What `add` yields and `end` returns is the job's result, in that order. Numbers, `json` and
    `list` give JSON text, `concat` the bytes as they are, `files` a tar archive. Both raise
    ReduceError. Results that the `module` itself folds go to `ModuleReducer` instead.
    """

    def add(self, result: ShardResult, body: Readable) -> Iterable[bytes]:
        """Take the next result, and give the part of the whole that is now certain."""

    def end(self) -> bytes:
        """Return the rest of the whole."""


def start_fold(reducer: str) -> Fold:
    """Return a fold that has no results yet."""
    if (found := _REDUCERS.get(reducer) or _own.get(reducer)) is None:
        raise ReduceError(f"this gateway has no reduce {reducer} any more; a component brought it")
    return found.start()


def register_reducer(name: str, start: Callable[[], Fold], *, gives_json: bool = True) -> None:
    """Let jobs ask for a fold of this name; a custom component calls this when it is imported.

    `start` returns a fold that has no results yet. What goes wrong in it fails its job.
    """
    add_name(name)
    # The same name again is the same component: it is imported for every hub and every check.
    _own[name] = _Reducer(lambda: _Guarded(name, start), _JSON_TYPE if gives_json else _BYTES_TYPE)


def fold(reducer: str, results: Iterable[tuple[ShardResult, bytes]]) -> bytes:
    """Return the job's result from its shards' results with their bodies, in item order."""
    whole = start_fold(reducer)
    chunks = [chunk for result, body in results for chunk in whole.add(result, body)]
    return b"".join((*chunks, whole.end()))


def number(body: bytes) -> int | float:
    """Return the number in a result's trimmed decimal text; raises ValueError."""
    text = body.strip()
    if len(text) > _DIGITS_MAX:
        raise ValueError("too many digits")
    if not _NUMBER.match(text):
        raise ValueError("not a finite number in decimal digits")
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError("not a finite number") from None
        return value


def is_numeric(reducer: str) -> bool:
    """Whether each shard's result is one number."""
    return reducer in ("sum", "min", "max")


def media_type(reducer: str) -> str:
    """Return the media type of a folded result."""
    if reducer == REDUCE_MODULE:
        return _BYTES_TYPE
    found = _REDUCERS.get(reducer) or _own.get(reducer)
    return _BYTES_TYPE if found is None else found.media_type


def gives_json(reducer: str) -> bool:
    """Whether a folded result is JSON text."""
    return media_type(reducer) == _JSON_TYPE


def spelled_out(value: Any) -> str | None:
    """Return an integer as text if a double would lose digits, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > SAFE_INTEGER_MAX:
        return str(value)
    return None


class _Guarded:
    """A fold of an owner's, whose defects are those of the job."""

    def __init__(self, name: str, start: Callable[[], Fold]) -> None:
        self._name = name
        self._fold = self._tried(start)

    def add(self, result: ShardResult, body: Readable) -> Iterable[bytes]:
        return self._tried(lambda: tuple(self._fold.add(result, body)))

    def end(self) -> bytes:
        return self._tried(self._fold.end)

    def _tried(self, step: Callable[[], _T]) -> _T:
        try:
            return step()
        except ReduceError:
            raise
        except Exception as error:
            _LOGGER.exception("The reduce %s failed", self._name)
            raise ReduceError(f"{self._name} failed: {type(error).__name__}: {error}") from error


class _Numbers:
    """One number made from all results, such as their sum."""

    def __init__(self, of: Callable[[Sequence[int | float]], int | float]) -> None:
        self._of = of
        self._values: list[int | float] = []

    def add(self, result: ShardResult, body: Readable) -> Iterable[bytes]:
        try:
            self._values.append(number(body[:]))
        except ValueError as error:
            raise ReduceError(
                f"shard {result.index} gave {body[:60]!r}, which is not a number ({error}); "
                "choose another reduce, such as concat or list"
            ) from None
        return ()

    def end(self) -> bytes:
        return _json(self._of(self._values))


def total(values: Sequence[int | float]) -> int | float:
    """Return the sum: exact for integers, correctly rounded (`math.fsum`) with any float.

    Raises ReduceError if the sum is beyond a finite double.
    """
    if all(isinstance(value, int) for value in values):
        return sum(values)
    try:
        return math.fsum(values)
    except OverflowError:
        raise ReduceError("the sum is too large for a floating-point number") from None


class _Count:
    """The number of items."""

    def __init__(self) -> None:
        self._items = 0

    def add(self, result: ShardResult, _body: Readable) -> Iterable[bytes]:
        self._items += result.n_items
        return ()

    def end(self) -> bytes:
        return _json(self._items)


class _Concat:
    """The bytes as they are."""

    def add(self, _result: ShardResult, body: Readable) -> Iterable[bytes]:
        return _parts(body)

    def end(self) -> bytes:
        return b""


class _Files:
    """One archive of all files; no two shards may have written the same one."""

    def __init__(self) -> None:
        self._writers: dict[str, int] = {}

    def add(self, result: ShardResult, body: Readable) -> Iterable[bytes]:
        try:
            for member in archive.members(body[:]):
                if member.name in self._writers:
                    raise ReduceError(
                        f"shards {self._writers[member.name]} and {result.index} both wrote "
                        f"{member.name}; name results after their inputs"
                    )
                self._writers[member.name] = result.index
        except ValueError as error:
            raise ReduceError(
                f"shard {result.index}: {error}; reduce files is for abi wasi-files"
            ) from None
        return _parts(body)

    def end(self) -> bytes:
        return archive.END_MARKER


class _List:
    """A JSON list of the results: JSON as it is, text as text, else a list of byte values."""

    def __init__(self) -> None:
        self._before = b"["

    def add(self, _result: ShardResult, body: Readable) -> Iterable[bytes]:
        yield self._before
        self._before = b","
        whole = body[:]
        try:
            yield _json(parse_json(whole, "result"))
            return
        except RequestError:
            pass
        try:
            yield _json(whole.decode())
        except UnicodeDecodeError:
            yield from _byte_values(whole)

    def end(self) -> bytes:
        return b"[]" if self._before == b"[" else b"]"


def _parts(body: Readable) -> Iterator[bytes]:
    for start in range(0, len(body), _PART_BYTES):
        yield body[start : start + _PART_BYTES]


def _byte_values(body: bytes) -> Iterator[bytes]:
    """Yield a JSON list of byte values in parts: as numbers they would take many times more."""
    for start in range(0, len(body), _PART_BYTES):
        part = body[start : start + _PART_BYTES]
        yield (b"," if start else b"[") + b",".join(_DECIMALS[value] for value in part)
    yield b"]"


class _Merged:
    """One JSON object: numbers summed, equal texts kept, objects merged."""

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}

    def add(self, result: ShardResult, body: Readable) -> Iterable[bytes]:
        try:
            value = json.loads(body[:])
            if not isinstance(value, dict):
                raise ValueError("expected an object")
            _merge(self._merged, value, "")
        except (ValueError, OverflowError, RecursionError) as error:
            raise ReduceError(f"shard {result.index}: reduce json: {error}") from None
        return ()

    def end(self) -> bytes:
        return _json(self._merged)


def _merge(into: dict[str, Any], value: dict[str, Any], path: str) -> None:
    for key, new in value.items():
        if key not in into:
            _check(new, f"{path}{key}")
            into[key] = new
            continue
        old = into[key]
        if isinstance(old, dict) and isinstance(new, dict):
            _merge(old, new, f"{path}{key}.")
        elif _is_number(old) and _is_number(new):
            into[key] = old + new
        elif not (isinstance(old, str) and old == new):
            raise ValueError(
                f"{path}{key}: {old!r:.60} and {new!r:.60} can't be added; only numbers are "
                "summed and equal texts kept"
            )


def _check(value: Any, path: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(inner, f"{path}.{key}")
    elif not (_is_number(value) or isinstance(value, str)):
        raise ValueError(f"{path}: {value!r:.60} is neither a number, a text nor an object")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _json(value: Any) -> bytes:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (ValueError, RecursionError) as error:
        raise ReduceError(f"the folded result can't be written as JSON: {error}") from None


class _Reducer(NamedTuple):
    """How a fold is started, and what it gives."""

    start: Callable[[], Fold]
    media_type: str = _JSON_TYPE


# Those that can be asked for are the `REDUCERS` of `models/job.py`; a test compares the two.
_REDUCERS: Final = {
    "sum": _Reducer(lambda: _Numbers(total)),
    "min": _Reducer(lambda: _Numbers(min)),
    "max": _Reducer(lambda: _Numbers(max)),
    "count": _Reducer(_Count),
    "concat": _Reducer(_Concat, _BYTES_TYPE),
    "json": _Reducer(_Merged),
    "list": _Reducer(_List),
    "files": _Reducer(_Files, "application/x-tar"),
}
# Those that components of owners brought.
_own: dict[str, _Reducer] = {}
