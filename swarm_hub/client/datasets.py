"""What a job's items are, as files that the hub cuts: what can't be meant is an error here."""

import itertools
import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

from swarm_hub.client.errors import ClientError
from swarm_hub.client.uploads import LARGE_BYTES, Source, read, size_of

# Of an iterator so many are taken; all of them are in memory at once.
TAKEN_MAX: Final = 1_000_000
_BYTES: Final = (bytes, bytearray, memoryview)
_INT32: Final = range(-(2**31), 2**31)


def dataset_of(items: Any, spec: dict[str, Any]) -> list[tuple[str, Source]]:
    """Return the dataset as files with their names; items of one kind imply their split.

    Raises ClientError that says what to do.
    """
    split = spec.get("split")
    kind = None if split is None else str(split).partition(":")[0]
    match items:
        case range():
            return [_of_range(items, spec, kind)]
        case bytes() | bytearray() | memoryview():
            return [("dataset", bytes(items))]
        case str() | Path():
            return [file_of(items)]
        case Mapping():
            raise ClientError("items: a mapping has no items in a row; give list(items.items())")
        case Set():
            raise ClientError("items: a set has no order; give sorted(items)")
    if hasattr(items, "read"):
        raise ClientError("items: an open file is none; give its path, or what is in it as bytes")
    if hasattr(items, "__array__") or hasattr(items, "tobytes"):
        raise ClientError(
            f"items: a {type(items).__name__} can be bytes or a list; give items.tobytes() with "
            "split='i32' or 'records:N', or items.tolist()"
        )
    if isinstance(items, AsyncIterable):
        raise ClientError("items: an asynchronous iterator; give [item async for item in items]")
    if not isinstance(items, Iterable):
        raise ClientError(
            "items: expected a range, bytes, a path, or a list of values or paths, got "
            f"{type(items).__name__}"
        )
    return _of_values(taken_of(items), spec, kind)


def file_of(path: str | Path) -> tuple[str, Source]:
    """Return a file with its name, its bytes if it is small; raises ClientError."""
    try:
        found = Path(path)
        size_bytes = size_of(found)
    except (ClientError, ValueError) as error:
        if isinstance(path, Path):
            raise
        raise ClientError(
            f"{_shown(path)}: can't be read as a file: {_why(error)}; a text is taken as the path "
            "of one: for the text itself give its bytes, text.encode()"
        ) from error
    return found.name, found if size_bytes > LARGE_BYTES else read(found)


def _of_range(items: range, spec: dict[str, Any], kind: str | None) -> tuple[str, Source]:
    if items.step != 1:
        raise ClientError("a range of items must have step 1")
    if kind not in (None, "range"):
        raise ClientError(f"items: a range is for split='range'; for {kind!r} give list(items)")
    spec["split"] = "range"
    return "range", f"{items.start}:{items.stop}".encode()


def taken_of(items: Iterable[Any]) -> Sequence[Any]:
    """Return items as a sequence; raises ClientError for too many of an iterator."""
    if isinstance(items, Sequence):
        return items
    taken = list(itertools.islice(items, TAKEN_MAX + 1))
    if len(taken) > TAKEN_MAX:
        raise ClientError(
            f"items: more than {TAKEN_MAX:,} of an iterator, which are all in memory; write them "
            "to a file, one a line, and give its path"
        )
    return taken


def _of_values(items: Sequence[Any], spec: dict[str, Any], kind: str | None) -> list[
    tuple[str, Source]
]:  # fmt: skip
    if not items:
        raise ClientError("items: there are none; nothing would be run")
    if all(isinstance(each, Path) for each in items):
        return [file_of(each) for each in items]
    if any(isinstance(each, Path) for each in items):
        raise ClientError("items: some are paths and some are not; make all of them Path")
    if all(isinstance(each, _BYTES) for each in items):
        return _of_bytes([bytes(each) for each in items], spec, kind)
    if any(isinstance(each, _BYTES) for each in items):
        raise ClientError("items: some are bytes and some are not; give one kind")
    if kind == "files":
        _all_text(items, "files", "the paths of files, or bytes")
        return [file_of(each) for each in items]
    if kind == "lines":
        _all_text(items, "lines", "texts")
        return [("lines.txt", _lines([_utf8(each) for each in items]))]
    if kind == "i32":
        for place, each in enumerate(items):
            if type(each) is not int or each not in _INT32:
                raise ClientError(
                    f"items[{place}]: split='i32' takes whole numbers of 32 bits, "
                    f"got {_shown(each)}"
                )
    elif kind == "args":
        _all_text(items, "args", "texts")
    elif kind not in (None, "json"):
        raise ClientError(
            f"items: a list of {type(items[0]).__name__} is for split='json', not {spec['split']!r}"
        )
    spec.setdefault("split", "json")
    return [("items.json", _json(items))]


def _of_bytes(items: list[bytes], spec: dict[str, Any], kind: str | None) -> list[
    tuple[str, Source]
]:  # fmt: skip
    if kind in (None, "files"):
        spec["split"] = "files"
        return [(f"item-{number:04}", each) for number, each in enumerate(items)]
    if kind == "lines":
        return [("lines.txt", _lines(items))]
    if kind == "records":
        size = str(spec["split"]).partition(":")[2]
        for place, each in enumerate(items):
            if str(len(each)) != size:
                raise ClientError(
                    f"items[{place}] has {len(each)} bytes; each record has {size or 'N'} "
                    f"(split={spec['split']!r})"
                )
        return [("records", b"".join(items))]
    raise ClientError(
        "items: a list of bytes is for split='files', 'lines' or 'records:N', "
        f"not {spec['split']!r}"
    )


def _lines(items: list[bytes]) -> bytes:
    for place, each in enumerate(items):
        if b"\n" in each[:-1]:
            raise ClientError(f"items[{place}] has several lines; each item is one (split='lines')")
    return b"".join(each if each.endswith(b"\n") else each + b"\n" for each in items)


def _all_text(items: Sequence[Any], split: str, wanted: str) -> None:
    for place, each in enumerate(items):
        if not isinstance(each, str):
            raise ClientError(f"items[{place}]: split={split!r} takes {wanted}, got {_shown(each)}")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ClientError(f"items: {_shown(text)} can't be written as UTF-8: {error}") from error


def _json(items: Sequence[Any]) -> bytes:
    try:
        return json.dumps(list(items), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        for place, each in enumerate(items):
            try:
                json.dumps(each, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise ClientError(f"items[{place}] can't be written as JSON: {error}") from error
        raise


def _why(error: Exception) -> str:
    return str(error).rpartition(": ")[2]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
