"""What a configuration comes to: every value that counts, and where it is written or that it isn't.

A value that a schema turns into a number or text is given as that, so a size in bytes and a
duration in seconds. Secrets are left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import voluptuous as vol

from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.util.redaction import REDACTED, without_secrets
from swarm_hub.util.yaml_loader import Place, YamlList, YamlMap


@dataclass(frozen=True, slots=True)
class Value:
    """One of them; `written` is how the configuration, or the default, gives it.

    `place` is None for a default. `reloadable` says whether a running hub can take another.
    """

    path: tuple[str, ...]
    value: Any
    written: Any
    place: Place | None
    reloadable: bool = False


def values_of(
    domain: str, section: Any, schema: Callable[[Any], object], secrets: Collection[str]
) -> Iterator[Value]:
    """Yield the values of a valid section; `secrets` are texts that nobody else may see."""
    for each in secret_values_of(domain, section, schema):
        yield redacted(each, secrets)


def secret_values_of(domain: str, section: Any, schema: Callable[[Any], object]) -> Iterator[Value]:
    """Yield the values of a valid section with the secrets in them, to be compared only.

    Of a section that is a list each entry is a value.
    """
    if isinstance(section, YamlList):
        for index, (entry, place) in enumerate(zip(section, section.places, strict=True)):
            yield Value((domain, str(index)), entry, entry, place, reloadable=True)
        return
    written = section if isinstance(section, YamlMap) else YamlMap()
    yield from _values(written, section_keys(schema, section), (domain,))


def section_keys(schema: Callable[[Any], object], section: Any) -> Mapping[Any, Any]:
    """Return the keys of a valid section with their validators."""
    if isinstance(schema, PlatformSchema):
        return schema.keys_for(section)
    return keys_of(schema) or {}


def is_reloadable(key: Any) -> bool:
    """Whether a running hub can take another value for a key; it can't if nothing says so."""
    return bool(getattr(key, "reloadable", False))


def without_restart(new: YamlMap, running: YamlMap, schema: Callable[[Any], object]) -> YamlMap:
    """Return a new section but for the keys that need a restart, which are as they were."""
    merged = YamlMap()
    keys = {str(key): key for key in (*section_keys(schema, running), *section_keys(schema, new))}
    for name in dict.fromkeys((*new, *running)):
        source = new if is_reloadable(keys.get(name)) else running
        if name in source:
            merged.put(name, source[name], source.places[name])
    return merged


def _values(section: YamlMap, keys: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[Value]:
    for key, validator in keys.items():
        name = str(key)
        if name in section:
            value, place = section[name], section.places[name]
        elif isinstance(getattr(key, "default", vol.UNDEFINED), vol.Undefined):
            continue
        else:
            value, place = key.default(), None
        inner = keys_of(validator)
        if inner is not None and isinstance(value, YamlMap):
            yield from _values(value, inner, (*path, name))
        else:
            plain = _plain(value, validator)
            yield Value((*path, name), plain, value, place, is_reloadable(key))
    # What a component of the owner's takes without naming it.
    known = {str(key) for key in keys}
    for name in section:
        if name not in known:
            yield Value((*path, name), section[name], section[name], section.places[name])


def keys_of(validator: Any) -> Mapping[Any, Any] | None:
    """Return the keys of a section's validator, None for that of a value."""
    # Once voluptuous has compiled one of its own, their `schema` is the section around them.
    is_own = isinstance(validator, vol.Any | vol.All)
    schema = validator if is_own else getattr(validator, "schema", None)
    if isinstance(schema, vol.Schema) and isinstance(schema.schema, dict):
        return dict(schema.schema)
    if isinstance(schema, vol.Any):
        return next(filter(None, map(keys_of, schema.validators)), None)
    return None


def _plain(value: Any, validator: Any) -> Any:
    """Return what a value counts as, if that is a number or text, else the value itself."""
    try:
        counts = vol.Schema(validator)(value)
    except vol.Invalid:
        # Only the whole section says what is wrong with it, and it said nothing.
        return value
    if isinstance(counts, float) and counts.is_integer():
        return int(counts)
    return counts if isinstance(counts, bool | int | float | str) else value


def redacted(each: Value, secrets: Collection[str]) -> Value:
    """Return a value as others may see it."""
    if each.place is not None and each.place.tag.startswith("!secret"):
        return replace(each, value=REDACTED, written=REDACTED)
    value = without_secrets(each.value, secrets, each.path[-1])
    written = without_secrets(each.written, secrets, each.path[-1])
    return replace(each, value=value, written=written)
