"""The runtimes that this hub has: found in packages, in files of the owner's, or added."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from swarm_hub.components.runtimes import Source
from swarm_hub.components.runtimes.languages import LANGUAGES, Language
from swarm_hub.exceptions import HubError, InvalidSpec
from swarm_hub.util.files import write_atomic
from swarm_hub.util.hashing import SHA256_HEX, sha256_hex

_LOGGER = logging.getLogger(__name__)

_ADDED_FILE: Final = "runtimes.json"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A module that interprets programs of a language, by the hash that its file has to have."""

    language: Language
    sha: str
    size_bytes: int
    path: Path
    # What tells people where it is from.
    origin: str

    @property
    def name(self) -> str:
        """The name by which jobs ask for it."""
        return self.language.name

    async def read(self) -> bytes:
        """Return the module; raises HubError if its file is not what it was."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes:
        body = self.path.read_bytes()
        if sha256_hex(body) != self.sha:
            raise HubError(
                f"{self.path} has changed since this hub started, or its package is not the one "
                f"with the SHA-256 {self.sha}: install or add it again, then start the hub again"
            )
        return body


def how_to_get(language: Language) -> str:
    """Say how a hub gets a runtime."""
    return f"on the gateway: pip install '{language.extra}', and start it again"


def find(
    name: str, source: Source | bool, added: Mapping[str, Any], config_dir: Path
) -> Runtime | None:
    """Return a runtime, None where nothing has it; raises HubError for a file that is not it.

    What the configuration says comes first, then what was added, then the package.
    """
    language = LANGUAGES[name]
    if source is False:
        raise HubError(f"it is switched off (runtimes: {name}: false)")
    if language.path is not None:
        return _checked(language, language.path, language.sha256, str(language.path))
    package, sha = language.package, language.sha256
    if isinstance(source, Source):
        if source.path is not None:
            path = config_dir / source.path
            return _checked(language, path, source.sha256, str(path))
        package, sha = source.package or package, source.sha256 or sha
    elif name in added:
        path = Path(added[name]["path"])
        return _checked(language, path, added[name]["sha256"], str(path))
    found = _in_package(package, language.file if package == language.package else None)
    if found is None:
        if isinstance(source, Source):
            raise HubError(f"the package {package} is not installed: pip install {package}")
        return None
    origin = f"{package} {metadata.version(package)}"
    if sha is not None:
        # Nobody but pip writes it, and hashing it would take longer than the rest of the start of
        # this component: it is checked when it is read.
        return Runtime(language, sha, found.stat().st_size, found, origin)
    return _checked(language, found, sha, origin)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_added(storage: Path) -> dict[str, Any]:
    """Return what `swarm-hub runtime add` noted: language → path and hash."""
    try:
        plain = json.loads((storage / _ADDED_FILE).read_bytes())
        if not isinstance(plain, dict):
            raise ValueError("it is not an object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HubError(f"{storage / _ADDED_FILE} can't be read: {error}") from None
    return {
        name: each
        for name, each in plain.items()
        if name in LANGUAGES
        and isinstance(each, dict)
        and isinstance(each.get("path"), str)
        and SHA256_HEX.match(str(each.get("sha256")))
    }


def write_added(storage: Path, added: Mapping[str, Any]) -> None:
    """Note what was added."""
    write_atomic(storage / _ADDED_FILE, json.dumps(added, indent=2).encode(), mode=0o600)


def _checked(language: Language, path: Path, sha: str | None, origin: str) -> Runtime:
    try:
        found, size_bytes = hash_of(path), path.stat().st_size
    except OSError as error:
        raise HubError(f"the {language.name} runtime {path} can't be read: {error}") from None
    if sha is not None and found != sha:
        raise HubError(
            f"the {language.name} runtime {path} has the SHA-256 {found}, expected {sha}; "
            "install or add it again"
        )
    return Runtime(language, found, size_bytes, path, origin)


def _in_package(package: str, file: str | None) -> Path | None:
    """Return the module in an installed package: that file, or the only `.wasm` there is."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    modules = [each for each in files if str(each) == file or (not file and each.suffix == ".wasm")]
    if len(modules) != 1:
        raise HubError(
            f"the package {package} has {len(modules)} modules, expected one; give path:"
        )
    return Path(str(modules[0].locate()))


class Catalog:
    """The runtimes that a gateway offers; those of `sources` are what the configuration says."""

    def __init__(self, sources: Mapping[str, Source | bool]) -> None:
        self._sources = sources
        self._runtimes: dict[str, Runtime] = {}
        self._problems: dict[str, str] = {}

    def load(self, storage: Path, config_dir: Path) -> None:
        """Find all of them; what can't be used is told in the log, and by `get`."""
        try:
            added = read_added(storage)
        except HubError as error:
            _LOGGER.warning("%s", error)
            added = {}
        for name in LANGUAGES:
            try:
                found = find(name, self._sources.get(name, True), added, config_dir)
            except HubError as error:
                if self._sources.get(name) is not False:
                    _LOGGER.warning("There is no runtime %s: %s", name, error)
                self._problems[name] = str(error)
            else:
                if found is not None:
                    self._runtimes[name] = found

    def all(self) -> tuple[Runtime, ...]:
        """Return the runtimes that there are."""
        return tuple(self._runtimes.values())

    def by_sha(self, sha: str) -> Runtime | None:
        """Return the runtime of that hash."""
        return next((each for each in self._runtimes.values() if each.sha == sha), None)

    def get(self, name: str) -> Runtime:
        """Return a runtime; raises InvalidSpec that says how to get it."""
        if (found := self._runtimes.get(name)) is not None:
            return found
        if name not in LANGUAGES:
            known = ", ".join(LANGUAGES)
            raise InvalidSpec("no_runtime", f"there is no runtime {name!r}; known: {known}")
        problem = self._problems.get(name)
        if problem is not None:
            raise InvalidSpec("no_runtime", f"this gateway has no {name} runtime: {problem}")
        raise InvalidSpec(
            "no_runtime", f"this gateway has no {name} runtime; {how_to_get(LANGUAGES[name])}"
        )

    def offer(self) -> dict[str, dict[str, Any]]:
        """Return what workers are told: language → hash, size and the memory that it takes."""
        return {
            each.name: {
                "sha": each.sha,
                "size_bytes": each.size_bytes,
                "memory_bytes": each.language.memory_bytes,
            }
            for each in self._runtimes.values()
        }
