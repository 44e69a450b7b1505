"""The inputs of a job one by one, for who wants a result, a line of a log or a file for each."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.exceptions import HubError

_I32_BYTES: Final = 4
_STDIN: Final = Path("-")


@dataclass(frozen=True, slots=True)
class Input:
    """An item of a job; `seq` counts from 1, `content` is what the client sends of it."""

    seq: int
    name: str
    content: Any


def read_inputs(paths: Sequence[Path], bounds: range | None, split: str) -> list[Input]:
    """Return the items that a dataset falls into, as the hub cuts it; raises HubError."""
    if bounds is not None:
        return _numbered((f"{number}", number) for number in bounds)
    if split == "files":
        return _numbered((path.name, path) for path in paths)
    body = _joined([_bytes_of(path) for path in paths])
    if split == "lines":
        return _numbered((_text(line), line) for line in _lines(body))
    if split == "json":
        return _numbered((_json_text(value), value) for value in _json_list(body))
    size = _I32_BYTES if split == "i32" else _record_bytes(split)
    records = (body[start : start + size] for start in range(0, len(body), size))
    if split == "i32":
        return _numbered((f"{int.from_bytes(each, 'little', signed=True)}", each)
                         for each in records)  # fmt: skip
    return _numbered((f"record {index}", each) for index, each in enumerate(records))


def dataset_of(inputs: Sequence[Input], split: str) -> Any:
    """Return what the client takes for these inputs; numbers have to be in a row."""
    if split == "range":
        return range(inputs[0].content, inputs[-1].content + 1)
    if split == "files":
        return [each.content for each in inputs]
    if split == "json":
        return json.dumps([each.content for each in inputs]).encode()
    return b"".join(each.content for each in inputs)


def _numbered(named: Iterable[tuple[str, Any]]) -> list[Input]:
    return [Input(seq, name, content) for seq, (name, content) in enumerate(named, 1)]


def _bytes_of(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == _STDIN else path.read_bytes()
    except OSError as error:
        raise HubError(f"{path}: can't be read: {error.strerror}") from error


def _joined(bodies: Sequence[bytes]) -> bytes:
    """Return files one after the other; the last line of each is ended, as the hub does it."""
    ended = [each if each.endswith(b"\n") else each + b"\n" for each in bodies[:-1]]
    return b"".join([*ended, *bodies[-1:]])


def _lines(body: bytes) -> list[bytes]:
    """Return lines that end at a line feed alone."""
    parts = body.split(b"\n")
    ended = [part + b"\n" for part in parts[:-1]]
    return [*ended, parts[-1]] if parts[-1] else ended


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode(errors="replace")


def _json_list(body: bytes) -> list[Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HubError(f"the dataset is not JSON: {error}") from None
    if not isinstance(values, list):
        raise HubError("the dataset is not a JSON list, which --split json takes")
    return values


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _record_bytes(split: str) -> int:
    name, _, number = split.partition(":")
    if name != "records" or not number.isdecimal() or not int(number):
        raise click.UsageError(
            f"--split: expected i32, lines, json, files or records:N, got {split!r}"
        )
    return int(number)
