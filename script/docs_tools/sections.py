"""Every section of the built-in components and of the core, with its keys."""

from pathlib import Path
from typing import Final

from swarm_hub.loader import ComponentIndex
from swarm_hub.reference import DescribedSection, core_sections, section_of

# Those that everybody has first.
_FIRST: Final = ("hub", "storage", "gateway", "worker", "api", "frontend")


def all_sections() -> list[DescribedSection]:
    """Return the sections in the order in which an example shows them."""
    index = ComponentIndex(Path("nowhere"))
    found = core_sections()
    for domain in index.domains():
        manifest = index.manifest(domain)
        assert manifest is not None
        found.append(section_of(manifest, manifest.import_component()))

    def place(section: DescribedSection) -> tuple[int, str]:
        first = section.domain in _FIRST
        return (_FIRST.index(section.domain) if first else len(_FIRST), section.domain)

    return sorted(found, key=place)
