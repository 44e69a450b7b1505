"""Whether each key says what it is for, in which unit, since when, and whether it is reloaded."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import voluptuous as vol

from script.hubfest_tools.fault import Fault
from script.hubfest_tools.sources import mentions
from swarm_hub.helpers import config_validation as cv
from swarm_hub.reference import DescribedKey, DescribedSection

_MEASURED: Final = (cv.size, cv.duration, cv.positive_duration)
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")


def faults(section: DescribedSection, place: str) -> Iterator[Fault]:
    """Yield what keys of a section lack."""
    texts = f"{place}/keys.yaml"
    if not section.about:
        yield Fault(texts, f"{section.domain}: about: is missing, which says what the section does")
    for platform in section.platforms:
        if not platform.about:
            yield Fault(texts, f"{section.domain} {platform.name}: about: is missing")
    for path, key in section.all_keys:
        yield from _of_key(path, key, texts)
    for path in section.strays:
        yield Fault(texts, f"{section.domain} → {path}: there is no such key")


def without_reloader(section: DescribedSection, folder: Path, place: str) -> Iterator[Fault]:
    """Yield a fault if keys say that they can be reloaded and the component has no reloader."""
    if mentions(folder, "reloaders"):
        return
    named = [path for path, key in section.all_keys if key.reloadable]
    if named:
        yield Fault(
            f"{place}/__init__.py",
            f"{', '.join(named)}: reloadable, but nothing puts a Reloader into hub.reloaders",
        )


def _of_key(path: str, key: DescribedKey, texts: str) -> Iterator[Fault]:
    if not key.said.description:
        yield Fault(texts, f"{path}: description: is missing")
        return
    if not _VERSION.fullmatch(key.said.since):
        yield Fault(texts, f"{path}: since: must be a version such as 0.1.0")
    if not key.said.unit and _is_measured(key.validator):
        yield Fault(texts, f"{path}: unit: is missing: a size has B, a duration s")
    if not isinstance(key.reloadable, bool):
        yield Fault(texts.replace("keys.yaml", "__init__.py"), f"{path}: must be a cv.Key")


def _is_measured(validator: Any) -> bool:
    if isinstance(validator, vol.Any | vol.All):
        return any(map(_is_measured, validator.validators))
    inner = getattr(validator, "schema", None)
    stands_for_another = inner is not None and not isinstance(inner, vol.Schema)
    return validator in _MEASURED or (stands_for_another and _is_measured(inner))
