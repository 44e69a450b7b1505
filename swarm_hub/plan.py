"""From sections to components that can be set up: manifests, order, code, validated values."""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from swarm_hub import config
from swarm_hub.config import (
    CORE_SECTIONS,
    LOGGER_SCHEMA,
    STORAGE_SCHEMA,
    Configuration,
    HubConfig,
)
from swarm_hub.const import CONFIG_FILE, STORAGE_DIR
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    ComponentImportError,
    ConfigError,
    ConfigProblem,
    SetupError,
)
from swarm_hub.helpers.config_validation import did_you_mean
from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.loader import ComponentIndex, Manifest
from swarm_hub.util.yaml_loader import YamlMap

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle, Site

# With how long the import took.
_Imported = tuple[Manifest, ModuleType, float]

# A hub that can't play its role stops with exit code 1; other components may fail alone.
_ROLES: Final = ("gateway", "worker")


@dataclass(frozen=True, slots=True)
class Planned:
    """A component ready to be set up: imported, its configuration validated."""

    manifest: Manifest
    config: object
    async_setup: Callable[[Hub, Any], Awaitable[bool]]
    schema: Callable[[Any], object]
    preflight: "Callable[[Site, Any], Iterable[Obstacle]] | None"
    import_s: float


@dataclass(frozen=True, slots=True)
class Lacking:
    """A component that can't be imported, and why."""

    manifest: Manifest
    problem: ConfigProblem


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration asks for, in the order of set-up, and every problem found."""

    components: tuple[Planned, ...]
    problems: tuple[ConfigProblem, ...]
    essential: frozenset[str]
    index: ComponentIndex
    # The owner's components and platforms that safe mode goes without.
    left_out: tuple[str, ...] = ()
    # What can't be imported and can be done without: a hub runs without it, `check` says so.
    lacks: tuple["Lacking", ...] = ()

    @property
    def all_problems(self) -> list[ConfigProblem]:
        """Every problem, also those that a hub runs in spite of.

        One fault may keep several components from being imported, and is told once.
        """
        found = [*self.problems, *(each.problem for each in self.lacks)]
        faults = {(each.file, each.line, each.message): each for each in reversed(found)}
        return sorted(faults.values(), key=_place)


def plan(configuration: Configuration, *, safe_mode: bool = False) -> Plan:
    """Resolve and validate every section; the one validator behind `run` and `check`."""
    index = ComponentIndex(configuration.directory, safe_mode=safe_mode)
    left_out: list[str] = []
    problems = list(configuration.problems)
    wanted = _wanted(configuration, index, problems, left_out)
    roles = wanted.intersection(_ROLES)
    if not roles and not problems:
        problems.append(
            ConfigProblem(
                CONFIG_FILE,
                None,
                "",
                "neither gateway: nor worker: is configured; this hub would do nothing",
            )
        )
    # All are imported before any section is judged, which may name what another one registers.
    lacks: list[Lacking] = []
    imported = _imported(configuration, index.order(wanted), lacks)
    if safe_mode:
        sections = _of_built_in(configuration, imported, left_out)
        configuration = replace(configuration, sections=sections)
    components = _validated(configuration, imported, problems, safe_mode=safe_mode)
    essential = frozenset(manifest.domain for manifest in index.order(roles))
    problems += [each.problem for each in lacks if each.manifest.domain in essential]
    return Plan(
        tuple(components),
        tuple(sorted(problems, key=_place)),
        essential,
        index,
        tuple(left_out),
        tuple(each for each in lacks if each.manifest.domain not in essential),
    )


def plan_of(directory: Path, sections: dict[str, Any], domains: set[str]) -> Plan:
    """Return the plan for sections that nobody wrote, of built-in components only."""
    written = Configuration(
        directory=directory,
        hub=HubConfig("hub"),
        storage=STORAGE_SCHEMA(None),
        logger=LOGGER_SCHEMA(None),
        sections=YamlMap(sections),
        problems=(),
        files=(),
        secrets=frozenset(),
    )
    # Nobody has components of their own there.
    index = ComponentIndex(directory / STORAGE_DIR)
    problems: list[ConfigProblem] = []
    lacks: list[Lacking] = []
    imported = _imported(written, index.order(domains), lacks)
    components = _validated(written, imported, problems, safe_mode=True)
    problems += [each.problem for each in lacks]
    return Plan(tuple(components), tuple(problems), frozenset(domains), index)


def _place(problem: ConfigProblem) -> tuple[str, int]:
    return problem.file, problem.line or 0


def _wanted(
    configuration: Configuration,
    index: ComponentIndex,
    problems: list[ConfigProblem],
    left_out: list[str],
) -> set[str]:
    """Return the components to load whose dependencies can be resolved.

    They are those with a section, and those that come along with them and are not switched off.
    """
    content = configuration.sections
    wanted: set[str] = set()
    for domain in content:
        if domain in CORE_SECTIONS:
            continue
        if index.leaves_out(domain):
            left_out.append(domain)
            if index.manifest(domain) is None:
                continue
        try:
            if (manifest := index.manifest(domain)) is None:
                hint = did_you_mean(domain, (*index.domains(), *CORE_SECTIONS))
                raise SetupError(f"there is no such component{hint}")
            if content[domain] is False and manifest.default_with:
                continue
            index.order({domain})
        except SetupError as error:
            problems.append(config.problem_at(content, [domain], str(error)))
            continue
        wanted.add(domain)
    for domain in sorted(index.beside(wanted).difference(content)):
        try:
            index.order({domain})
        except SetupError as error:
            problems.append(config.problem_at(content, [domain], str(error)))
            continue
        wanted.add(domain)
    return wanted


def _imported(
    configuration: Configuration, manifests: Iterable[Manifest], lacks: list[Lacking]
) -> list[_Imported]:
    imported: list[_Imported] = []
    for manifest in manifests:
        if unmet := _unmet(configuration, manifest):
            lacks.extend(Lacking(manifest, problem) for problem in unmet)
            continue
        try:
            began = time.perf_counter()
            component = manifest.import_component()
            imported.append((manifest, component, time.perf_counter() - began))
        except ComponentImportError as error:
            problem = config.problem_at(configuration.sections, [manifest.domain], str(error))
            if error.file is not None:
                problem = replace(problem, file=error.file, line=error.line)
            lacks.append(Lacking(manifest, problem))
    return imported


def _unmet(configuration: Configuration, manifest: Manifest) -> list[ConfigProblem]:
    """Return what an owner's component needs that is not installed, at its line of the manifest."""
    if not (manifest.custom and manifest.requirements):
        return []
    from swarm_hub.util.requirements import unmet

    path = manifest.folder / "manifest.json"
    lines = path.read_text(encoding="utf-8").splitlines()
    file = path.relative_to(configuration.directory).as_posix()
    return [
        ConfigProblem(
            file,
            next((n for n, line in enumerate(lines, 1) if requirement in line), None),
            manifest.domain,
            said,
        )
        for requirement in manifest.requirements
        if (said := unmet(requirement)) is not None
    ]


def _of_built_in(
    configuration: Configuration, imported: Iterable[_Imported], left_out: list[str]
) -> YamlMap:
    """Return the sections for safe mode.

    An owner's platform gives way to the default one; a component that was overridden takes its
    defaults, as the keys were those of the other.
    """
    sections = YamlMap()
    for domain, value in configuration.sections.items():
        own = YamlMap() if domain in left_out else value
        sections.put(domain, own, configuration.sections.places[domain])
    for manifest, component, _ in imported:
        domain, schema = manifest.domain, getattr(component, "CONFIG_SCHEMA", None)
        section = sections.get(domain)
        if not (isinstance(schema, PlatformSchema) and isinstance(section, YamlMap)):
            continue
        name = section.get("platform")
        if schema.looking_in(configuration.directory).custom_file(name) is None:
            continue
        left_out.append(f"{name} ({domain})")
        kept = YamlMap()
        for key in section.keys() & set(map(str, schema.keys)):
            kept.put(key, section[key], section.places[key])
        sections.put(domain, kept, sections.places[domain])
    return sections


def _validated(
    configuration: Configuration,
    imported: Iterable[_Imported],
    problems: list[ConfigProblem],
    *,
    safe_mode: bool,
) -> list[Planned]:
    components: list[Planned] = []
    for manifest, component, import_s in imported:
        try:
            components.append(
                _planned(manifest, component, configuration, import_s, safe_mode=safe_mode)
            )
        except ConfigError as error:
            problems.extend(error.problems)
        except SetupError as error:
            problems.append(
                config.problem_at(configuration.sections, [manifest.domain], str(error))
            )
    return components


def _planned(
    manifest: Manifest,
    component: ModuleType,
    configuration: Configuration,
    import_s: float,
    *,
    safe_mode: bool,
) -> Planned:
    missing = [name for name in ("CONFIG_SCHEMA", "async_setup") if not hasattr(component, name)]
    if missing:
        raise SetupError(f"{component.__file__}: has no {' and no '.join(missing)}")
    schema = cast(Callable[[Any], object], component.CONFIG_SCHEMA)
    if isinstance(schema, PlatformSchema) and not safe_mode:
        schema = schema.looking_in(configuration.directory)
    async_setup = cast(Callable[[Hub, Any], Awaitable[bool]], component.async_setup)
    return Planned(
        manifest,
        config.validate_section(configuration.sections, manifest.domain, schema),
        async_setup,
        schema,
        getattr(component, "preflight", None),
        import_s,
    )
