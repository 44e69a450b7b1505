"""`script/hubfest [PATH…]`: holds components to their manifests, schemas, pages and imports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from script.docs_tools.__main__ import made_pages
from script.hubfest_tools import keys, manifests, pages, sources
from script.hubfest_tools.fault import Fault
from script.hubfest_tools.sources import ROOT
from swarm_hub.cli import run_command
from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.exceptions import ComponentImportError, SetupError
from swarm_hub.loader import ComponentIndex, Manifest, read_manifest
from swarm_hub.reference import core_sections, section_of

_BUILT_IN: Final = ROOT / "swarm_hub" / "components"
_PAGES: Final = ROOT / "docs" / "components"
_WITH_PLATFORMS: Final = ("gc", "scheduler", "sla")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", type=click.Path(exists=True, file_okay=False, path_type=Path), nargs=-1)
def hubfest(paths: tuple[Path, ...]) -> int:
    """Check the built-in components, or those of the owner in each PATH.

    PATH is a component's folder, or a hub's configuration directory with custom_components in it.
    Whatever is wrong is a line with its file; the exit code is then 1. The code of components is
    imported for that.
    """
    found = [fault for path in paths for fault in of_owner(path.resolve())]
    found += [] if paths else of_built_in()
    for fault in found:
        click.echo(str(fault))
    if not found:
        click.echo("No component has a fault")
    return 1 if found else 0


def of_built_in() -> Iterator[Fault]:
    """Yield what is wrong with the components of this repository."""
    index = ComponentIndex(Path("nowhere"))
    for domain in index.domains():
        yield from of_component(_BUILT_IN / domain, index, ROOT, custom=False)
    for section in core_sections():
        yield from keys.faults(section, "swarm_hub")
        page = _PAGES / f"{section.domain}.md"
        yield from pages.faults(section, page, _shown(page, ROOT))
    for path, text in made_pages(ROOT).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield Fault(_shown(path, ROOT), "is not what the code says: script/docs pages")


def of_owner(path: Path) -> Iterator[Fault]:
    """Yield what is wrong with components of an owner's: one, or all of a directory."""
    home = path / CUSTOM_COMPONENTS_DIR
    if (path / "manifest.json").is_file():
        folders, config_dir = [path], path.parents[1]
    elif home.is_dir():
        folders, config_dir = [each.parent for each in sorted(home.glob("*/manifest.json"))], path
    else:
        yield Fault(str(path), f"has neither a manifest.json nor {CUSTOM_COMPONENTS_DIR}/")
        return
    index = ComponentIndex(config_dir)
    for folder in folders:
        yield from of_component(folder, index, folder.parents[1], custom=True)
    if home.is_dir():
        yield from _of_platforms(index, config_dir)


def of_component(
    folder: Path, index: ComponentIndex, root: Path, *, custom: bool
) -> Iterator[Fault]:
    """Yield what is wrong with one component; files are named as they are below `root`."""
    place = _shown(folder, root)
    try:
        manifest = read_manifest(folder, custom=custom)
    except SetupError as error:
        yield manifests.unreadable(folder, place, error)
        return
    yield from manifests.faults(manifest, index, place)
    yield from of_imports(manifest, root)
    try:
        section = section_of(manifest, manifest.import_component())
    except ComponentImportError as error:
        yield Fault(error.file or place, str(error))
        return
    except (SetupError, AttributeError) as error:
        yield Fault(place, str(error))
        return
    yield from keys.faults(section, place)
    yield from keys.without_reloader(section, folder, place)
    if not custom:
        page = _PAGES / f"{manifest.domain}.md"
        yield from pages.faults(section, page, _shown(page, ROOT))


def of_imports(manifest: Manifest, root: Path) -> Iterator[Fault]:
    """Yield what a component uses that its manifest does not list, or that none may use."""
    folder = manifest.folder
    allowed = {*manifest.dependencies, *manifest.after_dependencies}
    for path, line, module in sources.foreign_imports(folder, manifest.domain, allowed, root):
        yield Fault(
            f"{_shown(path, root)}:{line}",
            f"imports {module}; a component may import the package root of those that its manifest "
            "lists",
        )
    for path, line, name in sources.forbidden_uses(folder):
        yield Fault(f"{_shown(path, root)}:{line}", f"uses {name}, which no component may")


def _of_platforms(index: ComponentIndex, config_dir: Path) -> Iterator[Fault]:
    """Yield what is wrong with the platforms that an owner brings."""
    for domain in _WITH_PLATFORMS:
        names = {
            each.parent.name for each in (config_dir / CUSTOM_COMPONENTS_DIR).glob(f"*/{domain}.py")
        }
        manifest = index.manifest(domain)
        if not names or manifest is None:
            continue
        try:
            section = section_of(manifest, manifest.import_component(), config_dir)
        except SetupError as error:
            yield Fault(f"{CUSTOM_COMPONENTS_DIR}/*/{domain}.py", str(error))
            continue
        for fault in keys.faults(section, CUSTOM_COMPONENTS_DIR):
            if any(fault.message.startswith(f"{domain} {name}") for name in names):
                yield fault


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


if __name__ == "__main__":
    run_command(hubfest, prog_name="script/hubfest")
