"""Platforms: exchangeable strategies inside a component, chosen by `platform:`.

A platform is a module with a `PLATFORM_SCHEMA` (its keys) and `create(**keys)`: a built-in one is
`components/<domain>/<platform>.py` (the scheduler's are in `components/scheduler/strategies/`); one
of the owner's is `custom_components/<platform>/<domain>.py`.
"""

import dataclasses
import functools
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, Self, TypeVar

import voluptuous as vol

from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.exceptions import SetupError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import shown

_T = TypeVar("_T")

_ATTRIBUTES: Final = ("PLATFORM_SCHEMA", "create")


@dataclass(frozen=True, slots=True)
class Platform(Generic[_T]):
    """A chosen platform with its validated keys, and those that all platforms share."""

    name: str
    create: Callable[[], _T]
    options: Mapping[str, Any] = field(default_factory=dict)
    # The file of one of the owner's.
    custom: Path | None = None


@dataclass(frozen=True, slots=True)
class PlatformSchema:
    """The CONFIG_SCHEMA of a component that consists only of its platform."""

    domain: str
    default: str
    # Where the built-in ones are, inside the component; if empty, in the component itself.
    folder: str = ""
    # The component's own, whatever its platform.
    keys: Mapping[Any, Any] = field(default_factory=dict)
    config_dir: Path | None = None

    def looking_in(self, config_dir: Path) -> Self:
        """Return the schema extended by the platforms of this configuration directory."""
        return dataclasses.replace(self, config_dir=config_dir)

    def keys_for(self, value: Any) -> dict[Any, Any]:
        """Return the keys of a valid section with their validators: `platform`, shared, its own."""
        name = (value or {}).get("platform", self.default)
        chosen = cv.Key("platform", default=self.default, reloadable=True)
        return {chosen: str, **self.keys, **self._platform(name).PLATFORM_SCHEMA}

    def names(self) -> tuple[str, ...]:
        """Return the built-in platforms and the owner's."""
        return (*_all_built_in(self._package), *self._custom())

    def own_keys(self, name: str) -> Mapping[Any, Any]:
        """Return the keys that a platform alone has; raises vol.Invalid if it can't be used."""
        keys: Mapping[Any, Any] = self._platform(name).PLATFORM_SCHEMA
        return keys

    def custom_file(self, name: object) -> Path | None:
        """Return the file of a platform of the owner's, None for a built-in one."""
        if not isinstance(name, str) or name in _all_built_in(self._package):
            return None
        return self._custom().get(name)

    def __call__(self, value: Any) -> Platform[Any]:
        """Validate the section; the owner's code is only run if its platform is chosen."""
        keys = {} if value is None else value
        if not isinstance(keys, dict):
            raise vol.Invalid("expected a dictionary")
        name = keys.get("platform", self.default)
        module = self._platform(name)
        check: Callable[[Any], dict[str, Any]] = cv.section(
            {**self.keys, **module.PLATFORM_SCHEMA, vol.Optional("platform"): str}, dict
        )
        try:
            options = check({key: given for key, given in keys.items() if key != "platform"})
        except vol.MultipleInvalid as error:
            raise vol.MultipleInvalid(
                [self._explained(each, name, module) for each in error.errors]
            ) from None
        names = {getattr(key, "field", str(key)) for key in self.keys}
        shared = {each: options.pop(each) for each in names}
        is_custom = module.__name__.startswith(f"{CUSTOM_COMPONENTS_DIR}.")
        path = Path(str(module.__file__)) if is_custom else None
        return Platform(name, functools.partial(_created, module, options), shared, path)

    def _explained(self, error: vol.Invalid, name: str, module: ModuleType) -> vol.Invalid:
        """Return the error, or for a key of another built-in platform whose it is."""
        key = str(error.path[0]) if error.path else ""
        if key in map(str, (*self.keys, *module.PLATFORM_SCHEMA)):
            return error
        for other in _all_built_in(self._package):
            found = _built_in(self._package, other)
            if found is not None and key in map(str, found.PLATFORM_SCHEMA):
                said = f"a key of platform: {other}, not of {name}; name the platform you want"
                return vol.Invalid(said, path=error.path)
        return error

    def _platform(self, name: object) -> ModuleType:
        module = _built_in(self._package, name)
        if module is not None:
            return module
        custom = self._custom()
        if isinstance(name, str) and name in custom:
            try:
                return _imported(custom[name], f"{CUSTOM_COMPONENTS_DIR}.{name}.{self.domain}")
            except ImportError as error:
                raise vol.Invalid(str(error), path=["platform"]) from error
        known = (*_all_built_in(self._package), *custom)
        hint = cv.did_you_mean(name, known)
        raise vol.Invalid(
            f"expected one of {', '.join(known)}, got {shown(name)}{hint}", path=["platform"]
        )

    def _custom(self) -> dict[str, Path]:
        """Return the files of the owner's platforms by name."""
        if self.config_dir is None:
            return {}
        files = (self.config_dir / CUSTOM_COMPONENTS_DIR).glob(f"*/{self.domain}.py")
        return {path.parent.name: path for path in sorted(files)}

    @property
    def _package(self) -> str:
        return f"swarm_hub.components.{self.domain}.{self.folder}".rstrip(".")


def platform_schema(
    domain: str, default: str, folder: str = "", keys: Mapping[Any, Any] | None = None
) -> PlatformSchema:
    """Return the CONFIG_SCHEMA of a component that consists of its platform, and `keys` beside."""
    return PlatformSchema(domain, default, folder, keys or {})


def _built_in(package: str, name: object) -> ModuleType | None:
    if not isinstance(name, str) or not name.isidentifier():
        return None
    try:
        module = importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        return None
    return None if _missing(module) else module


def _all_built_in(package: str) -> tuple[str, ...]:
    folders = list(importlib.import_module(package).__path__)
    names = (entry.name for entry in pkgutil.iter_modules(folders))
    return tuple(sorted(name for name in names if _built_in(package, name) is not None))


def _imported(path: Path, name: str) -> ModuleType:
    """Import an owner's platform; raises ImportError that says where in the file the fault is."""
    shown = _shown(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{shown}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their own module by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ImportError(_told(path, error)) from error
    if missing := _missing(module):
        raise ImportError(f"{shown}: has no {' and no '.join(missing)}")
    if not isinstance(module.PLATFORM_SCHEMA, dict):
        raise ImportError(f"{shown}: PLATFORM_SCHEMA must be a dictionary of keys and validators")
    return module


def _created(module: ModuleType, options: dict[str, Any]) -> Any:
    """Return what a platform makes; raises SetupError that says where in its file the fault is."""
    try:
        return module.create(**options)
    except Exception as error:
        raise SetupError(_told(Path(str(module.__file__)), error)) from error


def _told(path: Path, error: BaseException) -> str:
    from swarm_hub.util.blame import blamed, worded

    _, line = blamed(path, error) or (path, None)
    place = _shown(path) if line is None else f"{_shown(path)}:{line}"
    return f"{place}: {worded(error)}"


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _missing(module: ModuleType) -> list[str]:
    return [name for name in _ATTRIBUTES if not hasattr(module, name)]
