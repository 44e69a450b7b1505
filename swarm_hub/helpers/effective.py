"""What a configuration comes to: every value that counts, and where it is written or that it isn't.

A value that a schema turns into a number or text is given as that, so a size in bytes and a
duration in seconds. Secrets are left out.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import voluptuous as vol

from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.util.redaction import REDACTED, without_secrets
from swarm_hub.util.yaml_loader import Place, YamlMap


@dataclass(frozen=True, slots=True)
class Value:
    """One of them; `written` is how the configuration, or the default, gives it.

    `place` is None for a default.
    """

    path: tuple[str, ...]
    value: Any
    written: Any
    place: Place | None


def values_of(
    domain: str, section: Any, schema: Callable[[Any], object], secrets: Collection[str]
) -> Iterator[Value]:
    """Yield the values of a valid section; `secrets` are texts that nobody else may see."""
    if isinstance(schema, PlatformSchema):
        keys: Mapping[Any, Any] | None = schema.keys_for(section)
    else:
        keys = _keys_of(schema)
    written = section if isinstance(section, YamlMap) else YamlMap()
    for each in _values(written, keys or {}, (domain,)):
        yield _redacted(each, secrets)


def _values(section: YamlMap, keys: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[Value]:
    for key, validator in keys.items():
        name = str(key)
        if name in section:
            value, place = section[name], section.places[name]
        elif isinstance(getattr(key, "default", vol.UNDEFINED), vol.Undefined):
            continue
        else:
            value, place = key.default(), None
        inner = _keys_of(validator)
        if inner is not None and isinstance(value, YamlMap):
            yield from _values(value, inner, (*path, name))
        else:
            yield Value((*path, name), _plain(value, validator), value, place)
    # What a component of the owner's takes without naming it.
    known = {str(key) for key in keys}
    for name in section:
        if name not in known:
            yield Value((*path, name), section[name], section[name], section.places[name])


def _keys_of(validator: Any) -> Mapping[Any, Any] | None:
    """Return the keys of a section's validator, None for that of a value."""
    schema = getattr(validator, "schema", None)
    if isinstance(schema, vol.Schema) and isinstance(schema.schema, dict):
        return dict(schema.schema)
    if isinstance(schema, vol.Any):
        return next(filter(None, map(_keys_of, schema.validators)), None)
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


def _redacted(each: Value, secrets: Collection[str]) -> Value:
    if each.place is not None and each.place.tag.startswith("!secret"):
        return Value(each.path, REDACTED, REDACTED, each.place)
    value = without_secrets(each.value, secrets, each.path[-1])
    written = without_secrets(each.written, secrets, each.path[-1])
    return Value(each.path, value, written, each.place)
