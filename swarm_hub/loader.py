"""Finding components: their manifests are read before any of their code is imported."""

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import voluptuous as vol

from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.exceptions import ComponentImportError, SetupError
from swarm_hub.util.extras import what_to_install

_BUILT_IN: Final = Path(__file__).parent / "components"
_MANIFEST_MAX_BYTES: Final = 64 * 1024
_DOMAIN: Final = vol.Match(r"^[a-z][a-z0-9_]{0,40}\Z")
_MANIFEST_SCHEMA: Final = vol.Schema(
    {
        vol.Required("domain"): _DOMAIN,
        vol.Required("name"): str,
        vol.Required("documentation"): str,
        vol.Optional("version", default=""): str,
        vol.Optional("dependencies", default=list): [_DOMAIN],
        vol.Optional("after_dependencies", default=list): [_DOMAIN],
        vol.Optional("default_with", default=list): [_DOMAIN],
        vol.Optional("requirements", default=list): [str],
        vol.Optional("overrides", default=False): bool,
        vol.Optional("serves", default=list): [vol.Match(r"^/[a-z0-9_/-]{1,80}\Z")],
    }
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a component says about itself in `manifest.json`.

    `default_with` lists components beside which it is loaded without a section of its own, unless
    that says `false`. `serves` lists the API paths that need it, including all below them: a client
    that asks a hub without it is told so. A custom component of the name of a built-in one
    `overrides` it, or is an error: nobody replaces a part of the hub by accident.
    """

    domain: str
    name: str
    documentation: str
    version: str
    dependencies: tuple[str, ...]
    after_dependencies: tuple[str, ...]
    default_with: tuple[str, ...]
    requirements: tuple[str, ...]
    overrides: bool
    serves: tuple[str, ...]
    folder: Path
    custom: bool

    def import_component(self) -> ModuleType:
        """Import the component's package; raises ComponentImportError when that fails."""
        try:
            if not self.custom:
                return importlib.import_module(f"swarm_hub.components.{self.domain}")
            return _import_custom(self.domain, self.folder)
        except (Exception, SystemExit) as error:
            # Most components of all hubs have no faults.
            from swarm_hub.util.blame import blamed, worded

            said = what_to_install(error) or f"its code can't be imported: {worded(error)}"
            if not self.custom:
                raise ComponentImportError(said) from error
            # The fault may be in another component of the owner's that this one imports.
            custom = self.folder.parent
            path, line = blamed(custom, error) or (self.folder / "__init__.py", None)
            file = path.relative_to(custom.parent).as_posix()
            raise ComponentImportError(said, file, line) from error


class ComponentIndex:
    """The components this hub could load; in `safe_mode` those that are built in."""

    def __init__(self, config_dir: Path, *, safe_mode: bool = False) -> None:
        self.safe_mode = safe_mode
        self._custom = config_dir / CUSTOM_COMPONENTS_DIR
        self._manifests: dict[str, Manifest] = {}

    def domains(self) -> list[str]:
        """Return every domain that has a folder."""
        found = {path.parent.name for path in _BUILT_IN.glob("*/manifest.json")}
        if not self.safe_mode:
            found |= {path.parent.name for path in self._custom.glob("*/manifest.json")}
        return sorted(found)

    def leaves_out(self, domain: str) -> bool:
        """Whether safe mode is why this component of the owner's is not there."""
        return self.safe_mode and _has_manifest(self._custom / domain)

    def manifest(self, domain: str) -> Manifest | None:
        """Return a component's manifest, None for an unknown domain.

        Raises SetupError when there is one but it can't be used.
        """
        if domain not in self._manifests:
            custom, built_in = self._custom / domain, _BUILT_IN / domain
            if not self.safe_mode and _has_manifest(custom):
                found = read_manifest(custom, custom=True)
                if _has_manifest(built_in) and not found.overrides:
                    raise SetupError(
                        f"{CUSTOM_COMPONENTS_DIR}/{domain} has the name of a component that is "
                        f"built in, swarm_hub/components/{domain}; give it another one, or say "
                        '"overrides": true in its manifest.json to have it in that one\'s place'
                    )
                self._manifests[domain] = found
            elif _has_manifest(built_in):
                self._manifests[domain] = read_manifest(built_in, custom=False)
        return self._manifests.get(domain)

    def serving(self, path: str) -> str | None:
        """Return the component that a path of the API needs, None if none claims it."""
        for manifest in self._usable():
            if any(path == prefix or path.startswith(f"{prefix}/") for prefix in manifest.serves):
                return manifest.domain
        return None

    def beside(self, domains: set[str]) -> set[str]:
        """Return the components that are loaded where those and their dependencies are."""
        loaded = {manifest.domain for manifest in self.order(domains)}
        return {
            manifest.domain
            for manifest in self._usable()
            if manifest.default_with and loaded.issuperset(manifest.default_with)
        }

    def _usable(self) -> Iterator[Manifest]:
        """Yield every manifest that can be read; a broken one counts where it is asked for."""
        for domain in self.domains():
            with contextlib.suppress(SetupError):
                if (manifest := self.manifest(domain)) is not None:
                    yield manifest

    def order(self, domains: set[str]) -> list[Manifest]:
        """Return the manifests of `domains` and of all their dependencies, dependencies first.

        Raises SetupError for an unknown dependency or a cycle.
        """
        wanted: dict[str, Manifest] = {}
        queue = sorted(domains)
        while queue:
            domain = queue.pop()
            if domain in wanted:
                continue
            manifest = self.manifest(domain)
            if manifest is None:
                raise SetupError(f"{domain}: there is no such component")
            wanted[domain] = manifest
            queue.extend(manifest.dependencies)
        ordered: list[Manifest] = []
        for domain in sorted(wanted):
            self._visit(domain, wanted, ordered, ())
        return ordered

    def _visit(
        self,
        domain: str,
        wanted: dict[str, Manifest],
        ordered: list[Manifest],
        trail: tuple[str, ...],
    ) -> None:
        manifest = wanted[domain]
        if manifest in ordered:
            return
        if domain in trail:
            raise SetupError(f"components depend on each other in a circle: {' → '.join(trail)}")
        for before in (*manifest.dependencies, *manifest.after_dependencies):
            if before in wanted:
                self._visit(before, wanted, ordered, (*trail, domain))
        ordered.append(manifest)


def _has_manifest(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def read_manifest(folder: Path, *, custom: bool) -> Manifest:
    """Return the manifest of a component's folder; raises SetupError if it can't be used."""
    path = folder / "manifest.json"
    try:
        if path.stat().st_size > _MANIFEST_MAX_BYTES:
            raise SetupError(f"{path}: larger than 64 KiB")
        fields: dict[str, Any] = _MANIFEST_SCHEMA(json.loads(path.read_bytes()))
    except (OSError, ValueError, vol.Invalid) as error:
        raise SetupError(f"{path}: {error}") from error
    if fields["domain"] != folder.name:
        raise SetupError(f"{path}: domain must be the folder's name, {folder.name}")
    if custom and not fields["version"]:
        raise SetupError(f"{path}: a custom component needs a version")
    lists = ("dependencies", "after_dependencies", "default_with", "requirements", "serves")
    for key in lists:
        fields[key] = tuple(fields[key])
    return Manifest(folder=folder, custom=custom, **fields)


def _import_custom(domain: str, folder: Path) -> ModuleType:
    name = f"{CUSTOM_COMPONENTS_DIR}.{domain}"
    if CUSTOM_COMPONENTS_DIR not in sys.modules:
        package = ModuleType(CUSTOM_COMPONENTS_DIR)
        package.__path__ = []
        sys.modules[CUSTOM_COMPONENTS_DIR] = package
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} has no __init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
