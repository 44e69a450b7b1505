"""The list of decisions, made from their titles."""

from pathlib import Path
from typing import Final

_HEAD: Final = """\
# Decisions

<!-- Made by `script/docs pages` from the titles below. -->

Why swarm_hub is built as it is: what was decided, what was considered, what was measured.

"""


def adr_page(folder: Path) -> str:
    """Return the list of the decisions in a folder."""
    lines = []
    for path in sorted(folder.glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0]
        number, _, said = title.removeprefix("# ADR ").partition(": ")
        lines.append(f"- {number}: [{said[:1].upper()}{said[1:]}]({path.name})\n")
    return _HEAD + "".join(lines)
