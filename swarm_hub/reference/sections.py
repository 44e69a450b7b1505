"""Sections with their keys: what the schemas say of them, and what `keys.yaml` adds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import voluptuous as vol

from swarm_hub.config import CORE_SCHEMAS, hub_schema
from swarm_hub.exceptions import SetupError
from swarm_hub.helpers.effective import keys_of
from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.loader import Manifest
from swarm_hub.reference.texts import KEYS_FILE, KeyText, Texts, read_texts, texts_of

NO_DEFAULT: Final = vol.UNDEFINED
_CORE_FILE: Final = Path(__file__).parents[1] / KEYS_FILE
_HUB_NAME: Final = "swarm-hub"


@dataclass(frozen=True, slots=True)
class DescribedKey:
    """A key: what its schema knows, what is said of it, and the keys below it."""

    name: str
    validator: Any
    default: Any
    reloadable: bool | None
    said: KeyText
    keys: "tuple[DescribedKey, ...]" = ()


@dataclass(frozen=True, slots=True)
class DescribedPlatform:
    """A platform of a section, with the keys that it alone has."""

    name: str
    about: str
    keys: tuple[DescribedKey, ...]


@dataclass(frozen=True, slots=True)
class DescribedSection:
    """A section; one that comes by itself `can_be_off`.

    `strays` are texts of keys that there are not.
    """

    domain: str
    about: str
    keys: tuple[DescribedKey, ...]
    platforms: tuple[DescribedPlatform, ...] = ()
    default_platform: str = ""
    can_be_off: bool = False
    is_list: bool = False
    example: str = ""
    strays: tuple[str, ...] = field(default=())

    @property
    def all_keys(self) -> Iterator[tuple[str, DescribedKey]]:
        """Yield every key with its path, those of platforms and those below others too."""
        yield from _walk(self.domain, self.keys)
        for each in self.platforms:
            yield from _walk(f"{self.domain} {each.name}", each.keys)


def core_sections() -> list[DescribedSection]:
    """Return the sections of the core."""
    content = read_texts(_CORE_FILE)
    schemas = {"hub": hub_schema(_HUB_NAME), **CORE_SCHEMAS}
    return [
        _section(domain, schema, texts_of(_CORE_FILE, content.get(domain)))
        for domain, schema in schemas.items()
    ]


def section_of(
    manifest: Manifest, component: ModuleType, config_dir: Path | None = None
) -> DescribedSection:
    """Return the section of a component that is imported, with the owner's platforms if any.

    Raises SetupError for texts that can't be read, and for a platform that can't be imported.
    """
    path = manifest.folder / KEYS_FILE
    texts = texts_of(path, read_texts(path))
    schema = component.CONFIG_SCHEMA
    can_be_off = bool(manifest.default_with)
    if isinstance(schema, PlatformSchema):
        return _of_platforms(schema if config_dir is None else schema.looking_in(config_dir), texts)
    return _section(manifest.domain, schema, texts, can_be_off=can_be_off)


def _section(
    domain: str, schema: Callable[[Any], object], texts: Texts, *, can_be_off: bool = False
) -> DescribedSection:
    keys = keys_of(schema) or {}
    return DescribedSection(
        domain,
        texts.about,
        tuple(_described(keys, texts.keys)),
        can_be_off=can_be_off,
        is_list=texts.is_list,
        example=texts.example,
        strays=tuple(_strays(keys, texts.keys)),
    )


def _of_platforms(schema: PlatformSchema, texts: Texts) -> DescribedSection:
    shared = {
        key: validator for key, validator in schema.keys_for(None).items()
        if str(key) == "platform" or key in schema.keys
    }  # fmt: skip
    platforms, strays = [], list(_strays(shared, texts.keys))
    for name in schema.names():
        try:
            keys = schema.own_keys(name)
        except vol.Invalid as error:
            raise SetupError(str(error)) from None
        said = texts.platforms.get(name)
        if (path := schema.custom_file(name)) is not None:
            beside = path.parent / KEYS_FILE
            said = texts_of(beside, read_texts(beside)).platforms.get(schema.domain)
        said = said or Texts()
        platforms.append(DescribedPlatform(name, said.about, tuple(_described(keys, said.keys))))
        strays += [f"{name} {each}" for each in _strays(keys, said.keys)]
    return DescribedSection(
        schema.domain,
        texts.about,
        tuple(_described(shared, texts.keys)),
        tuple(platforms),
        schema.default,
        strays=tuple(strays),
    )


def _described(
    keys: Mapping[Any, Any], texts: Mapping[str, KeyText], above: bool | None = None
) -> Iterator[DescribedKey]:
    """Yield keys with their texts; one that does not say whether it can be reloaded is `above`."""
    for key, validator in keys.items():
        name = str(getattr(key, "schema", key))
        said = texts.get(name, KeyText())
        default = getattr(key, "default", NO_DEFAULT)
        yield DescribedKey(
            name,
            validator,
            NO_DEFAULT if isinstance(default, vol.Undefined) else default(),
            reloadable := getattr(key, "reloadable", above),
            said,
            tuple(_described(keys_of(validator) or {}, said.keys, reloadable)),
        )


def _strays(keys: Mapping[Any, Any], texts: Mapping[str, KeyText]) -> Iterator[str]:
    known = {str(getattr(key, "schema", key)): validator for key, validator in keys.items()}
    for name, said in texts.items():
        if name not in known:
            yield name
        else:
            below = _strays(keys_of(known[name]) or {}, said.keys)
            yield from (f"{name} → {each}" for each in below)


def _walk(path: str, keys: tuple[DescribedKey, ...]) -> Iterator[tuple[str, DescribedKey]]:
    for each in keys:
        yield f"{path} → {each.name}", each
        yield from _walk(f"{path} → {each.name}", each.keys)
