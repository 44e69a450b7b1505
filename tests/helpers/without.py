"""A Python in which some libraries can't be imported, as where they are not installed."""

import os
import subprocess
import sys
from pathlib import Path

_TREE = Path(__file__).parents[2]


def python_without(libraries: tuple[str, ...], code: str) -> str:
    """Run code in such a Python and return what it prints; fails with what it said if it failed."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({libraries!r}))\n"
    ran = subprocess.run(
        [sys.executable, "-c", blocked + code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(_TREE)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
