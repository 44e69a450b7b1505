"""What a component of the owner's needs of other packages, and how to get it."""

import re
import shlex
import sys
from importlib import metadata
from typing import Final

_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]{0,100})", re.ASCII)


def unmet(requirement: str) -> str | None:
    """Return what is wrong with a requirement (PEP 508) here and what to do, None if nothing is."""
    # Few hubs have components that need anything. A phone has no `packaging`, which elsewhere comes
    # with libp2p: there names are looked for, and versions are not.
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ModuleNotFoundError:
        return _not_installed(requirement)
    try:
        wanted = Requirement(requirement)
    except InvalidRequirement as error:
        said = str(error).partition("\n")[0]
        return f"requirements: {requirement!r} can't be read ({said}); write it as for pip"
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return _how_to_get(requirement, "which is not installed")
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return _how_to_get(requirement, f"and {version} is installed")


def _not_installed(requirement: str) -> str | None:
    # What only another system needs can't be told from the rest.
    if ";" in requirement or (name := _NAME.match(requirement)) is None:
        return None
    try:
        metadata.version(name[1])
    except metadata.PackageNotFoundError:
        return _how_to_get(requirement, "which is not installed")
    return None


def _how_to_get(requirement: str, why: str) -> str:
    command = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(requirement)}"
    return f"needs {requirement}, {why}: {command}"
