"""A hub that counts its statements: benchmarks/durable.py --statements starts hubs with it.

    python benchmarks/counted_hub.py FILE run -c DIR

patches the driver to hear every statement that SQLite runs, and writes the counts to FILE at each
SIGUSR2. A row of an `executemany` counts as a statement. A hub has no hooks for this.
"""

import json
import re
import signal
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from swarm_hub.__main__ import main

_TABLE: Final = re.compile(r"\b(?:INTO|FROM|UPDATE)\s+\"?(\w+)", re.IGNORECASE)


def _counted(counts: Counter[str], file: Path) -> None:
    connect = sqlite3.connect

    def said(statement: str) -> None:
        verb = statement.split(None, 1)[0].upper()
        found = _TABLE.search(statement)
        counts[verb if found is None else f"{verb} {found[1]}"] += 1

    def listening(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(said)
        return connection

    sqlite3.connect = listening  # type: ignore[assignment]
    sqlite3.dbapi2.connect = listening  # type: ignore[attr-defined]

    def tell(_signal: int, _frame: object) -> None:
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(json.dumps(counts))
        unfinished.replace(file)

    signal.signal(signal.SIGUSR2, tell)


if __name__ == "__main__":
    _counted(Counter(), Path(sys.argv.pop(1)))
    main()
