"""Folding results, always in item order, with Python's unbounded integers."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from swarm_hub.components.sandbox import archive
from swarm_hub.exceptions import HubError, RequestError
from swarm_hub.models.job import RAW_REDUCERS
from swarm_hub.models.shard import ShardResult
from swarm_hub.util.strict_json import parse_json

# Integers beyond this lose digits in readers that hold numbers as doubles (RFC 8259, section 6).
SAFE_INTEGER_MAX: Final = 2**53
_DIGITS_MAX: Final = 4000
_NUMBER: Final = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")


class ReduceError(HubError):
    """The results can't be folded; the text names the shard and what was expected."""


def fold(reducer: str, results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    """Return the job's result from its shards' results with their bodies, in item order.

    Numbers, `json` and `list` give JSON text, `concat` the bytes as they are, `files` a tar
    archive. What a `module` folds itself is not for here but for `ModuleReducer`.
    """
    return _REDUCERS[reducer](results)


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
    if reducer == "files":
        return "application/x-tar"
    return "application/octet-stream" if reducer in RAW_REDUCERS else "application/json"


def spelled_out(value: Any) -> str | None:
    """Return an integer as text where a double would lose digits, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > SAFE_INTEGER_MAX:
        return str(value)
    return None


def _numbers(results: Sequence[tuple[ShardResult, bytes]]) -> list[int | float]:
    values = []
    for result, body in results:
        try:
            values.append(number(body))
        except ValueError as error:
            raise ReduceError(
                f"shard {result.index} gave {body[:60]!r}, which is no number ({error}); "
                "choose another reduce, such as concat or list"
            ) from None
    return values


def _sum(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    return _json(total(_numbers(results)))


def total(values: Sequence[int | float]) -> int | float:
    """Return the sum: exact for integers, correctly rounded (`math.fsum`) with any float.

    Raises ReduceError where the sum has no finite double.
    """
    if all(isinstance(value, int) for value in values):
        return sum(values)
    try:
        return math.fsum(values)
    except OverflowError:
        raise ReduceError("the sum is too large for a floating-point number") from None


def _count(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    return _json(sum(result.n_items for result, _ in results))


def _concat(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    return b"".join(body for _, body in results)


def _files(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    writers: dict[str, int] = {}
    for result, body in results:
        try:
            for member in archive.members(body):
                if member.name in writers:
                    raise ReduceError(
                        f"shards {writers[member.name]} and {result.index} both wrote "
                        f"{member.name}; name results after their inputs"
                    )
                writers[member.name] = result.index
        except ValueError as error:
            raise ReduceError(
                f"shard {result.index}: {error}; reduce files is for abi wasi-files"
            ) from None
    return b"".join(body for _, body in results) + archive.END_MARKER


def _list(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    return _json([_entry(body) for _, body in results])


def _entry(body: bytes) -> Any:
    """Return a result as JSON where it is JSON, else as text, else as a list of byte values."""
    try:
        return parse_json(body, "result")
    except RequestError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return list(body)


def _merged(results: Sequence[tuple[ShardResult, bytes]]) -> bytes:
    merged: dict[str, Any] = {}
    for result, body in results:
        try:
            value = json.loads(body)
            if not isinstance(value, dict):
                raise ValueError("expected an object")
            _merge(merged, value, "")
        except (ValueError, OverflowError, RecursionError) as error:
            raise ReduceError(f"shard {result.index}: reduce json: {error}") from None
    return _json(merged)


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


_REDUCERS: Final[dict[str, Callable[[Sequence[tuple[ShardResult, bytes]]], bytes]]] = {
    "sum": _sum,
    "min": lambda results: _json(min(_numbers(results))),
    "max": lambda results: _json(max(_numbers(results))),
    "count": _count,
    "concat": _concat,
    "json": _merged,
    "list": _list,
    "files": _files,
}
