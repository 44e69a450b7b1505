"""`hub: packages:`: parts of a configuration in files of their own, merged into its sections.

Mappings are merged key by key and lists joined, the configuration's own entries first. What is
given twice is a problem that names both places, never a silent choice.
"""

from typing import Any

from swarm_hub.exceptions import ConfigProblem
from swarm_hub.util.yaml_loader import Place, YamlList, YamlMap


def merge(content: YamlMap, packages: YamlMap, problems: list[ConfigProblem]) -> YamlMap:
    """Return a configuration with packages merged into it, adding what they disagree about."""
    merged = _copy(content)
    for name, package in packages.items():
        path = ("hub", "packages", name)
        if isinstance(package, YamlMap):
            _merge_package(merged, package, problems)
        elif package is not None:
            said = "expected sections such as `gateway:`"
            problems.append(_problem(packages.places[name], path, said))
    return merged


def _merge_package(merged: YamlMap, package: YamlMap, problems: list[ConfigProblem]) -> None:
    for section, value in package.items():
        if section == "hub" and isinstance(value, YamlMap) and "packages" in value:
            place = value.places["packages"]
            said = "a package can't have packages; name them in the configuration"
            problems.append(_problem(place, ("hub", "packages"), said))
        else:
            _merge(merged, section, value, package.places[section], (section,), problems)


def _merge(
    into: YamlMap,
    key: str,
    value: Any,
    place: Place,
    path: tuple[str, ...],
    problems: list[ConfigProblem],
) -> None:
    present = into.get(key)
    if present is None:
        # A section with nothing below takes whatever a package gives it.
        if value is not None or key not in into:
            into.put(key, value, place)
    elif isinstance(present, YamlMap) and isinstance(value, YamlMap):
        joined = _copy(present)
        for each, inner in value.items():
            _merge(joined, each, inner, value.places[each], (*path, each), problems)
        into.put(key, joined, into.places[key])
    elif isinstance(present, YamlList) and isinstance(value, YamlList):
        both = YamlList()
        for part in (present, value):
            for each, at in zip(part, part.places, strict=True):
                both.put(each, at)
        into.put(key, both, into.places[key])
    elif value is not None:
        first = into.places[key]
        said = f"is given already in {first.file}:{first.line}; remove one of the two"
        problems.append(_problem(place, path, said))


def _copy(mapping: YamlMap) -> YamlMap:
    copy = YamlMap()
    for key, value in mapping.items():
        copy.put(key, value, mapping.places[key])
    return copy


def _problem(place: Place, path: tuple[str, ...], message: str) -> ConfigProblem:
    return ConfigProblem(place.file, place.line, " → ".join(path), message)
