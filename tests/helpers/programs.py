"""Programs of the test's own on the PATH, which write down how they were called."""

import os
from pathlib import Path

import pytest


class Programs:
    """A folder of shell scripts, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._calls = folder / "calls"
        self.forget()

    def add(self, name: str, body: str = "") -> None:
        """Have a program of that name, which then does what `body` says."""
        told = f'echo "{name}${{*:+ $*}}" >> {self._calls}'
        # Written aside, as the one before may run.
        fresh = self.folder / f"{name}.new"
        fresh.write_text(f"#!/bin/sh\n{told}\n{body}\n")
        fresh.chmod(0o755)
        fresh.replace(self.folder / name)

    def says(self, name: str, text: str) -> None:
        """Have a program of that name that says a text."""
        said = self.folder / f"{name}.said"
        said.write_text(text)
        self.add(name, f"cat {said}")

    def take_away(self, name: str) -> None:
        """Have no program of that name any more."""
        (self.folder / name).unlink()

    def calls(self) -> list[str]:
        """Return the commands that were run, in order."""
        return self._calls.read_text().splitlines()

    def asked(self, name: str) -> list[str]:
        """Return the arguments of each call of a program."""
        commands = (call.partition(" ") for call in self.calls())
        return [arguments for program, _, arguments in commands if program == name]

    def forget(self) -> None:
        """Begin a new list of calls."""
        self._calls.write_text("")


def first_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Return programs that are found before all others."""
    made = Programs(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return made
