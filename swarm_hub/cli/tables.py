"""Tables on stdout: aligned, never wider than the terminal, and whole in a pipe."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm_hub.cli.options import echo
from swarm_hub.util.printable import printable

_GAP: Final = 2
# A column that is cut keeps so much.
_CUT_TO_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class Column:
    """One column; where the terminal is too narrow, those with the highest `rank` are left out.

    One that may be cut is made narrower before that.
    """

    heading: str
    texts: Sequence[str]
    rank: int = 0
    is_number: bool = False
    may_be_cut: bool = False

    @property
    def width(self) -> int:
        """The width of its widest text."""
        from rich.cells import cell_len

        return max(cell_len(each) for each in (self.heading, *map(_one_line, self.texts)))

    @property
    def width_min(self) -> int:
        """The width that it needs."""
        return min(self.width, _CUT_TO_MIN) if self.may_be_cut else self.width


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is, None if it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(columns: Sequence[Column]) -> None:
    """Print a table with its headings; columns without any text are left out."""
    for line in table_lines(columns, terminal_width()):
        echo(line)


def table_lines(columns: Sequence[Column], width: int | None) -> list[str]:
    """Return the lines of a table that is at most so wide, None for any width."""
    kept = [each for each in columns if any(each.texts)]
    if width is not None:
        while len(kept) > 1 and _total([each.width_min for each in kept]) > width:
            kept.remove(max(kept, key=lambda each: each.rank))
    widths = [each.width for each in kept]
    if width is not None:
        for index in sorted(range(len(kept)), key=lambda index: -kept[index].rank):
            too_much = max(0, _total(widths) - width)
            widths[index] = max(kept[index].width_min, widths[index] - too_much)
    rows = zip(*((each.heading, *each.texts) for each in kept), strict=True)
    return [_row(kept, row, widths) for row in rows]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _row(columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int]) -> str:
    from rich.cells import cell_len, set_cell_size

    cells = []
    for column, text, width in zip(columns, map(_one_line, texts), widths, strict=True):
        if cell_len(text) > width:
            cells.append(f"{set_cell_size(text, max(0, width - 1))}…"[: max(1, width)])
        else:
            space = " " * (width - cell_len(text))
            cells.append(f"{space}{text}" if column.is_number else f"{text}{space}")
    return (" " * _GAP).join(cells).rstrip()


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ").replace("\t", " ")
