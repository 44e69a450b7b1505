"""What is wrong in a text that is no YAML: the line where the mistake is, and what to do about it.

A YAML reader says where it gave up, which is often below the mistake, and in words about tokens.
Both of PyYAML's readers are understood; they word the same thing differently.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.reader import ReaderError

_INDENTATION: Final = re.compile(r"[ \t]*")
_KEY_WITH_VALUE: Final = re.compile(r"\s*(?:- +)?[^\s:#'\"][^:#]*:\s+\S.*:(?:\s|$)")
_KEY_WITHOUT_SPACE: Final = re.compile(r"\s*(?:- +)?[\w-]+:[^\s:]")
_EMPTY: Final = re.compile(r"\s*(?:#|\Z)")
_MAY_NOT_BEGIN: Final = "@`%*&!|>"
_OPENING: Final[dict[type, str]] = {
    yaml.FlowSequenceStartToken: "[",
    yaml.FlowMappingStartToken: "{",
}
_CLOSING: Final = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake; `line` counts from 1, and is shown unless it says nothing by itself."""

    line: int
    message: str
    shown: bool = True


def undecodable(content: bytes, error: UnicodeDecodeError) -> Mistake:
    """Return what is wrong in a file that is not UTF-8."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return Mistake(1, "the file is UTF-16; save it as UTF-8", shown=False)
    line = content.count(b"\n", 0, error.start) + 1
    byte = content[error.start]
    return Mistake(line, f"the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8", shown=False)


def mistake_in(text: str, error: yaml.YAMLError) -> Mistake:
    """Return what is wrong in a text that could not be read."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        return Mistake(line, f"the character U+{code:04X} may not be in it; remove it", shown=False)
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Mistake(1, f"invalid YAML: {error}", shown=False)
    return _Text(text, error, error.problem_mark).mistake()


class _Text:
    """A text with the place where a reader gave up, and where what it was reading began."""

    def __init__(self, text: str, error: yaml.MarkedYAMLError, mark: yaml.Mark) -> None:
        self._text = text
        # A line of its own for the end of the file.
        self._lines = [*text.splitlines(), ""]
        self._problem = error.problem or ""
        self._context = error.context or ""
        self._at = min(mark.line, len(self._lines) - 1)
        self._column = mark.column
        begun = error.context_mark or mark
        self._begun = min(begun.line, len(self._lines) - 1)
        self._begun_column = begun.column

    def mistake(self) -> Mistake:
        """Return the first explanation that fits, the surest ones first."""
        for explain in (
            self._tab,
            self._open_quote,
            self._escape,
            self._late_quote,
            self._second_document,
            self._first_character,
            self._open_bracket,
            self._colon,
            self._indentation,
        ):
            if (found := explain()) is not None:
                return found
        return Mistake(self._at + 1, f"invalid YAML: {self._problem or self._context}")

    def _tab(self) -> Mistake | None:
        line = self._lines[self._at]
        if "\t" in _indentation(line) or line[self._column : self._column + 1] == "\t":
            return Mistake(self._at + 1, "a tab is not allowed here; use spaces")
        return None

    def _open_quote(self) -> Mistake | None:
        if "quoted scalar" not in self._context or "end of stream" not in self._problem:
            return None
        return Mistake(self._begun + 1, "the quote that begins here is never closed")

    def _escape(self) -> Mistake | None:
        if "escape" not in self._problem and "hexadecimal" not in self._problem:
            return None
        said = "a backslash in double quotes begins an escape"
        return Mistake(self._at + 1, f"{said}; use single quotes, or two backslashes")

    def _late_quote(self) -> Mistake | None:
        """A quoted text over several lines that ends where the reader gave up."""
        for token in self._tokens():
            quoted = isinstance(token, yaml.ScalarToken) and token.style in ("'", '"')
            if quoted and token.start_mark.line < token.end_mark.line == self._at:
                end = token.end_mark.line + 1
                said = f"the quote that begins here ends only in line {end}; is one missing?"
                return Mistake(token.start_mark.line + 1, said)
        return None

    def _open_bracket(self) -> Mistake | None:
        opened: list[tuple[str, int]] = []
        for token in self._tokens():
            if (sign := _OPENING.get(type(token))) is not None:
                opened.append((sign, token.start_mark.line))
            elif isinstance(token, _CLOSING) and opened:
                opened.pop()
        if not opened:
            return None
        sign, line = opened[-1]
        if self._at > line:
            return Mistake(line + 1, f"the {sign} that begins here is not closed")
        said = f"a comma is missing between values after {sign}, or what closes them"
        return Mistake(self._at + 1, said)

    def _tokens(self) -> Iterator[yaml.Token]:
        """Yield the tokens before the place where the reader gave up."""
        try:
            for token in yaml.scan(self._text, Loader=yaml.SafeLoader):
                if (token.start_mark.line, token.start_mark.column) >= (self._at, self._column):
                    return
                yield token
        except yaml.YAMLError:
            return

    def _second_document(self) -> Mistake | None:
        if "single document" not in self._context:
            return None
        return Mistake(self._at + 1, "a file is one document; remove the second ---")

    def _first_character(self) -> Mistake | None:
        sign = self._lines[self._at][self._column : self._column + 1]
        begins = "start any token" in self._problem or "undefined alias" in self._problem
        other = "scanning a" in self._context and "scalar" not in self._context
        if sign in _MAY_NOT_BEGIN and sign and (begins or other):
            return Mistake(self._at + 1, f"a value can't begin with {sign}; put it in quotes")
        if "block scalar" in self._context:
            return Mistake(self._begun + 1, "a value can't begin with | or >; put it in quotes")
        return None

    def _colon(self) -> Mistake | None:
        if "could not find expected ':'" in self._problem:
            return self._without_colon(self._begun)
        if "mapping values" not in self._problem:
            return None
        line, before = self._lines[self._at], self._before()
        if _KEY_WITH_VALUE.match(line):
            return Mistake(self._at + 1, "a value with a colon in it needs quotes")
        if before is None:
            return None
        deeper = len(_indentation(line)) > len(_indentation(self._lines[before]))
        if deeper and ": " in self._lines[before]:
            said = f"it is indented deeper than line {before + 1}, which has a value already"
            return Mistake(self._at + 1, said)
        return self._without_colon(before)

    def _without_colon(self, at: int) -> Mistake:
        if _KEY_WITHOUT_SPACE.match(self._lines[at]):
            return Mistake(at + 1, "a space is missing after the colon")
        return Mistake(at + 1, "a colon is missing: expected `key: value`")

    def _indentation(self) -> Mistake | None:
        if "block mapping" in self._context:
            spaces = len(_indentation(self._lines[self._at]))
            if self._lines[self._at][spaces : spaces + 2].strip() == "-":
                return Mistake(self._at + 1, "a list item is where a key is expected")
            if spaces == self._column and spaces != self._begun_column:
                said = f"{spaces} spaces of indentation fit no line above it"
                return Mistake(self._at + 1, f"wrong indentation: {said}")
            return Mistake(self._at + 1, "expected `key: value`, and nothing behind it")
        if "block collection" in self._context or "block sequence" in self._context:
            return Mistake(self._at + 1, "a key is where a list item (`- `) is expected")
        return None

    def _before(self) -> int | None:
        """Return the nearest line above that has something in it."""
        above = range(self._at - 1, -1, -1)
        has_something = (n for n in above if not _EMPTY.match(self._lines[n]))
        return next(has_something, None)


def _indentation(line: str) -> str:
    found = _INDENTATION.match(line)
    return found.group() if found else ""
