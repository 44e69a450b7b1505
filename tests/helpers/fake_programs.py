"""Programs of a device as shell scripts, ahead of all others on PATH."""

import os
from pathlib import Path

import pytest


class FakePrograms:
    """A folder on PATH; `asked` counts how often a program of it was started."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "programs"
        self.folder.mkdir()
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")

    def program(self, name: str, script: str) -> None:
        """Have a program that notes its arguments and runs a script."""
        path = self.folder / name
        # Written aside: one that runs can't be opened for writing.
        fresh = path.with_suffix(".new")
        fresh.write_text(f'#!/bin/sh\necho "$*" >> {path}.asked\n{script}\n')
        fresh.chmod(0o755)
        fresh.replace(path)

    def says(self, name: str, text: str) -> None:
        """Have a program that says a text."""
        said = self.folder / f"{name}.said"
        said.write_text(text)
        self.program(name, f"cat {said}")

    def asked(self, name: str) -> list[str]:
        """Return the arguments of each call of a program."""
        noted = self.folder / f"{name}.asked"
        return noted.read_text().splitlines() if noted.exists() else []
