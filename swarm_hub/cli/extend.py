"""Adding to a `configuration.yaml` that somebody wrote: nothing in it changes, or nothing is done.

The text is extended in place, so that comments and layout stay; then it is read again, and must
say exactly what it said before and what was added.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from swarm_hub.cli.directory import listed, quoted
from swarm_hub.exceptions import ConfigError
from swarm_hub.util.yaml_loader import load_yaml

_TRIAL_FILE: Final = ".configuration.trial.yaml"


class CannotExtendError(Exception):
    """The file is written in a way that is better extended by hand."""


def missing(content: dict[str, Any], section: str, key: str, values: Sequence[str]) -> list[str]:
    """Return the values that a list of the configuration lacks."""
    known = (content.get(section) or {}).get(key) or []
    return [value for value in values if value not in known]


def extended(path: Path, additions: dict[str, dict[str, list[str]]]) -> str:
    """Return a configuration's text with sections added, and values added to their lists.

    Raises CannotExtendError, and ConfigError for a file that can't be read as it is.
    """
    directory = path.parent
    expected = copy.deepcopy(_plain(load_yaml(path, directory))) or {}
    try:
        text = _with_all(path.read_text(encoding="utf-8"), expected, additions)
    except yaml.YAMLError as error:
        raise CannotExtendError("it has an unusual form") from error
    trial = directory / _TRIAL_FILE
    try:
        trial.write_text(text, encoding="utf-8")
        found = _plain(load_yaml(trial, directory))
    except ConfigError as error:
        raise CannotExtendError(str(error)) from None
    finally:
        trial.unlink(missing_ok=True)
    if found != expected:
        raise CannotExtendError("it would no longer mean the same")
    return text


def _with_all(
    text: str, expected: dict[str, Any], additions: dict[str, dict[str, list[str]]]
) -> str:
    """Return the extended text, and add to `expected` what it should then mean."""
    for section, lists in additions.items():
        if section not in expected:
            expected[section] = None
            text = _with_section(text, section, lists)
        else:
            for key, values in lists.items():
                text = _with_values(text, section, key, values)
        for key, values in lists.items():
            expected[section] = expected[section] or {}
            expected[section][key] = [*(expected[section].get(key) or []), *values]
    return text


def _with_section(text: str, section: str, lists: dict[str, list[str]]) -> str:
    root = _root(text)
    if root is not None and root.flow_style:
        raise CannotExtendError("its sections are in braces")
    lines = [f"{section}:", *(f"  {key}: {listed(tuple(v))}" for key, v in lists.items())]
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}\n" + "\n".join(lines) + "\n"


def _with_values(text: str, section: str, key: str, values: list[str]) -> str:
    root = _root(text)
    section_key, section_value = _entry(root, section)
    new = listed(tuple(values))
    if _is_empty(section_value):
        return _after_line(text, section_key.end_mark.index, f"  {key}: {new}")
    if not isinstance(section_value, yaml.MappingNode):
        raise CannotExtendError(f"{section}: has an unusual form")
    if key not in {each.value for each, _ in section_value.value}:
        if section_value.flow_style:
            comma = ", " if section_value.value else ""
            return _insert(text, section_value.start_mark.index, "{", f"{key}: {new}{comma}")
        first = section_value.value[0][0].start_mark
        return f"{text[: first.index]}{key}: {new}\n{' ' * first.column}{text[first.index :]}"
    list_key, found = _entry(section_value, key)
    if _is_empty(found):
        return _insert(text, list_key.end_mark.index, ":", f" {new}")
    if not isinstance(found, yaml.SequenceNode):
        raise CannotExtendError(f"{section}: {key}: is not a plain list")
    if found.flow_style:
        place = found.end_mark.index - 1
        has_comma = text[found.start_mark.index + 1 : place].rstrip().endswith(",")
        comma = ", " if found.value and not has_comma else ""
        joined = comma + ", ".join(map(quoted, values))
        if text[place] != "]":
            raise CannotExtendError(f"{section}: {key}: has an unusual form")
        return text[:place] + joined + text[place:]
    indent = " " * found.start_mark.column
    added = "\n".join(f"{indent}- {quoted(value)}" for value in values)
    return _after_line(text, found.value[-1].start_mark.index, added)


def _root(text: str) -> yaml.MappingNode | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise CannotExtendError("it is not a list of sections")
    return root


def _entry(node: yaml.MappingNode | None, name: str) -> tuple[yaml.Node, yaml.Node]:
    for key, value in node.value if node is not None else ():
        if key.value == name:
            return key, value
    raise CannotExtendError(f"{name}: comes from elsewhere")


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "" and not node.tag.startswith("!")


def _insert(text: str, place: int, expected: str, added: str) -> str:
    if text[place] != expected:
        raise CannotExtendError("it has an unusual form")
    return f"{text[: place + 1]}{added}{text[place + 1 :]}"


def _after_line(text: str, place: int, added: str) -> str:
    end = text.find("\n", place)
    if end < 0:
        return f"{text}\n{added}\n"
    return f"{text[: end + 1]}{added}\n{text[end + 1 :]}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
