"""What a component of the owner's needs of other packages, and how to get it."""

import shlex
import sys
from importlib import metadata


def unmet(requirement: str) -> str | None:
    """Return what is wrong with a requirement (PEP 508) here and what to do, None if nothing is."""
    # Few hubs have components that need anything.
    from packaging.requirements import InvalidRequirement, Requirement

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
        return f"needs {requirement}, which is not installed: {_command(requirement)}"
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"needs {requirement}, and {version} is installed: {_command(requirement)}"


def _command(requirement: str) -> str:
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(requirement)}"
