"""Where a user finds an item of a dataset: in which file, on which line; pure."""

import array
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from swarm_hub.models.blob import Readable
from swarm_hub.models.job import Job, Split
from swarm_hub.util.shape import storable

_NAME_MAX_CHARS: Final = 255
# As `array` writes it.
_NUMBER: Final = struct.Struct("=Q")


def pack_parts(parts: Sequence[tuple[str, int]]) -> bytes:
    """Return an index of the files of a dataset, each given by its name and its number of items.

    It has the number of files, where the items of each end, where the name of each ends, and the
    names; so a file is found without reading the others. It is empty if no file has a name. Of a
    range with gaps a part is a run, which has its first number as its name.
    """
    if not any(name for name, _ in parts):
        return b""
    names = [storable(name, "name", _NAME_MAX_CHARS).encode() for name, _ in parts]
    numbers = array.array("Q", [len(parts)])
    numbers.extend(accumulate(n_items for _, n_items in parts))
    numbers.extend(accumulate(map(len, names)))
    return numbers.tobytes() + b"".join(names)


class Parts:
    """Finds the file that an item is in, by the index of `pack_parts`."""

    def __init__(self, index: Readable) -> None:
        self._index = index
        self._count = self._number(0)

    def find(self, item: int) -> tuple[str, int]:
        """Return the name of the file that an item is in, and the item's number in it, from 0."""
        at = bisect_right(range(self._count), item, key=self._item_end)
        if at == self._count:
            raise ValueError(f"the files of the dataset have no item {item}")
        names_at = _NUMBER.size * (1 + 2 * self._count)
        start = names_at + (0 if at == 0 else self._number(self._count + at))
        end = names_at + self._number(self._count + at + 1)
        name = bytes(self._index[start:end]).decode()
        return name, item - (0 if at == 0 else self._item_end(at - 1))

    def _item_end(self, part: int) -> int:
        return self._number(1 + part)

    def _number(self, position: int) -> int:
        start = _NUMBER.size * position
        return int(_NUMBER.unpack(self._index[start : start + _NUMBER.size])[0])


def place(job: Job, parts: Parts | None, first_item: int, n_items: int) -> str | None:
    """Return where a user finds these items, None where there is nothing better than their numbers.

    That is `prices.csv:18` for a line, the name of a file that is an item, the number that an item
    of a range is, and the offset of a record.
    """
    split = job.spec.split
    if split is Split.RANGE:
        low = job.range_start + first_item
        if parts is not None:
            run, at = parts.find(first_item)
            low = int(run) + at
        is_known = parts is not None or job.range_start
        return _numbers("value", low, low + n_items - 1) if is_known else None
    if split in (Split.RECORDS, Split.I32):
        size = 4 if split is Split.I32 else job.spec.record_bytes
        return f"byte {first_item * size}"
    if parts is None or split not in (Split.LINES, Split.FILES):
        return None
    last_item = first_item + n_items - 1
    (first_name, first), (last_name, last) = parts.find(first_item), parts.find(last_item)
    if split is Split.FILES:
        return first_name if n_items == 1 else f"{first_name} to {last_name}"
    if first_name != last_name or last < first:
        return f"{_line(first_name, first)} to {_line(last_name, last)}"
    if n_items == 1:
        return _line(first_name, first)
    return f"{_line(first_name, first)}-{last + 1}"


def _line(name: str, line: int) -> str:
    return f"{name}:{line + 1}" if name else f"line {line + 1}"


def _numbers(word: str, first: int, last: int) -> str:
    return f"{word} {first}" if first == last else f"{word}s {first} to {last}"
