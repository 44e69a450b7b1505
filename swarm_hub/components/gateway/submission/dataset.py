"""Datasets: how bytes fall into items, and the bytes of a run of items.

Items of fixed size need no index. For lines every 64th offset is kept, so a million lines cost
125 KB; a file list is its own index, stored behind the files.
"""

import array
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, Protocol

from swarm_hub.components.gateway.submission.places import pack_parts
from swarm_hub.components.sandbox import archive
from swarm_hub.exceptions import InvalidInput
from swarm_hub.models.blob import Readable, Slice, let_go, windows
from swarm_hub.models.job import Job, Split
from swarm_hub.models.submission import DatasetPart
from swarm_hub.util import json_items
from swarm_hub.util.bounds import INT64_MAX, INT64_MIN, ITEMS_MAX, is_int, shown

_STRIDE: Final = 64
# Whose items are lines of the stored dataset.
_OF_LINES: Final = (Split.LINES, Split.JSON, Split.ARGS)
_LINES: Final = re.compile(rb"(?:[^\n]*+\n){64}+")
_RANGE: Final = re.compile(r"\s*(-?[0-9]{1,19})\s*[:\s]\s*(-?[0-9]{1,19})\s*\Z", re.ASCII)
# Two numbers of 64 bits, and as much white space.
_RANGE_BYTES: Final = 100
_LIST_HEAD: Final = re.compile(rb"\s*\[[\x20-\x7e\s]*\Z", re.ASCII)
_LIST_TAIL: Final = re.compile(rb"[\x20-\x7e\s]*\]\s*\Z", re.ASCII)
# A shard's input travels as one message or one blob, and is in memory on both sides.
SHARD_MAX_BYTES: Final = 16 * 1024 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_LET_GO_BYTES: Final = 8 * 1024 * 1024
FILE_COUNT: Final = struct.Struct("<Q")


class Bytes(Protocol):
    """The source of a dataset: bytes or a mapped file."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return a part of the bytes."""

    def __len__(self) -> int:
        """Return the number of bytes."""

    def find(self, sub: bytes, start: int = 0, /) -> int:
        """Return where `sub` is first found, -1 if it isn't."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A dataset ready to be stored; `n_items` is never 0.

    `pieces` one after the other are its bytes. `parts` is an index of the files that it was made
    of, empty where items can't be found by it.
    """

    split: Split
    record_bytes: int
    pieces: Sequence[Readable]
    n_items: int
    range_start: int = 0
    parts: bytes = b""

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return sum(map(len, self.pieces))

    @property
    def body(self) -> bytes:
        """All of its bytes, in memory."""
        return b"".join(piece[:] for piece in self.pieces)


def json_form(
    parts: Sequence[DatasetPart], split: tuple[Split, int] | None, default: Split
) -> str | None:
    """Return the form of `json_items` that uploaded files of JSON become, None for other files."""
    kind = default if split is None else split[0]
    if kind is Split.JSON:
        return "lines"
    if kind is Split.ARGS:
        return "args" if len(parts) == 1 and parts[0].name.endswith(".json") else None
    return "i32" if kind is Split.I32 and _is_json_list(parts) else None


def measure(
    parts: Sequence[DatasetPart],
    values: Any,
    split: tuple[Split, int] | None,
    default: Split,
    *,
    as_archive: bool = False,
    converted: bool = False,
) -> Measured:
    """Turn what was uploaded into a dataset; raises RequestError that says what to do.

    `values` is a JSON dataset, None when files were uploaded. `as_archive` keeps the files' names;
    `converted` files are in their `json_form` already.
    """
    kind, record_bytes = split or (Split.JSON if values is not None else default, 0)
    if split is None and default in (Split.I32, Split.RANGE):
        kind = default
    form = None if values is not None or converted else json_form(parts, split, default)
    if form is not None:
        body = _joined(parts)
        chunks = (body[at : at + _CHUNK_BYTES] for at in range(0, len(body), _CHUNK_BYTES))
        lines = b"".join(json_items.FORMS[form](json_items.items(chunks)))
        parts = [DatasetPart("", lines)]
    if kind is Split.RANGE:
        return _measured_range(values if values is not None else _joined(parts)[: _RANGE_BYTES + 1])
    if values is not None:
        measured = _measured_values(values, kind)
    elif kind is Split.FILES:
        measured = _measured_files(parts, as_archive=as_archive)
    elif kind is Split.ARGS and form is None and not converted:
        measured = _measured_lines([_args_of_lines(parts)], kind)
    elif kind in _OF_LINES:
        measured = _measured_lines(parts, kind)
    else:
        measured = _measured_records([part.body for part in parts], kind, record_bytes)
    if measured.n_items == 0:
        raise InvalidInput("empty_dataset", "the dataset has no items; nothing would be run")
    return measured


class Dataset:
    """Reads runs of items of a stored dataset."""

    def __init__(self, job: Job, body: Bytes) -> None:
        self._split = job.spec.split
        self._record_bytes = 4 if self._split is Split.I32 else job.spec.record_bytes
        self._body = body
        self._offsets: Sequence[int] = ()
        # The first number of each run of a range, and where these begin among the items.
        self._lows: Sequence[int] = ()
        if self._split in _OF_LINES:
            self._offsets = _line_index(body)
        elif self._split is Split.FILES:
            self._offsets = _file_index(body)
        elif self._split is Split.RANGE:
            runs = [tuple(map(int, line.split(b":"))) for line in body[:].split(b"\n")]
            self._lows = [low for low, _ in runs]
            self._offsets = [0, *accumulate(high - low for low, high in runs)]

    def value(self, item: int) -> int:
        """Return the number that an item of a range is."""
        at = bisect_right(self._offsets, item) - 1
        return self._lows[at] + item - self._offsets[at]

    def read(self, first_item: int, n_items: int) -> bytes:
        """Return the bytes of `n_items` items from `first_item` on, as the module gets them."""
        return self.part(first_item, n_items)[:]

    def part(self, first_item: int, n_items: int) -> Slice:
        """Return where those bytes are, to read a part of them at a time."""
        if self._split is Split.RANGE:
            low = self.value(first_item)
            said = b"%d %d\n" % (low, low + n_items)
            return Slice(said, 0, len(said))
        end_item = first_item + n_items
        if self._split in (Split.I32, Split.RECORDS):
            size = self._record_bytes
            return Slice(self._body, first_item * size, end_item * size)
        if self._split is Split.FILES:
            return Slice(self._body, self._offsets[first_item], self._offsets[end_item])
        return Slice(self._body, self._line(first_item), self._line(end_item))

    def let_go(self) -> None:
        """Give back the memory that reading a mapped dataset took."""
        let_go(self._body)

    def _line(self, number: int) -> int:
        """Return where a line begins: from the nearest indexed line, then line by line."""
        block, rest = divmod(number, _STRIDE)
        if block >= len(self._offsets):
            return len(self._body)
        offset = self._offsets[block]
        for _ in range(rest):
            newline = self._body.find(b"\n", offset)
            if newline < 0:
                return len(self._body)
            offset = newline + 1
        return offset


def _line_index(body: Bytes) -> Sequence[int]:
    offsets = array.array("Q", [0])
    # The pattern runs in C over bytes or a mapped file alike. It is matched at one place only: a
    # search would retry from each byte of the last lines, and a line may be megabytes long.
    let_go_at = _LET_GO_BYTES
    while found := _LINES.match(body, offsets[-1]):  # type: ignore[call-overload]
        offsets.append(found.end())
        if offsets[-1] >= let_go_at:
            let_go(body)
            let_go_at = offsets[-1] + _LET_GO_BYTES
    return offsets


def _file_index(body: Bytes) -> Sequence[int]:
    """Read the offsets written by `_measured_files`: sizes, then their count, at the end."""
    (count,) = FILE_COUNT.unpack(body[len(body) - 8 :])
    sizes = array.array("Q")
    sizes.frombytes(body[len(body) - 8 - 8 * count : len(body) - 8])
    offsets = array.array("Q", [0])
    for size in sizes:
        offsets.append(offsets[-1] + size)
    return offsets


def _is_json_list(parts: Sequence[DatasetPart]) -> bool:
    """Whether an upload is a JSON list rather than packed numbers.

    Those hardly ever begin with a bracket and go on with nothing but printable characters.
    """
    body: Readable = parts[0].body if len(parts) == 1 else b""
    return bool(_LIST_HEAD.match(body[:64]) and _LIST_TAIL.match(body[-64:]))


def _joined(parts: Sequence[DatasetPart]) -> Readable:
    return parts[0].body if len(parts) == 1 else b"".join(part.body[:] for part in parts)


def _measured_lines(parts: Sequence[DatasetPart], kind: Split) -> Measured:
    pieces: list[Readable] = []
    named, n_lines, ended = [], 0, True
    for part in parts:
        n_here, is_ended = _count_lines(part.body, n_lines)
        # A last line without its newline still ends where the next file begins.
        if len(part.body) and pieces and not ended:
            pieces.append(b"\n")
        if len(part.body):
            pieces.append(part.body)
            ended = is_ended
        n_lines += n_here
        named.append((part.name, n_here))
    # A value of a JSON list is on no line that its owner knows.
    index = pack_parts(named) if kind is Split.LINES else b""
    return Measured(kind, 0, pieces, n_lines, parts=index)


def _count_lines(body: Readable, n_before: int) -> tuple[int, bool]:
    """Return how many lines a file has, none too long, and whether the last one has a newline."""
    n_lines, size_bytes, is_ended = 0, 0, True
    for window in windows(body):
        first, last = window.find(b"\n"), window.rfind(b"\n")
        n_here = window.count(b"\n")
        if size_bytes + (len(window) if first < 0 else first + 1) > SHARD_MAX_BYTES:
            raise _item_too_large(f"line {n_before + n_lines + 1}")
        size_bytes = size_bytes + len(window) if last < 0 else len(window) - last - 1
        n_lines, is_ended = n_lines + n_here, last == len(window) - 1
    return n_lines + (not is_ended), is_ended


def _item_too_large(item: str) -> InvalidInput:
    return InvalidInput(
        "item_too_large",
        f"dataset: {item} is larger than {SHARD_MAX_BYTES} bytes, more than one shard takes; cut "
        "it into smaller items",
    )


def _measured_files(parts: Sequence[DatasetPart], *, as_archive: bool) -> Measured:
    pieces: list[Readable] = []
    sizes = array.array("Q")
    seen: set[str] = set()
    for part in parts:
        file = [part.body]
        if as_archive:
            _check_name(part.name, seen)
            file = _archived(part)
        size_bytes = sum(map(len, file))
        if size_bytes > SHARD_MAX_BYTES:
            raise _item_too_large(f"the file {shown(part.name)}")
        sizes.append(size_bytes)
        pieces += file
    pieces.append(sizes.tobytes() + FILE_COUNT.pack(len(parts)))
    named = pack_parts([(part.name, 1) for part in parts])
    return Measured(Split.FILES, 0, pieces, len(parts), parts=named)


def _check_name(name: str, seen: set[str]) -> None:
    if name in seen or not archive.is_file_name(name):
        wrong = "is given twice" if name in seen else "is not a file name"
        raise InvalidInput(
            "bad_file_name",
            f"dataset: {shown(name)} {wrong}; abi wasi-files needs a unique name for each "
            f"file, of at most {archive.NAME_BYTES_MAX} bytes and without directories",
        )
    seen.add(name)


def _archived(part: DatasetPart) -> list[Readable]:
    """Return a file as a piece of an archive, so that any run of them is one, too."""
    try:
        head = archive.header(part.name, len(part.body))
    except ValueError as error:
        raise InvalidInput("bad_file_name", f"dataset: {error}") from None
    return [head, part.body, archive.padding(len(part.body))]


def _measured_records(pieces: Sequence[Readable], kind: Split, record_bytes: int) -> Measured:
    size = 4 if kind is Split.I32 else record_bytes
    if size > SHARD_MAX_BYTES:
        raise _item_too_large("a record")
    size_bytes = sum(map(len, pieces))
    if size_bytes % size:
        raise InvalidInput(
            "ragged_dataset",
            f"the dataset has {size_bytes} bytes, which is not a multiple of the {size} bytes "
            f"of an item; split {kind.value} takes whole items only",
        )
    return Measured(kind, record_bytes, pieces, size_bytes // size)


def _measured_values(values: Any, kind: Split) -> Measured:
    if not isinstance(values, list):
        raise InvalidInput("invalid_dataset", "dataset: expected a JSON list of items")
    if kind is Split.I32:
        return _measured_records([b"".join(json_items.as_i32(values))], kind, 0)
    if kind is Split.LINES:
        if not all(isinstance(value, str) and "\n" not in value for value in values):
            raise InvalidInput(
                "invalid_dataset", "dataset: split lines takes texts without line breaks"
            )
        body = "".join(f"{value}\n" for value in values).encode()
        return _measured_lines([DatasetPart("", body)], kind)
    if kind is Split.ARGS:
        return _measured_lines([DatasetPart("", b"".join(json_items.as_args(values)))], kind)
    if kind is not Split.JSON:
        raise InvalidInput(
            "invalid_dataset", f"dataset: split {kind.value} takes an uploaded file, not JSON"
        )
    return _measured_lines([DatasetPart("", b"".join(json_items.as_lines(values)))], kind)


def _args_of_lines(parts: Sequence[DatasetPart]) -> DatasetPart:
    """Return text files whose lines are arguments in the form of a JSON list's items."""
    lines = (line for part in parts for line in _texts(part))
    return DatasetPart("", b"".join(json_items.as_args(lines)))


def _texts(part: DatasetPart) -> Iterator[str]:
    try:
        text = part.body[:].decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "invalid_dataset", f"dataset: {shown(part.name)} is no text in UTF-8: {error}"
        ) from None
    ended = text.removesuffix("\n")
    return (line.removesuffix("\r") for line in ended.split("\n")) if text else iter(())


def _measured_range(given: Any) -> Measured:
    if isinstance(given, bytes):
        match = _RANGE.match(given.decode("utf-8", "replace"))
        bounds: Any = None if match is None else [int(match[1]), int(match[2])]
    else:
        bounds = given
    if (
        not isinstance(bounds, list)
        or len(bounds) != 2
        or not all(is_int(bound, INT64_MIN, INT64_MAX) for bound in bounds)
    ):
        raise InvalidInput(
            "invalid_dataset",
            "dataset: the module takes numbers, so it wants a range: LO:HI or [LO, HI] in 64 bits "
            "(submit --range LO:HI)",
        )
    low, high = bounds
    if high <= low:
        raise InvalidInput("empty_dataset", f"the range {low}:{high} is empty; HI must be above LO")
    if high - low > ITEMS_MAX:
        raise InvalidInput(
            "too_many_items",
            f"the range {low}:{high} has {high - low} numbers; a job has at most {ITEMS_MAX} items",
        )
    return Measured(Split.RANGE, 0, [b"%d:%d" % (low, high)], high - low, low)
