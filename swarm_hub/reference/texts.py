"""`keys.yaml`: what a key is for, in which unit it counts, and since which version there is it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import voluptuous as vol
import yaml

from swarm_hub.exceptions import SetupError

KEYS_FILE: Final = "keys.yaml"
_FILE_MAX_BYTES: Final = 256 * 1024
_DEPTH_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class KeyText:
    """What is said of one key.

    `kind` and `default` are words where those of the schema would not help; `example` is the value
    that an example shows instead of the default.
    """

    description: str = ""
    unit: str = ""
    since: str = ""
    kind: str = ""
    default: str = ""
    example: str = ""
    keys: "Mapping[str, KeyText]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Texts:
    """What is said of a section or of a platform, and of its keys.

    A section may be a list (`is_list`), whose entries have no table; `example` is then shown behind
    `#`.
    """

    about: str = ""
    is_list: bool = False
    example: str = ""
    keys: Mapping[str, KeyText] = field(default_factory=dict)
    platforms: "Mapping[str, Texts]" = field(default_factory=dict)


def read_texts(path: Path) -> Mapping[str, Any]:
    """Return what a file of texts has, nothing if it isn't there; raises SetupError."""
    try:
        if path.stat().st_size > _FILE_MAX_BYTES:
            raise SetupError(f"{path}: larger than 256 KiB")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SetupError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise SetupError(f"{path}: expected keys and values")
    return content


def texts_of(path: Path, content: Any) -> Texts:
    """Return the texts of a section; raises SetupError that names the file."""
    try:
        return _texts(content, str(_checked_text(content).get("since", "")))
    except vol.Invalid as error:
        raise SetupError(f"{path}: {error}") from None


def _texts(content: Any, since: str) -> Texts:
    given: Any = _SECTION(content or {})
    since = given.get("since", since)
    return Texts(
        " ".join(given.get("about", "").split()),
        given.get("type") == "list",
        given.get("example", "").strip(),
        _keys(given.get("keys"), since, 0),
        {name: _texts(each, since) for name, each in (given.get("platforms") or {}).items()},
    )


def _keys(content: Any, since: str, depth: int) -> dict[str, KeyText]:
    if depth > _DEPTH_MAX:
        raise vol.Invalid("keys are nested too deep")
    return {name: _key(each, since, depth) for name, each in (content or {}).items()}


def _key(content: Any, since: str, depth: int) -> KeyText:
    given: Any = _KEY(content)
    return KeyText(
        description=" ".join(given.get("description", "").split()),
        unit=given.get("unit", ""),
        since=given.get("since", since),
        kind=given.get("type", ""),
        default=given.get("default", ""),
        example=given.get("example", ""),
        keys=_keys(given.get("keys"), given.get("since", since), depth + 1),
    )


def _checked_text(content: Any) -> Mapping[str, Any]:
    return content if isinstance(content, dict) else {}


_NAMED: Final = vol.Any(None, {str: object})
_KEY: Final = vol.Schema(
    {
        vol.Required("description"): str,
        vol.Optional("unit"): str,
        vol.Optional("since"): str,
        vol.Optional("type"): str,
        vol.Optional("default"): str,
        vol.Optional("example"): str,
        vol.Optional("keys"): _NAMED,
    }
)
_SECTION: Final = vol.Schema(
    {
        vol.Optional("about"): str,
        vol.Optional("type"): "list",
        vol.Optional("example"): str,
        vol.Optional("since"): str,
        vol.Optional("keys"): _NAMED,
        vol.Optional("platforms"): _NAMED,
    }
)
