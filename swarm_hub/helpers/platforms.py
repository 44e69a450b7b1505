"""Platforms: exchangeable strategies inside a component, chosen by `platform:`.

A platform is a module `components/<domain>/<platform>.py` with a `PLATFORM_SCHEMA` (its keys)
and `create(**keys)`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

import voluptuous as vol

from swarm_hub.helpers import config_validation as cv

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Platform(Generic[_T]):
    """A chosen platform with its validated keys."""

    name: str
    create: Callable[[], _T]


def platform_schema(domain: str, default: str) -> Callable[[Any], Platform[Any]]:
    """Return the CONFIG_SCHEMA of a component that is nothing but its platform."""
    package = f"swarm_hub.components.{domain}"

    def validate(value: Any) -> Platform[Any]:
        keys = {} if value is None else value
        if not isinstance(keys, dict):
            raise vol.Invalid("expected a dictionary")
        name = keys.get("platform", default)
        module = _platform(package, name)
        if module is None:
            known = _platforms(package)
            hint = cv.did_you_mean(str(name), known)
            raise vol.Invalid(
                f"expected one of {', '.join(known)}, got {name!r}{hint}", path=["platform"]
            )
        check: Callable[[Any], dict[str, Any]] = cv.section(
            {**module.PLATFORM_SCHEMA, vol.Optional("platform"): str}, dict
        )
        options = check({key: given for key, given in keys.items() if key != "platform"})
        return Platform(name, lambda: module.create(**options))

    return validate


def _platform(package: str, name: object) -> ModuleType | None:
    if not isinstance(name, str) or not name.isidentifier():
        return None
    try:
        module = importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError:
        return None
    is_platform = hasattr(module, "PLATFORM_SCHEMA") and hasattr(module, "create")
    return module if is_platform else None


def _platforms(package: str) -> tuple[str, ...]:
    names = (entry.name for entry in pkgutil.iter_modules(_folders(package)))
    return tuple(sorted(name for name in names if _platform(package, name) is not None))


def _folders(package: str) -> list[str]:
    return list(importlib.import_module(package).__path__)
