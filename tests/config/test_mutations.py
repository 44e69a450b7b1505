"""Whatever is changed about one key of the example, it is valid, or that key and line are named.

What is valid, an editor finds no fault with either.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_hub import bootstrap
from swarm_hub.exceptions import ConfigError, ConfigProblem
from tests.helpers.editor import built_in, faults

EXAMPLE = (Path(__file__).parents[2] / "configuration.yaml.example").read_text(encoding="utf-8")
VALUES = (
    "null", "true", "-1", "0", "1.5", "99999999999999999999", "zzz", "'zzz'", "''", "[]", "[1]",
    "[[]]", "{}", "{zzz: 1}", "2026-01-01", ".nan", ".inf", "\"x\\0y\"", f"'{'x' * 2000}'",
    "!env_var SWARM_HUB_TEST_UNSET", "!secret zzz", "!include zzz.yaml", "!zzz 1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the example: its path, its line, and where it and its value are in the text."""

    path: tuple[str, ...]
    line: int
    begin: int
    colon: int
    end: int

    def with_value(self, value: str) -> str:
        rest = EXAMPLE[self.end :]
        return (
            f"{EXAMPLE[: self.colon]}: {value}{'' if rest.startswith(chr(10)) else chr(10)}{rest}"
        )

    def renamed(self, name: str) -> str:
        return EXAMPLE[: self.begin] + name + EXAMPLE[self.colon :]

    def twice(self) -> str:
        indent = "  " * (len(self.path) - 1)
        return f"{EXAMPLE[: self.begin]}{self.path[-1]}: null\n{indent}{EXAMPLE[self.begin :]}"


def entries(node: yaml.MappingNode, path: tuple[str, ...] = ()) -> Iterator[Entry]:
    for key, value in node.value:
        here = (*path, key.value)
        begin, colon = key.start_mark.index, key.end_mark.index
        yield Entry(here, key.start_mark.line + 1, begin, colon, value.end_mark.index)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from entries(value, here)


SCHEMA = built_in()
ENTRIES = list(entries(yaml.compose(EXAMPLE, Loader=yaml.SafeLoader)))
MUTATIONS = [*VALUES, "renamed", "shortened", "twice"]
NEVER_VALID = ("renamed", "shortened", "twice", "!zzz 1", "!secret zzz", "!include zzz.yaml")


def check(entry: Entry, mutation: str, folder: Path) -> None:
    name, line = entry.path[-1], entry.line
    match mutation:
        case "renamed":
            name, text = f"{name}x", entry.renamed(f"{name}x")
        case "shortened":
            name, text = name[:-1], entry.renamed(name[:-1])
        case "twice":
            text, line = entry.twice(), line + 1
        case _:
            text = entry.with_value(mutation)
    found = problems_of(text, folder)
    told = "\n".join(map(str, found))
    where = f"{' → '.join(entry.path)}, {mutation}, line {line}"
    assert not found or any(names(each, name, line) for each in found), f"{where}: {told}"
    assert found or mutation not in NEVER_VALID, f"{where}: it is valid"
    assert found or not (said := faults(text, SCHEMA)), f"{where}: an editor says: {said}"


def problems_of(text: str, folder: Path) -> list[ConfigProblem]:
    (folder / "configuration.yaml").write_text(text, encoding="utf-8")
    try:
        bootstrap.check(folder)
    except ConfigError as error:
        return error.problems
    return []


def names(problem: ConfigProblem, name: str, line: int) -> bool:
    """Whether a problem is about a key in a line, or about a value whose line says enough."""
    by_tag = ("!secret zzz: ", "unknown tag !zzz", "zzz.yaml does not", "the environment variable")
    named = name in problem.path.split(" → ") or problem.message.startswith(f"{name} is given")
    return problem.line == line and (named or problem.message.startswith(by_tag))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@settings(max_examples=60)
@given(entry=st.sampled_from(ENTRIES), mutation=st.sampled_from(MUTATIONS))
def test_a_change_of_one_key_is_valid_or_told_with_key_and_line(
    folder: Path, entry: Entry, mutation: str
) -> None:
    check(entry, mutation, folder)


@pytest.mark.nightly
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_all_changes_of_one_key_are_valid_or_told_with_key_and_line(
    folder: Path, mutation: str
) -> None:
    for entry in ENTRIES:
        check(entry, mutation, folder)
