"""What hubs ask of disk, network and event loop, counted by calls.c, which load can't blur."""

import dataclasses
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_SOURCE: Final = Path(__file__).with_name("calls.c")
_LIBRARY: Final = "calls.so"
_PLACE: Final = struct.Struct("32s8q")


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of a process or of a hub in it; the fields are those of calls.c, in its order."""

    # fsync and fdatasync of a file or a folder.
    syncs: int = 0
    # Transactions of SQLite that wrote, and statements of all kinds, BEGIN and COMMIT too.
    commits: int = 0
    statements: int = 0
    # Pages that went into SQLite's log, and bytes that went into files.
    pages: int = 0
    written_bytes: int = 0
    # Calls that gave bytes to a TCP connection.
    sends: int = 0
    sent_bytes: int = 0
    # Turns of all event loops.
    polls: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(*map(sum, zip(_values(self), _values(other), strict=True)))

    def __sub__(self, other: "Counted") -> "Counted":
        return Counted(*(a - b for a, b in zip(_values(self), _values(other), strict=True)))


class Calls:
    """A place for the counters of processes that were started with its `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def build(cls, folder: Path) -> Self:
        """Compile the library into a folder; raises RuntimeError without a compiler."""
        if shutil.which("cc") is None:
            raise RuntimeError("calls are counted by a library that a C compiler (cc) makes")
        command = ["cc", "-Wall", "-shared", "-fPIC", "-O2", "-o", folder / _LIBRARY, _SOURCE]
        subprocess.run([*command, "-ldl"], check=True, timeout=60)
        return cls(folder)

    def environment(self, root: Path) -> dict[str, str]:
        """Return what to add to the environment of hubs whose directories are in `root`."""
        return {
            "LD_PRELOAD": str(self._folder / _LIBRARY),
            "CALLS_INTO": str(self._folder),
            "CALLS_ROOT": str(root),
        }

    @contextmanager
    def counting(self, root: Path) -> Iterator[None]:
        """Have the hubs counted that are started meanwhile, with directories in `root`."""
        given = self.environment(root)
        os.environ.update(given)
        try:
            yield
        finally:
            for name in given:
                del os.environ[name]

    @classmethod
    def here(cls) -> Self:
        """Return the place where this process is counted."""
        return cls(Path(os.environ["CALLS_INTO"]))

    def by_hub(self, pid: int) -> dict[str, Counted]:
        """Return the counts of each hub of a process, by its folder's name."""
        return {name: counted for name, counted in self._read(pid) if name}

    def of_process(self, pid: int) -> Counted:
        """Return all counts of a process."""
        return sum((counted for _, counted in self._read(pid)), Counted())

    def _read(self, pid: int) -> list[tuple[str, Counted]]:
        places = _PLACE.iter_unpack((self._folder / str(pid)).read_bytes())
        return [
            (name.rstrip(b"\0").decode(errors="replace"), Counted(*counts))
            for name, *counts in places
        ]


def _values(counted: Counted) -> tuple[int, ...]:
    return dataclasses.astuple(counted)
