"""YAML whose mappings and lists remember the file and line of each entry.

Built on PyYAML's safe loader. Untrusted or mistaken files are bounded: number and size of files,
number of nodes, depth, no duplicate keys, and no tags but `!secret`, `!env_var`, `!include` and the
four that include a directory. Every problem is told at once, but for those of one file's grammar.
It is long because marks of lines have to go through all that the tags do.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from swarm_hub.const import SECRETS_FILE, STORAGE_DIR
from swarm_hub.exceptions import ConfigError, ConfigProblem
from swarm_hub.util.bounds import shown

YAML_SUFFIXES: Final = (".yaml", ".yml")
_FILE_MAX_BYTES: Final = 1024 * 1024
_ALL_MAX_BYTES: Final = 8 * 1024 * 1024
_FILES_MAX: Final = 500
_INCLUDES_MAX: Final = 16
_NODES_MAX: Final = 20_000
_DEPTH_MAX: Final = 40

try:
    _BaseLoader: type[yaml.SafeLoader] = yaml.CSafeLoader  # type: ignore[assignment]
except AttributeError:
    _BaseLoader = yaml.SafeLoader


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or value is; `line` counts from 1, `tag` is what its value comes by, if any."""

    file: str
    line: int
    tag: str = ""


class YamlMap(dict[str, Any]):
    """A mapping that knows the place of each of its keys."""

    places: dict[str, Place]

    def __init__(self, *content: Any) -> None:
        super().__init__(*content)
        self.places = {}

    def put(self, key: str, value: Any, place: Place) -> None:
        """Set a key with its place."""
        self[key] = value
        self.places[key] = place


class YamlList(list[Any]):
    """A list that knows the place of each of its entries."""

    places: list[Place]

    def __init__(self, *content: Any) -> None:
        super().__init__(*content)
        self.places = []

    def put(self, value: Any, place: Place) -> None:
        """Add an entry with its place."""
        self.append(value)
        self.places.append(place)


@dataclass(frozen=True, slots=True)
class YamlRead:
    """What was read, from which files (relative to the root), and what is wrong with it."""

    content: Any
    files: tuple[str, ...]
    # All that is in files of secrets, as text.
    secrets: frozenset[str]
    problems: tuple[ConfigProblem, ...]


def load_yaml(path: Path, root: Path, environ: Mapping[str, str] | None = None) -> Any:
    """Read a YAML file of the configuration directory `root`.

    Raises ConfigError with file and line for everything wrong in it or in what it includes.
    """
    found = read_yaml(path, root, environ)
    if found.problems:
        raise ConfigError(list(found.problems))
    return found.content


def read_yaml(path: Path, root: Path, environ: Mapping[str, str] | None = None) -> YamlRead:
    """Read a YAML file and all that it includes, whatever is wrong with them."""
    reader = _Reader(root.resolve(), os.environ if environ is None else environ)
    content = reader.read(path, None)
    return YamlRead(
        content,
        tuple(reader.files),
        frozenset(text for each in reader.secrets.values() for text in texts_in(each)),
        tuple(reader.problems),
    )


def texts_in(content: Any) -> Iterator[str]:
    """Yield every number and text in plain content, as text."""
    match content:
        case Mapping():
            for value in content.values():
                yield from texts_in(value)
        case list():
            for value in content:
                yield from texts_in(value)
        case None | bool():
            return
        case _:
            yield str(content)


class _Reader:
    """Loads one file and everything it includes, within one budget."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._nodes = 0
        self._bytes = 0
        # The file that is being read, after those that include it.
        self._open: list[Path] = []
        self.secrets: dict[Path, Any] = {}
        self._unreadable: set[Path] = set()
        self.problems: list[ConfigProblem] = []
        # In the order in which they were read first.
        self.files: dict[str, None] = {}
        self._directories: dict[str, Callable[[list[Path], Place], Any]] = {
            "!include_dir_list": self._as_list,
            "!include_dir_named": self._as_named,
            "!include_dir_merge_list": self._as_merged_list,
            "!include_dir_merge_named": self._as_merged_named,
        }

    def read(self, path: Path, included_at: Place | None) -> Any:
        """Return what is in a file; None if it can't be used, which is then in `problems`."""
        try:
            return self._read(path, included_at)
        except ConfigError as error:
            self.problems += error.problems
            return None

    def _read(self, path: Path, included_at: Place | None) -> Any:
        name = self._name(path)
        resolved = self._inside(path, included_at or Place(name, 1))
        asked = included_at or Place(name, 1)
        if resolved in self._open:
            raise _problem(asked, f"{name} includes itself")
        if len(self._open) > _INCLUDES_MAX:
            raise _problem(asked, f"files include each other over more than {_INCLUDES_MAX} levels")
        text = self._text(resolved, name, asked)
        self._open.append(resolved)
        try:
            return self._parse(text, name, resolved.parent)
        finally:
            self._open.pop()

    def _text(self, path: Path, name: str, asked: Place) -> str:
        if path.is_dir():
            raise _problem(asked, f"{name} is a directory; see !include_dir_named")
        if path.exists() and not (path.is_file() or path.is_fifo()):
            raise _problem(asked, f"{name} is no file")
        self.files[name] = None
        if len(self.files) > _FILES_MAX:
            raise _problem(asked, f"more than {_FILES_MAX} files are included")
        try:
            with path.open("rb") as file:
                content = file.read(_FILE_MAX_BYTES + 1)
        except FileNotFoundError:
            del self.files[name]
            raise _problem(asked, f"{name} does not exist") from None
        except OSError as error:
            raise _problem(asked, f"{name} can't be read: {error.strerror}") from error
        if len(content) > _FILE_MAX_BYTES:
            raise _problem(Place(name, 1), "the file is larger than 1 MiB")
        self._bytes += len(content)
        if self._bytes > _ALL_MAX_BYTES:
            raise _problem(asked, "all files together are larger than 8 MiB")
        try:
            return content.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            # Only those who make mistakes need to have them explained.
            from swarm_hub.util.yaml_mistakes import undecodable

            mistake = undecodable(content, error)
            raise _problem(Place(name, mistake.line), mistake.message) from None

    def _parse(self, text: str, name: str, folder: Path) -> Any:
        try:
            loader = _BaseLoader(text)
            try:
                node = loader.get_single_node()
            finally:
                loader.dispose()
        except yaml.YAMLError as error:
            raise self._mistake(text, name, error) from None
        return None if node is None else self._value(node, name, folder, 0)

    def _mistake(self, text: str, name: str, error: yaml.YAMLError) -> ConfigError:
        from swarm_hub.util.redaction import redacted_line
        from swarm_hub.util.yaml_mistakes import mistake_in

        mistake = mistake_in(text, error)
        message = mistake.message
        lines = text.splitlines()[mistake.line - 1 : mistake.line]
        line = lines[0] if lines and mistake.shown else ""
        if line.strip() and Path(name).name != SECRETS_FILE:
            message += f": {shown(redacted_line(line))}"
        return _problem(Place(name, mistake.line), message)

    def _value(self, node: yaml.Node, name: str, folder: Path, depth: int) -> Any:
        place = Place(name, node.start_mark.line + 1)
        self._nodes += 1
        # An alias is walked again each time it is used, so this budget also stops an alias bomb.
        if self._nodes > _NODES_MAX:
            raise _problem(place, f"more than {_NODES_MAX} values (aliases count each time)")
        if depth > _DEPTH_MAX:
            raise _problem(place, f"nested deeper than {_DEPTH_MAX} levels")
        try:
            if node.tag.startswith("!"):
                return self._tagged(node, place, folder)
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, name, folder, depth)
            if isinstance(node, yaml.SequenceNode):
                values = YamlList()
                for child in node.value:
                    value = self._value(child, name, folder, depth + 1)
                    values.put(value, _place_of(child, Place(name, child.start_mark.line + 1)))
                return values
            return _scalar(node, place)
        except _HereError as error:
            self.problems.append(error.problem)
            return None

    def _mapping(self, node: yaml.MappingNode, name: str, folder: Path, depth: int) -> YamlMap:
        mapping = YamlMap()
        for key_node, value_node in node.value:
            place = Place(name, key_node.start_mark.line + 1)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key == "<<" and not key_node.style:
                said = "<<: is not known here; give the keys themselves, or see hub: packages"
                self.problems.append(_HereError(place, said).problem)
            elif not isinstance(key, str) or key_node.tag != "tag:yaml.org,2002:str":
                said = "a key must be text" + ("" if key is None else f": put {key} in quotes")
                self.problems.append(_HereError(place, said).problem)
            elif key in mapping:
                first = mapping.places[key].line
                said = f"{key} is given twice, first in line {first}"
                self.problems.append(_HereError(place, said).problem)
            else:
                value = self._value(value_node, name, folder, depth + 1)
                mapping.put(key, value, _place_of(value_node, place))
        return mapping

    def _tagged(self, node: yaml.Node, place: Place, folder: Path) -> Any:
        argument = str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""
        known = ("!env_var", "!include", "!secret", *self._directories)
        if node.tag not in known:
            raise _HereError(place, f"unknown tag {node.tag}; known: {', '.join(sorted(known))}")
        if not argument:
            raise _HereError(place, f"{node.tag} takes one value")
        match node.tag:
            case "!env_var":
                return self._environment(argument, place)
            case "!secret":
                return self._secret(argument, place, folder)
            case "!include":
                return self.read(folder / argument, place)
        return self._directories[node.tag](self._within(folder / argument, place), place)

    def _within(self, folder: Path, place: Place) -> list[Path]:
        """Return the YAML files in a folder and those below it, by name, without hidden ones."""
        name = self._name(folder)
        if not self._inside(folder, place).is_dir():
            raise _HereError(place, f"{name} is no directory of the configuration")
        found: list[Path] = []
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for each in folders:
                if (Path(parent) / each).is_symlink():
                    said = f"{self._name(Path(parent))}/{each} is a link; include that directory"
                    raise _HereError(place, said)
            wanted = (each for each in sorted(names) if _is_included(each))
            # A pipe is read only if it is named itself.
            found += (path for each in wanted if (path := Path(parent) / each).is_file())
            if len(found) > _FILES_MAX:
                raise _HereError(place, f"{name} has more than {_FILES_MAX} files")
        return found

    def _as_list(self, paths: list[Path], place: Place) -> YamlList:
        values = YamlList()
        for path in paths:
            values.put(self.read(path, place), Place(self._name(path), 1))
        return values

    def _as_named(self, paths: list[Path], place: Place) -> YamlMap:
        named = YamlMap()
        for path in paths:
            here = Place(self._name(path), 1)
            if path.stem in named:
                first = named.places[path.stem].file
                said = f"{here.file} has the same name as {first}; rename one of them"
                self.problems.append(_HereError(place, said).problem)
            else:
                named.put(path.stem, self.read(path, place), here)
        return named

    def _as_merged_list(self, paths: list[Path], place: Place) -> YamlList:
        merged = YamlList()
        for content in self._each(paths, place, YamlList, "a list"):
            for value, at in zip(content, content.places, strict=True):
                merged.put(value, at)
        return merged

    def _as_merged_named(self, paths: list[Path], place: Place) -> YamlMap:
        merged = YamlMap()
        for content in self._each(paths, place, YamlMap, "keys and values"):
            for key, value in content.items():
                at = content.places[key]
                if key in merged:
                    first = merged.places[key]
                    said = f"{key} is given twice, first in {first.file}:{first.line}"
                    self.problems.append(_HereError(at, said).problem)
                else:
                    merged.put(key, value, at)
        return merged

    def _each(self, paths: list[Path], place: Place, kind: type, expected: str) -> Iterator[Any]:
        for path in paths:
            content = self.read(path, place)
            if isinstance(content, kind):
                yield content
            elif content is not None:
                here = Place(self._name(path), 1)
                said = f"expected {expected}, as {place.file}:{place.line} merges what is in it"
                self.problems.append(_HereError(here, said).problem)

    def _environment(self, argument: str, place: Place) -> str:
        variable, _, default = argument.partition(" ")
        value = self._environ.get(variable, default)
        if not value and variable not in self._environ:
            said = f"the environment variable {variable} is not set and has no default"
            raise _HereError(place, said)
        return value

    def _secret(self, key: str, place: Place, folder: Path) -> Any:
        """Return a secret from the nearest file of secrets that has it, up to the root."""
        looked: list[str] = []
        while True:
            path = folder / SECRETS_FILE
            # A file of secrets can't ask itself.
            if path.is_file() and path not in self._open:
                if path not in self.secrets:
                    told = len(self.problems)
                    self.secrets[path] = self.read(path, place)
                    if len(self.problems) > told:
                        self._unreadable.add(path)
                if path in self._unreadable:
                    # What is wrong with it is told, and what else is in it not known.
                    return None
                found = self.secrets[path]
                looked.append(self._name(path))
                if isinstance(found, dict) and key in found:
                    return found[key]
            if folder == self._root or self._root not in folder.parents:
                break
            folder = folder.parent
        if not looked:
            raise _HereError(place, f"!secret {key}: there is no {SECRETS_FILE}")
        raise _HereError(place, f"!secret {key}: there is no such key in {' or '.join(looked)}")

    def _inside(self, path: Path, place: Place) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self._root):
            raise _problem(place, f"{path} is outside the configuration directory")
        if resolved.relative_to(self._root).parts[:1] == (STORAGE_DIR,):
            raise _problem(place, f"{self._name(path)} is in {STORAGE_DIR}, which is the hub's own")
        return resolved

    def _name(self, path: Path) -> str:
        try:
            return str(path.resolve().relative_to(self._root))
        except ValueError:
            return str(path)


class _Scalars(yaml.SafeLoader):
    """Turns one scalar node into its Python value by YAML's own rules."""

    def __init__(self) -> None:
        super().__init__("")


class _HereError(Exception):
    """A problem of one value, which keeps nothing else from being read."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.problem = ConfigProblem(place.file, place.line, "", message)


def _scalar(node: yaml.Node, place: Place) -> Any:
    try:
        return _Scalars().construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _HereError(place, f"{shown(node.value)} can't be read: {error}") from None


def _place_of(node: yaml.Node, place: Place) -> Place:
    """Return the place of a key or entry, with the tag that its value comes by."""
    if not node.tag.startswith("!"):
        return place
    return Place(place.file, place.line, f"{node.tag} {shown(node.value)[1:-1]}")


def _is_included(name: str) -> bool:
    return name.endswith(YAML_SUFFIXES) and not name.startswith(".") and name != SECRETS_FILE


def _problem(place: Place, message: str) -> ConfigError:
    return ConfigError([ConfigProblem(place.file, place.line, "", message)])
