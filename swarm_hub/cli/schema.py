"""`swarm-hub schema`: what an editor needs to complete and check `configuration.yaml`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.directory import BUILT_IN_SCHEMA
from swarm_hub.cli.options import config_option, echo, json_option, note
from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.exceptions import ComponentImportError, SetupError
from swarm_hub.loader import ComponentIndex
from swarm_hub.reference import DescribedSection, section_of
from swarm_hub.reference.json_schema import as_text, with_sections, without_keys


@click.command("schema")
@config_option
@json_option
def schema(config_dir: Path, as_json: bool) -> None:
    """Print the JSON Schema of configuration.yaml, for editors.

    It has the custom components and platforms of the directory too, whose code is imported for
    that, as by `check`. `swarm-hub init` writes it beside a new configuration, which names it in
    its first line; write it anew after an upgrade:

    \b
    swarm-hub schema -c DIR > DIR/.storage/configuration.schema.json
    """
    found = of_directory(config_dir)
    # It is JSON in any case: on one line for programs, on many for people.
    echo(json.dumps(found, ensure_ascii=False) if as_json else as_text(found).rstrip("\n"))


def of_directory(config_dir: Path) -> dict[str, Any]:
    """Return the schema for the configuration of a directory."""
    base: dict[str, Any] = json.loads(BUILT_IN_SCHEMA.read_bytes())
    if not (config_dir / CUSTOM_COMPONENTS_DIR).is_dir():
        return base
    failed: list[str] = []
    found = list(_custom(config_dir, failed))
    return with_sections(without_keys(base, failed), found)


def _custom(config_dir: Path, failed: list[str]) -> Iterator[DescribedSection]:
    """Yield the sections that the owner's code changes; of what fails nothing is known."""
    index = ComponentIndex(config_dir)
    for domain in index.domains():
        try:
            manifest = index.manifest(domain)
            if manifest is None or not (manifest.custom or _extends(config_dir, domain)):
                continue
            yield section_of(manifest, manifest.import_component(), config_dir)
        except (ComponentImportError, SetupError) as error:
            place = getattr(error, "file", None) or domain
            note(f"{place}: {error}; whatever its section has is taken for right")
            failed.append(domain)


def _extends(config_dir: Path, domain: str) -> bool:
    """Whether a component of the owner's brings a platform of a built-in one."""
    return any((config_dir / CUSTOM_COMPONENTS_DIR).glob(f"*/{domain}.py"))
