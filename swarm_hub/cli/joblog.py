"""A log with a line for each input that is done, with the columns of GNU parallel's --joblog."""

import re
from dataclasses import dataclass
from pathlib import Path

from swarm_hub.cli.linelog import LineLog
from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import printable

_COLUMNS = (
    "Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command",
)  # fmt: skip
_EXIT = re.compile(r"\bexit (\d{1,3})\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """What became of an input; `seq` counts from 1, times are seconds."""

    seq: int
    host: str
    started_at: float
    runtime_s: float
    received_bytes: int
    exit_code: int
    command: str

    def __str__(self) -> str:
        columns = (
            f"{self.seq}", self.host, f"{self.started_at:.3f}", f"{self.runtime_s:10.3f}", "0",
            f"{self.received_bytes}", f"{self.exit_code}", "0", self.command,
        )  # fmt: skip
        return "\t".join(_one_cell(each) for each in columns)


class JobLog(LineLog):
    """The file; each line is there as soon as its input is done."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.before: dict[int, tuple[int, str]] = _read(path) if resume else {}
        super().__init__(path, "\t".join(_COLUMNS), is_new=not self.before)

    def add(self, line: Line) -> None:
        """Write a line."""
        self._write(str(line))

    def check(self, commands: dict[int, str]) -> None:
        """Raise HubError if a line is of another input than the one with its number."""
        for seq, (_, command) in self.before.items():
            if seq in commands and _one_cell(commands[seq]) != command:
                raise HubError(
                    f"{self._path}: input {seq} was {command!r} and is {commands[seq]!r} now; "
                    "resume with the inputs that the log is of, or name another log"
                )


def exit_code_of(message: str) -> int:
    """Return the exit code that a failure's message names, 1 if it names none."""
    match = _EXIT.search(message)
    return int(match[1]) if match else 1


def _one_cell(text: str) -> str:
    return printable(text).replace("\t", " ").replace("\n", " ")


def _read(path: Path) -> dict[int, tuple[int, str]]:
    """Return (exit code, command) by input; a line that was cut off is no line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise HubError(f"--joblog {path}: can't be read: {error}") from error
    found = {}
    for line in lines[1:]:
        cells = line.split("\t", len(_COLUMNS) - 1)
        if len(cells) != len(_COLUMNS) or not (cells[0].isdecimal() and cells[6].isdecimal()):
            raise HubError(f"--joblog {path}: is no such log: {line[:60]!r}")
        found[int(cells[0])] = int(cells[6]), cells[8]
    return found
