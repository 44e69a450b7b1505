"""The log of a `map`: a line for each range of items that is done, tab-separated."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from swarm_hub.cli.linelog import LineLog
from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import printable

if TYPE_CHECKING:
    from swarm_hub.client.functions.packing import Packed

_COLUMNS: Final = ("FirstItem", "Items", "Node", "Seconds", "Exit", "Job", "Of")


class MapLog(LineLog):
    """The file; each line is there as soon as what it tells is printed."""

    def __init__(
        self, path: Path, packed: "Packed | None", items: list[Any] | None, *, resume: bool
    ) -> None:
        self._path = path
        # Which call of which items it is of.
        self._of = _hash_of(packed, items)
        self.done: set[int] = self._read() if resume else set()
        is_new = not resume or not path.exists() or not path.stat().st_size
        super().__init__(path, "\t".join(_COLUMNS), is_new=is_new)

    def add(
        self, numbers: list[int], node: str, seconds: float, exit_code: int, job_id: str
    ) -> None:
        """Write a line for each row of items; `numbers` count from 0 and ascend."""
        start = 0
        for place in range(1, len(numbers) + 1):
            if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
                cells = (
                    f"{numbers[start]}", f"{place - start}", printable(node).replace("\t", " "),
                    f"{seconds:.3f}", f"{exit_code}", job_id, self._of,
                )  # fmt: skip
                self._write("\t".join(each.replace("\n", " ") for each in cells))
                start = place

    def _read(self) -> set[int]:
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        except FileNotFoundError:
            return set()
        except (OSError, UnicodeDecodeError) as error:
            raise HubError(f"--joblog {self._path}: can't be read: {error}") from error
        done: set[int] = set()
        for line in lines[1:]:
            cells = line.split("\t")
            if len(cells) != len(_COLUMNS) or not (cells[0].isdecimal() and cells[1].isdecimal()):
                raise HubError(f"--joblog {self._path}: is no such log: {line[:60]!r}")
            if cells[-1] != self._of:
                raise HubError(
                    f"--joblog {self._path}: is of another call or of other items; resume with the "
                    "same ones, or name another log"
                )
            if cells[4] == "0":
                done.update(range(int(cells[0]), int(cells[0]) + min(int(cells[1]), 2**24)))
        return done


def _hash_of(packed: "Packed | None", items: list[Any] | None) -> str:
    from swarm_hub.client.functions.jobs import lines_of

    digest = hashlib.sha256(b"" if packed is None else packed.program)
    digest.update(lines_of(items or []))
    return digest.hexdigest()[:16]
