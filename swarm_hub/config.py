"""The configuration directory: reading its YAML, and naming every problem with file and line."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.const import CONFIG_FILE, NAME_MAX_CHARS
from swarm_hub.exceptions import ConfigError, ConfigProblem
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import shown
from swarm_hub.util.described import described
from swarm_hub.util.process_log import KEEP, LEVELS, LoggerConfig
from swarm_hub.util.yaml_loader import Place, YamlList, YamlMap, read_yaml

_T = TypeVar("_T")

CORE_SECTIONS: Final = ("hub", "storage", "logger")
_SQLITE_URL: Final = "sqlite:///"
_POSTGRES_URL: Final = "postgresql://"
# voluptuous speaks of Python's types; these are the words that the file's author knows.
_PLAINER: Final = {
    "expected a dictionary": "expected keys and values below it, each on its own line",
    "required key not provided": "this key is required",
    "expected str": "expected text",
}
_NOT_OFF: Final = (
    "false switches off only what comes by itself, such as frontend; to do without this, take the "
    "line out"
)


@dataclass(frozen=True, slots=True)
class HubConfig:
    """`hub:`: what this device is called, and the names of the packages merged into this."""

    name: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupConfig:
    """`storage: backup:`: how often backups are made, how many are kept, and where."""

    every_s: float
    keep: int
    directory: str


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """`storage:`: where the store is, how much space it leaves free, and its own backups."""

    url: str
    min_free_bytes: int
    on_damage: str
    backup: BackupConfig | None = None

    @property
    def shared(self) -> bool:
        """Whether several gateways may use the store."""
        return self.url.startswith(_POSTGRES_URL)

    def path(self, config_dir: Path) -> Path:
        """Return the SQLite file; a relative one is inside the configuration directory."""
        return config_dir / self.url.removeprefix(_SQLITE_URL)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration as read: the core's sections checked, the components' still as written.

    `files` are all that were read for it, relative to the directory; `secrets` what is in those of
    secrets.
    """

    directory: Path
    hub: HubConfig
    storage: StorageConfig
    logger: LoggerConfig
    sections: YamlMap
    problems: tuple[ConfigProblem, ...]
    files: tuple[str, ...]
    secrets: frozenset[str]


def read_configuration(directory: Path, default_name: str) -> Configuration:
    """Read `configuration.yaml`; raises ConfigError when it can't be read as YAML sections.

    Mistakes in the core's own sections are in `problems`; defaults stand in for the values.
    """
    path = directory / CONFIG_FILE
    if not path.exists():
        raise ConfigError(
            [
                ConfigProblem(
                    str(path), None, "", f"does not exist; run: swarm-hub init -c {directory}"
                )
            ]
        )
    found = read_yaml(path, directory)
    if found.problems:
        raise ConfigError(list(found.problems))
    content = YamlMap() if found.content is None else found.content
    if not isinstance(content, YamlMap):
        raise ConfigError(
            [ConfigProblem(CONFIG_FILE, 1, "", "expected sections such as `gateway:`")]
        )
    problems: list[ConfigProblem] = []
    section = content.get("hub")
    if isinstance(section, YamlMap) and isinstance(section.get("packages"), YamlMap):
        # Most hubs have none.
        from swarm_hub.helpers.packages import merge

        content = merge(content, section["packages"], problems)
    return Configuration(
        directory=directory,
        hub=_core_section(content, "hub", hub_schema(default_name), problems),
        storage=_core_section(content, "storage", STORAGE_SCHEMA, problems),
        logger=_core_section(content, "logger", LOGGER_SCHEMA, problems),
        sections=content,
        problems=tuple(problems),
        files=found.files,
        secrets=found.secrets,
    )


def validate_section(content: YamlMap, domain: str, schema: Callable[[Any], _T]) -> _T:
    """Check one section; raises ConfigError with every problem, its line and a suggestion."""
    value = content.get(domain)
    if value is False:
        raise ConfigError([problem_at(content, [domain], _NOT_OFF)])
    try:
        return schema(value)
    except vol.MultipleInvalid as error:
        problems = [_located(content, domain, each) for each in error.errors]
    except vol.Invalid as error:
        problems = [_located(content, domain, error)]
    raise ConfigError(problems)


def _core_section(
    content: YamlMap, domain: str, schema: Callable[[Any], _T], problems: list[ConfigProblem]
) -> _T:
    try:
        return validate_section(content, domain, schema)
    except ConfigError as error:
        problems += error.problems
        return schema(None)


def problem_at(content: YamlMap, path: Sequence[Any], message: str) -> ConfigProblem:
    """Return a problem of a section or of a key in it, at the line where it is written."""
    names = " → ".join(str(getattr(part, "schema", part)) for part in path)
    place = _place(content, path)
    if place is None:
        return ConfigProblem(CONFIG_FILE, None, names, message)
    return ConfigProblem(place.file, place.line, names, message)


def _located(content: YamlMap, domain: str, error: vol.Invalid) -> ConfigProblem:
    path = [domain, *error.path]
    message = _PLAINER.get(error.msg, error.msg)
    place = _place(content, path)
    if place is not None and place.tag.startswith("!secret"):
        # Problems are shown to others and end in logs.
        message = f"{message.partition(', got ')[0]}; it comes from {place.tag}"
    return problem_at(content, path, message)


def _place(content: YamlMap, path: Sequence[Any]) -> Place | None:
    place: Place | None = None
    current: Any = content
    for part in path:
        key = getattr(part, "schema", part)
        inside_list = isinstance(current, YamlList) and isinstance(key, int) and key < len(current)
        if inside_list or (isinstance(current, YamlMap) and key in current):
            place, current = current.places[key], current[key]
        else:
            break
    return place


@described({"type": "string", "pattern": "^(sqlite:///|postgresql://)."})
def _storage_url(value: Any) -> str:
    known = (_SQLITE_URL, _POSTGRES_URL)
    if isinstance(value, str) and any(
        value.startswith(each) and len(value) > len(each) for each in known
    ):
        return value
    shown = value.partition("@")[2] if isinstance(value, str) and "@" in value else repr(value)
    raise vol.Invalid(
        f"expected sqlite:///swarm_hub.db or postgresql://user:password@host/database, got {shown}"
    )


def hub_schema(default_name: str) -> Callable[[Any], HubConfig]:
    """Return the schema of `hub:`; without a name it is called as its host."""
    name = cv.Key("name", default=default_name, reloadable=False)
    packages = cv.Key("packages", default=dict, reloadable=False)
    return cv.section({name: cv.text(NAME_MAX_CHARS, 1), packages: _package_names}, HubConfig)


@described({"type": "object"})
def _package_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, dict):
        raise vol.Invalid(
            "expected names, each with sections below it, or !include_dir_named DIRECTORY"
        )
    return tuple(value)


_BACKUP_SCHEMA: Final = cv.section(
    {
        cv.Key("every", default="24h", reloadable=True, field="every_s"): cv.positive_duration,
        cv.Key("keep", default=7, reloadable=True): cv.integer(1, 10_000),
        cv.Key("directory", default="backups", reloadable=True): cv.text(1024, 1),
    },
    BackupConfig,
)
STORAGE_SCHEMA: Final = cv.section(
    {
        cv.Key("url", default="sqlite:///swarm_hub.db", reloadable=False): _storage_url,
        cv.Key("min_free", default="64MiB", reloadable=True, field="min_free_bytes"): cv.size,
        cv.Key("on_damage", default="stop", reloadable=False): cv.one_of("stop", "restore"),
        cv.Key("backup", reloadable=True): _BACKUP_SCHEMA,
    },
    StorageConfig,
)


_LOG_MIN_BYTES: Final = 64 * 1024
_LOGS_MAX: Final = 64
_LOG_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,8}\Z", re.ASCII)
log_level: Final = cv.one_of(*LEVELS)


def log_levels(value: Any) -> dict[str, str]:
    """Validate levels by the names of components or loggers."""
    if not isinstance(value, dict) or len(value) > _LOGS_MAX:
        raise vol.Invalid(f"expected at most {_LOGS_MAX} names, each with a level")
    found: dict[str, str] = {}
    for name, level in value.items():
        if not isinstance(name, str) or not _LOG_NAME.match(name):
            raise vol.Invalid(
                f"expected a component such as mesh, or a logger as the log names it, got "
                f"{shown(name)}"
            )
        try:
            found[name] = log_level(level)
        except vol.Invalid as error:
            raise vol.Invalid(error.msg, path=[name]) from None
    return found


def _log_size(value: Any) -> int:
    size_bytes = cv.size(value)
    if size_bytes < _LOG_MIN_BYTES:
        raise vol.Invalid(f"expected at least 64KiB, got {shown(value)}")
    return size_bytes


LOGGER_SCHEMA: Final = cv.section(
    {
        cv.Key("default", default="info", reloadable=True): log_level,
        cv.Key("logs", default=dict, reloadable=True): log_levels,
        cv.Key("json", default=False, reloadable=True): cv.boolean,
        cv.Key("file", default=None, reloadable=True): cv.optional(cv.text(1024, 1)),
        cv.Key("max_size", default="1MiB", reloadable=True, field="max_size_bytes"): _log_size,
        cv.Key("keep", default=KEEP, reloadable=True): cv.integer(0, 1000),
    },
    LoggerConfig,
)
CORE_SCHEMAS: Final[dict[str, Callable[[Any], object]]] = {
    "storage": STORAGE_SCHEMA,
    "logger": LOGGER_SCHEMA,
}
