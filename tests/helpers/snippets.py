"""The code in the documentation, and what says how it is held true.

A comment that readers don't see, on the lines before a block, is a marker:

    <!-- not run: it needs a phone -->
    <!-- run by tests/test_install.py -->
    <!-- prints: 148933 -->
    <!-- file: known.json -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Those that a reader follows; a block in `text` is only shown, and any other needs a marker.
FOLLOWED: Final = ("sh", "python", "yaml", "json")

ROOT: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(
    r"(?:^ *<!-- (?P<marker>(?:not run:|run by|prints:|file:).*?) -->\n\n?)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_KINDS: Final = {
    "not run:": "not_run", "run by": "run_by", "prints:": "prints", "file:": "file",
}  # fmt: skip
_SPAN: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A block of code; one of its last four fields is filled at most."""

    page: str
    line: int
    language: str
    code: str
    not_run: str = ""
    run_by: str = ""
    # What is in its output.
    prints: str = ""
    # Under which name what follows finds it.
    file: str = ""

    @property
    def followed(self) -> bool:
        """Whether tests/test_docs_run.py runs it."""
        return self.language in FOLLOWED and not (self.not_run or self.run_by)

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the pages whose code is run, from the root on."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def snippets(page: str) -> list[Snippet]:
    """Return the blocks of a page, in their order."""
    return list(_read(page))


def code_of(page: str, language: str, number: int = 0) -> str:
    """Return the block of that number among those in a language, for a test that runs it."""
    return [each.code for each in snippets(page) if each.language == language][number]


def spans(page: str) -> list[str]:
    """Return what stands as code within the text of a page."""
    text = _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in _SPAN.findall(text)]


def _read(page: str) -> Iterator[Snippet]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        indent = len(found["indent"])
        code = "".join(each[indent:] or "\n" for each in found["code"].splitlines(keepends=True))
        marker = " ".join((found["marker"] or "").split())
        kind, said = "", ""
        for prefix, name in _KINDS.items():
            if marker.startswith(prefix):
                kind, said = name, marker.removeprefix(prefix).strip()
        yield Snippet(page, line, found["language"], code, **({kind: said} if kind else {}))
