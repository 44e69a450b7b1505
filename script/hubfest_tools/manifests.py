"""Whether manifests say what there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from script.hubfest_tools.fault import Fault
from script.hubfest_tools.sources import ROOT
from swarm_hub.exceptions import SetupError
from swarm_hub.loader import ComponentIndex, Manifest

_NOWHERE: Final = Path("nowhere")
_PYPROJECT: Final = ROOT / "pyproject.toml"


def faults(manifest: Manifest, index: ComponentIndex, place: str) -> Iterator[Fault]:
    """Yield what is wrong with a manifest that could be read."""
    place = f"{place}/manifest.json"
    for words in ("dependencies", "after_dependencies", "default_with"):
        for domain in getattr(manifest, words):
            if index.manifest(domain) is None and domain != manifest.domain:
                yield Fault(place, f"{words}: there is no component {domain}")
    try:
        index.order({manifest.domain, *manifest.dependencies, *manifest.after_dependencies})
    except SetupError as error:
        if "circle" in str(error):
            yield Fault(place, str(error))
    if manifest.overrides and ComponentIndex(_NOWHERE).manifest(manifest.domain) is None:
        yield Fault(place, "overrides: there is no built-in component of that name")
    yield from _of_documentation(manifest, place)
    yield from _of_requirements(manifest, place)
    yield from _of_paths(manifest, index, place)


def _of_documentation(manifest: Manifest, place: str) -> Iterator[Fault]:
    said = manifest.documentation
    if not manifest.custom:
        expected = f"docs/components/{manifest.domain}.md"
        if said != expected:
            yield Fault(place, f"documentation must be {expected}, not {said!r}")
        elif not (ROOT / said).is_file():
            yield Fault(place, f"documentation: {said} does not exist")
    elif not said.startswith("https://") and not (manifest.folder / said).is_file():
        yield Fault(
            place, f"documentation: {said!r} is no https:// address and no file of the component"
        )


def _of_requirements(manifest: Manifest, place: str) -> Iterator[Fault]:
    declared = _declared() if not manifest.custom else None
    for text in manifest.requirements:
        try:
            name = canonicalize_name(Requirement(text).name)
        except InvalidRequirement as error:
            said = str(error).partition("\n")[0]
            yield Fault(place, f"requirements: {text!r} is none, see PEP 508: {said}")
            continue
        if declared is not None and name not in declared:
            yield Fault(place, f"requirements: {text} is not among those of pyproject.toml")


def _of_paths(manifest: Manifest, index: ComponentIndex, place: str) -> Iterator[Fault]:
    for path in manifest.serves:
        owner = index.serving(path)
        if owner != manifest.domain and index.manifest(manifest.domain) == manifest:
            yield Fault(place, f"serves: {path} is claimed by {owner} already")


def _declared() -> set[str]:
    import tomllib

    project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = (each for texts in project["optional-dependencies"].values() for each in texts)
    return {
        canonicalize_name(Requirement(text).name) for text in (*project["dependencies"], *extras)
    }


def unreadable(folder: Path, place: str, error: SetupError) -> Fault:
    """Return the fault of a manifest that can't be read."""
    said = str(error).removeprefix(f"{folder / 'manifest.json'}: ")
    return Fault(f"{place}/manifest.json", said)
