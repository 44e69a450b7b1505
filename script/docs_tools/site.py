"""The documentation as a site: Sphinx reads the pages, and any warning of its is an error."""

import subprocess
import sys
from pathlib import Path
from typing import Final

_FRONT: Final = """\
<!doctype html>
<meta charset="utf-8">
<title>swarm_hub</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">swarm_hub</a>
"""


def build(root: Path, target: Path) -> Path:
    """Build the pages of the repository at `root`; returns the page to open.

    Raises SystemExit when Sphinx is not content.
    """
    done = subprocess.run(
        [
            sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-n",
            "-c", Path(__file__).parent, "-d", target.with_name(f"{target.name}-read"),
            root, target,
        ],
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.returncode)
    front = target / "index.html"
    front.write_text(_FRONT, encoding="utf-8")
    return front
