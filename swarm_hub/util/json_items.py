"""A JSON list, item by item, so that one of any length takes the memory of its largest item.

As a program (`python -m swarm_hub.util.json_items lines|i32`) it reads the list from stdin and
writes the items to stdout, as a line of JSON each or as 32 bits each: parsing holds the
interpreter, hence large lists are parsed by another one. What is wrong goes to stderr, with exit
code 1.
"""

import codecs
import json
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from swarm_hub.exceptions import InvalidInput, MalformedRequest, RequestError
from swarm_hub.util.bounds import shown
from swarm_hub.util.strict_json import finite, refuse_constant

# In UTF-8; with the other arguments it has to fit into a message to a sandbox child.
ARGUMENT_BYTES_MAX: Final = 16 * 1024
ITEM_MAX_CHARS: Final = 16 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_BATCH_BYTES: Final = 256 * 1024
_MEMORY_MAX_BYTES: Final = 2 * 1024**3
# Items up to this many characters are parsed at once.
_RUN_CHARS: Final = 64 * 1024
_PAUSE_MAX: Final = 1024
_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode: Final = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite).raw_decode
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DELIMITED: Final = re.compile(r"[ \t\n\r]*[,\]]")


def items(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Yield the items of a JSON list; raises MalformedRequest or InvalidInput that names one."""
    text = _Text(chunks)
    if text.next_char() != "[":
        raise InvalidInput("invalid_dataset", "dataset: expected a JSON list of items")
    text.skip(1)
    number, one_by_one, pause = 0, 0, 1
    if text.next_char() == "]":
        text.skip(1)
    else:
        while True:
            if one_by_one:
                one_by_one -= 1
            elif run := text.run():
                yield from run
                number, pause = number + len(run), 1
                continue
            else:
                # Items too large or too nested for runs are no reason to look for one each time.
                one_by_one, pause = pause, min(2 * pause, _PAUSE_MAX)
            yield text.item(number)
            number += 1
            separator = text.next_char()
            text.skip(1)
            if separator == "]":
                break
            if separator != ",":
                raise _malformed(f"item {number}: expected a comma or the end of the list")
    if text.next_char():
        raise _malformed("something follows the end of the list")


def as_lines(values: Iterable[Any]) -> Iterator[bytes]:
    """Yield each item as a line of compact JSON."""
    for value in values:
        try:
            yield _encode(value).encode() + b"\n"
        except UnicodeEncodeError:
            raise _malformed("its text is not valid UTF-8") from None


def as_i32(values: Iterable[Any]) -> Iterator[bytes]:
    """Yield each item as 32 bits, little-endian."""
    pack = struct.Struct("<i").pack
    for value in values:
        if type(value) is not int:
            raise InvalidInput(
                "invalid_dataset",
                f"dataset: split i32 takes whole numbers only, not {shown(value)}",
            )
        try:
            yield pack(value)
        except struct.error:
            raise InvalidInput(
                "invalid_dataset", f"dataset: {shown(value)} does not fit into 32 bits"
            ) from None


def as_args(values: Iterable[Any]) -> Iterator[bytes]:
    """Yield each item, a text that can be an argument, as a line of compact JSON."""
    for number, value in enumerate(values):
        if not isinstance(value, str) or "\0" in value:
            raise InvalidInput(
                "invalid_dataset",
                f"dataset: split args takes texts without NUL characters; item {number} is "
                f"{shown(value)}",
            )
        try:
            size_bytes = len(value.encode())
        except UnicodeEncodeError:
            raise _malformed("its text is not valid UTF-8") from None
        if size_bytes > ARGUMENT_BYTES_MAX:
            raise InvalidInput(
                "item_too_large",
                f"dataset: item {number} has {size_bytes} bytes, an argument at most "
                f"{ARGUMENT_BYTES_MAX}; put it into lines or files instead",
            )
        yield _encode(value).encode() + b"\n"


FORMS: Final[dict[str, Callable[[Iterable[Any]], Iterator[bytes]]]] = {
    "lines": as_lines,
    "i32": as_i32,
    "args": as_args,
}


class _Text:
    """Text as it comes, of which no more is kept than one item needs."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def next_char(self) -> str:
        """Return the next character that is no white space, empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(1):
                return ""

    def skip(self, n_chars: int) -> None:
        """Go on after so many characters."""
        self._at += n_chars

    def run(self) -> list[Any]:
        """Return the next items that end, with their comma, within a window; [] if that fails.

        What is cut off inside an item is no sequence of whole items, so a wrong cut can't succeed.
        """
        end = self._text.rfind(",", self._at, self._at + _RUN_CHARS)
        if end <= self._at:
            return []
        try:
            found, parsed = _decode(f"[{self._text[self._at : end]}]")
        except (ValueError, RecursionError):
            return []
        if parsed != end - self._at + 2:
            return []
        self._at = end + 1
        return list(found)

    def item(self, number: int) -> Any:
        """Return the item that begins here; raises MalformedRequest or InvalidInput."""
        self.next_char()
        while True:
            problem = ""
            try:
                value, end = _decode(self._text, self._at)
                # A number may go on after the end of what is here: `-0`, `-0.`, `-0.5`.
                if self._ended or _DELIMITED.match(self._text, end):
                    self._at = end
                    return value
            except RecursionError:
                raise _malformed(f"item {number}: nested too deeply") from None
            except ValueError as error:
                problem = str(error).partition(": line ")[0]
            have = len(self._text) - self._at
            if have > ITEM_MAX_CHARS:
                raise InvalidInput(
                    "item_too_large",
                    f"dataset: item {number} has more than {ITEM_MAX_CHARS} characters of JSON, "
                    "more than one shard takes; cut it into smaller items",
                )
            if not self._grow(have):
                raise _malformed(f"item {number}: {problem or 'the list does not end'}")

    def _grow(self, n_chars: int) -> bool:
        """Take in at least so many characters, unless the end comes; False if nothing came."""
        grown: list[str] = [self._text[self._at :]]
        self._at, came = 0, 0
        while came < n_chars and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._ended)
            except UnicodeDecodeError:
                raise _malformed("its text is not valid UTF-8") from None
            grown.append(text)
            came += len(text)
        self._text = "".join(grown)
        return came > 0


def _malformed(problem: str) -> MalformedRequest:
    return MalformedRequest("invalid_json", f"dataset: not valid JSON: {problem}")


def main() -> int:
    """Convert stdin to stdout."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX_BYTES, _MEMORY_MAX_BYTES))
    batch, size_bytes = [], 0
    chunks = iter(lambda: sys.stdin.buffer.read(_READ_BYTES), b"")
    try:
        for each in FORMS[sys.argv[1]](items(chunks)):
            batch.append(each)
            size_bytes += len(each)
            if size_bytes >= _BATCH_BYTES:
                sys.stdout.buffer.write(b"".join(batch))
                batch, size_bytes = [], 0
        sys.stdout.buffer.write(b"".join(batch))
        sys.stdout.buffer.flush()
    except RequestError as error:
        json.dump([error.code, error.message], sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
