"""What a hub's database was written, from outside: transactions and pages, by SQLite's own index.

The header of the `-shm` file counts the transactions that wrote something, and the pages in the
log since it began anew (https://www.sqlite.org/walformat.html, section 2.1). Nothing in the hub
counts for this, and reading it costs the hub nothing.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# In the byte order of the machine: format, unused, transactions, flags, size of a page, pages.
_HEADER: Final = struct.Struct("=IIIBBHI")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written to a database; a transaction is one sync of the disk."""

    commits: int
    pages: int


class WalMeter:
    """Counts from its making on; `read` it often, since a log that begins anew forgets its pages.

    It begins anew after a thousand pages or more; of the commit that does it, `read` sees only the
    pages since.
    """

    def __init__(self, database: Path) -> None:
        self._index = database.with_name(f"{database.name}-shm")
        self._last = self._header()
        self._commits = self._pages = 0

    def read(self) -> Written:
        """Return what was written since the meter was made."""
        (commits, pages), (commits_before, pages_before) = self._header(), self._last
        self._last = commits, pages
        self._commits += commits - commits_before
        self._pages += pages - pages_before if pages >= pages_before else pages
        return Written(self._commits, self._pages)

    def _header(self) -> tuple[int, int]:
        with self._index.open("rb") as index:
            _, _, commits, _, _, _, pages = _HEADER.unpack(index.read(_HEADER.size))
        return commits, pages
