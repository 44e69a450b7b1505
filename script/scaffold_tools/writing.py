"""Files from templates: all of them are written, or none."""

import keyword
import re
import string
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

import click

ROOT: Final = Path(__file__).parents[2]
TEMPLATES: Final = Path(__file__).parent / "templates"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)
_NAME_MAX: Final = 24


class Words:
    """What stands in a template for the name, in each of its spellings."""

    def __init__(self, name: str, more: Mapping[str, str] | None = None) -> None:
        if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > _NAME_MAX:
            raise click.UsageError(
                f"{name!r} is no name for it: small letters, digits and single underscores, "
                f"beginning with a letter, at most {_NAME_MAX}, such as room_heater"
            )
        self.name = name
        self._more = more or {}

    def with_more(self, **more: str) -> Self:
        """Return the same with further words."""
        return type(self)(self.name, {**self._more, **more})

    def fill(self, template: str) -> str:
        """Return a template with all words in their places."""
        parts = self.name.split("_")
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        return string.Template(text).substitute(
            self._more,
            name=self.name,
            Name="".join(part.capitalize() for part in parts),
            NAME=self.name.upper(),
            words=" ".join(parts),
            title=" ".join(parts).capitalize(),
        )


class Files:
    """New files and changed ones, kept until all is known to be well."""

    def __init__(self) -> None:
        self._texts: dict[Path, str] = {}

    def add(self, path: Path, template: str, words: Words) -> None:
        """Fill a template for a file that must not be there yet."""
        if path.exists():
            raise click.UsageError(
                f"{shown(path)} exists already; choose another name or remove it"
            )
        self._texts[path] = words.fill(template)

    def put(self, path: Path, head: str, text: str) -> None:
        """Write a text below its head, or as the last below that head which is there already."""
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        self._texts[path] = before + ("" if head in before else head) + text

    def change(self, path: Path, changed: Callable[[str], str]) -> None:
        """Change a file that must be there; `changed` raises ValueError where it can't."""
        try:
            self._texts[path] = changed(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.UsageError(f"{shown(path)} can't be changed: {error}") from None

    def write(self) -> None:
        """Write all, and bring what is Python into the project's form."""
        for path, text in self._texts.items():
            click.echo(f"{'changed' if path.exists() else 'wrote'} {shown(path)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sources = [str(path) for path in self._texts if path.suffix == ".py"]
        for command in (["check", "--select", "I", "--fix"], ["format"]):
            subprocess.run(
                [sys.executable, "-m", "ruff", *command, "--quiet", "--config",
                 ROOT / "pyproject.toml", *sources],
                check=True,
            )  # fmt: skip


def write_pages() -> None:
    """Have the pages made anew that tell keys, by a process that knows the new files."""
    subprocess.run([sys.executable, "-m", "script.docs_tools", "pages"], cwd=ROOT, check=True)


def shown(path: Path) -> Path:
    """Return a path as users know it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
