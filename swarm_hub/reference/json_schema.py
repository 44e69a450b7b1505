"""The JSON Schema of a configuration, with which editors complete, explain and check it.

It accepts whatever `check` accepts: what a tag such as `!secret` stands for is the editor's a text,
so a text that can't be mistaken for a value stands for any. It is draft 7, which editors know.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

import voluptuous as vol

from swarm_hub.helpers.effective import keys_of
from swarm_hub.reference.kinds import Schema, json_schema
from swarm_hub.reference.sections import NO_DEFAULT, DescribedKey, DescribedSection

_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_SEE: Final = re.compile(rf"[,;]? see {_LINK.pattern}| \((?:see )?{_LINK.pattern}\)")
# `!env_var`, `!secret` and `!include` leave a text. Words that mean yes or no are none of theirs,
# and a number in quotes neither.
_TAGGED: Final = {
    "type": "string",
    "pattern": "^[A-Za-z_./]",
    "not": {"pattern": "^([Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff]|[Tt]rue|[Ff]alse)$"},
}
# Where a few words are known, a text that may be a misspelt one of them is not taken for a tag's.
_TAGGED_WORD: Final = {"type": "string", "pattern": "[A-Z_./ ]"}
_ANY_TAG: Final = {"$ref": "#/definitions/tagged"}


def document(sections: Iterable[DescribedSection]) -> Schema:
    """Return the schema of `configuration.yaml`."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "swarm_hub: configuration.yaml",
        "type": "object",
        "properties": {each.domain: section_schema(each) for each in sections},
        "additionalProperties": False,
        "definitions": {"tagged": _TAGGED, "tagged_word": _TAGGED_WORD},
    }


def as_text(schema: Schema) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def with_sections(base: Schema, sections: Iterable[DescribedSection]) -> Schema:
    """Return a schema with further sections, or others in the place of its own."""
    found = {each.domain: section_schema(each) for each in sections}
    return {**base, "properties": {**base["properties"], **found}}


def without_keys(base: Schema, domains: Iterable[str]) -> Schema:
    """Return a schema with sections of which nothing is known but that they may be there."""
    return {**base, "properties": {**base["properties"], **{domain: {} for domain in domains}}}


def section_schema(section: DescribedSection) -> Schema:
    """Return the schema of one section."""
    keys = [*section.keys, *(key for each in section.platforms for key in each.keys)]
    schema: Schema = {"type": "array"} if section.is_list else _mapping(keys)
    if section.platforms:
        names = [each.name for each in section.platforms]
        chosen = schema["properties"]["platform"]
        chosen["anyOf"] = [{"enum": names}, {"$ref": "#/definitions/tagged_word"}]
        shared = [each.name for each in section.keys]
        schema["allOf"] = [
            {
                "if": _chooses(each.name, section.default_platform),
                "then": {"propertyNames": {"enum": [*shared, *(key.name for key in each.keys)]}},
            }
            for each in section.platforms
        ]
    others: list[Schema] = [{"type": "null"}, _ANY_TAG]
    if section.can_be_off:
        others.append({"const": False})
    return {"description": plain(section.about), "anyOf": [schema, *others]}


def plain(text: str) -> str:
    """Return a description without the links of its page."""
    return _LINK.sub(r"\1", _SEE.sub("", text))


def _chooses(name: str, default: str) -> Schema:
    named: Schema = {"required": ["platform"], "properties": {"platform": {"const": name}}}
    return {"anyOf": [named, {"not": {"required": ["platform"]}}]} if name == default else named


def _mapping(keys: Iterable[DescribedKey]) -> Schema:
    properties: dict[str, Schema] = {}
    for key in keys:
        found = _of_key(key)
        before = properties.get(key.name)
        # Two platforms may have a key of one name; which of them is meant `allOf` can't say here.
        properties[key.name] = found if before is None else {"anyOf": [before, found]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _of_key(key: DescribedKey) -> Schema:
    told: Schema = {"description": _description(key)}
    if key.default is not NO_DEFAULT and not key.said.default:
        told["default"] = key.default
    if key.name == "packages":
        return {**told, "anyOf": [{"type": "object", "additionalProperties": _PACKAGE}, _ANY_TAG]}
    found = _below(key) if key.keys else json_schema(key.validator)
    return {**told, **_tolerant(found)}


_PACKAGE: Final = {"anyOf": [{"$ref": "#"}, {"type": "null"}, _ANY_TAG]}


def _below(key: DescribedKey) -> Schema:
    """Return the schema of a key that has keys below it, or another value in their place."""
    stands_for = getattr(key.validator, "schema", None)
    parts = stands_for.validators if isinstance(stands_for, vol.Any) else ()
    others = [json_schema(each) for each in parts if keys_of(each) is None]
    return {"anyOf": [_mapping(key.keys), *others, {"type": "null"}]}


def _tolerant(schema: Schema) -> Schema:
    """Return a schema that takes what a tag leaves in an editor, too."""
    if not schema:
        return schema
    if schema.get("type") == "string" and "enum" not in schema:
        # A pattern is kept for what it tells, and does not count for tags.
        return schema if "pattern" not in schema else {"anyOf": [schema, _ANY_TAG]}
    if schema.get("type") == "array":
        items = _tolerant(schema["items"])
        return {"anyOf": [{"type": "array", "items": items}, _ANY_TAG]}
    kinds = [schema, *schema.get("anyOf", ())]
    said = [word for each in kinds for word in (*each.get("enum", ()), each.get("const"))]
    words = any(isinstance(each, str) for each in said)
    numbers = any(each.get("type") in ("integer", "number") for each in kinds)
    tag = {"$ref": "#/definitions/tagged_word"} if words and not numbers else _ANY_TAG
    return {"anyOf": [*schema.get("anyOf", [schema]), tag]}


def _description(key: DescribedKey) -> str:
    text = plain(key.said.description)
    said = [f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"] if text else []
    if key.said.unit:
        said.append(f"Unit: {key.said.unit}.")
    if key.said.default:
        said.append(f"Default: {key.said.default}.")
    said.append("Can be reloaded." if key.reloadable else "Needs a restart.")
    return " ".join(said)
