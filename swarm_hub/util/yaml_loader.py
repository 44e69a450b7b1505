"""YAML whose mappings and lists remember the file and line of each entry.

Built on PyYAML's safe loader. Untrusted or mistaken files are bounded: size, number of nodes,
depth, no duplicate keys, and tags only `!secret`, `!env_var` and `!include`.
"""

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from swarm_hub.const import SECRETS_FILE
from swarm_hub.exceptions import ConfigError, ConfigProblem
from swarm_hub.util.bounds import shown

_FILE_MAX_BYTES: Final = 1024 * 1024
_NODES_MAX: Final = 20_000
_DEPTH_MAX: Final = 40

try:
    _BaseLoader: type[yaml.SafeLoader] = yaml.CSafeLoader  # type: ignore[assignment]
except AttributeError:
    _BaseLoader = yaml.SafeLoader


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or value is; `line` counts from 1."""

    file: str
    line: int


class YamlMap(dict[str, Any]):
    """A mapping that knows the place of each of its keys."""

    places: dict[str, Place]


class YamlList(list[Any]):
    """A list that knows the place of each of its entries."""

    places: list[Place]


def load_yaml(path: Path, root: Path, environ: Mapping[str, str] | None = None) -> Any:
    """Read a YAML file of the configuration directory `root`.

    Raises ConfigError with file and line for anything wrong in it or in what it includes.
    """
    reader = _Reader(root.resolve(), os.environ if environ is None else environ)
    return reader.read(path, None)


class _Reader:
    """Loads one file and everything it includes, under one budget of nodes."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._nodes = 0
        self._files: list[Path] = []
        self._secrets: dict[str, Any] | None = None

    def read(self, path: Path, included_at: Place | None) -> Any:
        resolved = path.resolve()
        name = self._name(path)
        asked = included_at or Place(name, 1)
        if not resolved.is_relative_to(self._root):
            raise _problem(asked, f"{path} is outside the configuration directory")
        if resolved in self._files:
            raise _problem(asked, f"{name} includes itself")
        try:
            if resolved.stat().st_size > _FILE_MAX_BYTES:
                raise _problem(Place(name, 1), "the file is larger than 1 MiB")
            text = resolved.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise _problem(asked, f"{name} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise _problem(asked, f"{name} can't be read: {error}") from error
        self._files.append(resolved)
        try:
            return self._parse(text, name, resolved.parent)
        finally:
            self._files.pop()

    def _parse(self, text: str, name: str, folder: Path) -> Any:
        loader = _BaseLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else self._value(node, name, folder, 0)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = 1 if mark is None else mark.line + 1
            raise _problem(
                Place(name, line), f"invalid YAML: {error.problem or error.context}"
            ) from None
        except yaml.YAMLError as error:
            raise _problem(Place(name, 1), f"invalid YAML: {error}") from None
        finally:
            loader.dispose()

    def _value(self, node: yaml.Node, name: str, folder: Path, depth: int) -> Any:
        place = Place(name, node.start_mark.line + 1)
        self._nodes += 1
        # An alias is walked again each time it is used, so this budget also stops an alias bomb.
        if self._nodes > _NODES_MAX:
            raise _problem(place, f"more than {_NODES_MAX} values (aliases count each time)")
        if depth > _DEPTH_MAX:
            raise _problem(place, f"nested deeper than {_DEPTH_MAX} levels")
        if node.tag.startswith("!"):
            return self._tagged(node, place, folder)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, name, folder, depth)
        if isinstance(node, yaml.SequenceNode):
            values = YamlList(self._value(child, name, folder, depth + 1) for child in node.value)
            values.places = [Place(name, child.start_mark.line + 1) for child in node.value]
            return values
        return _scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, name: str, folder: Path, depth: int) -> YamlMap:
        mapping = YamlMap()
        mapping.places = {}
        for key_node, value_node in node.value:
            place = Place(name, key_node.start_mark.line + 1)
            key = _scalar(key_node, place) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, Hashable) or not isinstance(key, str):
                raise _problem(place, "a key must be text")
            if key in mapping:
                first = mapping.places[key].line
                raise _problem(place, f"{key} is given twice, first in line {first}")
            mapping.places[key] = place
            mapping[key] = self._value(value_node, name, folder, depth + 1)
        return mapping

    def _tagged(self, node: yaml.Node, place: Place, folder: Path) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise _problem(place, f"{node.tag} takes one value")
        argument = str(node.value).strip()
        if node.tag == "!env_var":
            return self._environment(argument, place)
        if node.tag == "!secret":
            return self._secret(argument, place)
        if node.tag == "!include":
            return self.read(folder / argument, place)
        raise _problem(place, f"unknown tag {node.tag}; known: !env_var, !include, !secret")

    def _environment(self, argument: str, place: Place) -> str:
        variable, _, default = argument.partition(" ")
        value = self._environ.get(variable, default)
        if not value and variable not in self._environ:
            raise _problem(
                place, f"the environment variable {variable} is not set and has no default"
            )
        return value

    def _secret(self, key: str, place: Place) -> Any:
        if self._secrets is None:
            path = self._root / SECRETS_FILE
            if not path.exists():
                raise _problem(place, f"!secret {key}: there is no {SECRETS_FILE}")
            found = self.read(path, place)
            self._secrets = found if isinstance(found, dict) else {}
        if key not in self._secrets:
            raise _problem(place, f"!secret {key}: {SECRETS_FILE} has no such key")
        return self._secrets[key]

    def _name(self, path: Path) -> str:
        try:
            return str(path.resolve().relative_to(self._root))
        except ValueError:
            return str(path)


class _Scalars(yaml.SafeLoader):
    """Turns one scalar node into its Python value by YAML's own rules."""

    def __init__(self) -> None:
        super().__init__("")


def _scalar(node: yaml.Node, place: Place) -> Any:
    try:
        return _Scalars().construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _problem(place, f"{shown(node.value)} can't be read: {error}") from None


def _problem(place: Place, message: str) -> ConfigError:
    return ConfigError([ConfigProblem(place.file, place.line, "", message)])
