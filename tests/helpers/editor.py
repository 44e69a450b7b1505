"""What an editor makes of a configuration with the JSON Schema of `swarm-hub schema`."""

import json
from typing import Any

import jsonschema_rs
import yaml

from swarm_hub.cli.directory import BUILT_IN_SCHEMA


class _Loader(yaml.SafeLoader):
    """Reads what stands behind a tag as the text that it is, as editors do; dates are texts too."""


def _text(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    assert isinstance(node, yaml.ScalarNode)
    return str(loader.construct_scalar(node))


def _date(loader: _Loader, node: yaml.Node) -> Any:
    return _text(loader, "", node)


_Loader.add_multi_constructor("!", _text)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)


def built_in() -> dict[str, Any]:
    """Return the schema that comes with the package."""
    schema: dict[str, Any] = json.loads(BUILT_IN_SCHEMA.read_bytes())
    return schema


def faults(text: str, schema: dict[str, Any]) -> list[str]:
    """Return where an editor finds a fault, by the keys that lead there."""
    content = yaml.load(text, _Loader)
    found = jsonschema_rs.validator_for(schema).iter_errors(content)
    return sorted({" → ".join(map(str, each.instance_path)) for each in found})
