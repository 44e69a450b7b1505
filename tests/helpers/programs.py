"""Programs of the test's own on the PATH, which write down how they were called."""

from pathlib import Path


class Programs:
    """A folder of shell scripts, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._calls = folder / "calls"
        self.forget()

    def add(self, name: str, body: str = "") -> None:
        """Have a program of that name, which then does what `body` says."""
        path = self.folder / name
        told = f'echo "{name}${{*:+ $*}}" >> {self._calls}'
        path.write_text(f"#!/bin/sh\n{told}\n{body}\n")
        path.chmod(0o755)

    def take_away(self, name: str) -> None:
        """Have no program of that name any more."""
        (self.folder / name).unlink()

    def calls(self) -> list[str]:
        """Return the commands that were run, in order."""
        return self._calls.read_text().splitlines()

    def forget(self) -> None:
        """Begin a new list of calls."""
        self._calls.write_text("")
