"""A copy of this repository, in which tests add what a newcomer would add."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Caches of linters and of byte code stay, as they make what runs here quick.
_LEFT_OUT = (
    ".git", ".venv", ".pytest_cache", ".hypothesis", "node_modules", "build", "dist",
    "fuzz-findings", "*.pyc.*",
)  # fmt: skip


class Tree:
    """The copy: its files, and programs that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))

    def run(self, *command: str) -> str:
        """Run a program beside this Python; returns what it says, and fails if it fails."""
        code, said = self.tried(*command)
        assert code == 0, f"{' '.join(command)}\n{said}"
        return said

    def tried(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run a program beside this Python; returns its exit code and what it says."""
        done = subprocess.run(
            [Path(sys.executable).parent / program, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def test(self, *tests: str) -> str:
        """Run tests of the copy; fails if one fails."""
        return self.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)

    def write(self, path: str, text: str) -> str:
        """Write a file, without the indentation of the whole text; returns its path."""
        (self.folder / path).write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def replace(self, path: str, old: str, new: str) -> None:
        """Put something in the place of what is in a file once."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
        file.write_text(text.replace(old, new), encoding="utf-8")
