"""What `check` tells besides problems: every value, every file, and what each component costs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from swarm_hub.config import CORE_SCHEMAS, Configuration, hub_schema
from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.control.client import ask
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.effective import Value, values_of
from swarm_hub.plan import Plan
from swarm_hub.util.yaml_text import flow


def values(configuration: Configuration, planned: Plan) -> list[Value]:
    """Return every value that counts, section by section."""
    sections = configuration.sections
    schemas: dict[str, Callable[[Any], object]] = {
        "hub": hub_schema(configuration.hub.name),
        **CORE_SCHEMAS,
    }
    schemas |= {each.manifest.domain: each.schema for each in planned.components}
    return [
        value
        for domain, schema in schemas.items()
        for value in values_of(domain, sections.get(domain), schema, configuration.secrets)
        # What they have is in the sections.
        if value.path != ("hub", "packages")
    ]


def as_yaml(found: list[Value]) -> Iterator[str]:
    """Yield the lines of a file that configures the same, each value with its place."""
    shown: tuple[str, ...] = ()
    for each in found:
        *above, name = each.path
        common = next(
            (n for n, (a, b) in enumerate(zip(shown, above, strict=False)) if a != b),
            min(len(shown), len(above)),
        )
        for depth in range(common, len(above)):
            yield f"{'  ' * depth}{above[depth]}:"
        shown = tuple(above)
        place = "default" if each.place is None else f"{each.place.file}:{each.place.line}"
        if each.written != each.value:
            place += f", {flow(each.written)}"
        if each.place is not None and each.place.tag:
            place += f", {each.place.tag}"
        yield f"{'  ' * len(above)}{name}: {flow(each.value)}  # {place}"


def as_json(found: list[Value]) -> list[dict[str, Any]]:
    """Return the values as JSON has them; those of defaults have no file."""
    return [
        {
            "path": " → ".join(each.path),
            "value": each.value,
            "written": each.written,
            "file": None if each.place is None else each.place.file,
            "line": None if each.place is None else each.place.line,
            "tag": None if each.place is None else each.place.tag or None,
        }
        for each in found
    ]


def files(configuration: Configuration) -> list[str]:
    """Return every file that was read: YAML, and the code of the owner's components."""
    custom = configuration.directory / CUSTOM_COMPONENTS_DIR
    modules = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    code = {Path(path) for path in modules if path is not None}
    found = {path for path in code if path.is_relative_to(custom)}
    found |= {path.parent / "manifest.json" for path in found if path.name == "__init__.py"}
    there = sorted(
        path.relative_to(configuration.directory).as_posix() for path in found if path.is_file()
    )
    return [*configuration.files, *there]


def timing(configuration: Configuration, planned: Plan) -> list[dict[str, Any]]:
    """Return how long each component took: its import now, its set-up in the hub that runs here."""
    try:
        took = ask(configuration.directory, "status").get("set_up_s", {})
    except HubError:
        took = {}
    return [
        {
            "component": each.manifest.domain,
            "import_s": round(each.import_s, 4),
            "set_up_s": took.get(each.manifest.domain),
        }
        for each in planned.components
    ]


def timing_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of these times, if there are any."""
    if not found:
        return
    yield f"{'component':12} {'import':>9} {'set-up':>9}"
    for each in found:
        took = each["set_up_s"]
        set_up = "-" if took is None else f"{took * 1000:.1f} ms"
        yield f"{each['component']:12} {each['import_s'] * 1000:6.1f} ms {set_up:>9}"
    if all(each["set_up_s"] is None for each in found):
        yield "No hub runs on this directory that could say how long set-up took."
