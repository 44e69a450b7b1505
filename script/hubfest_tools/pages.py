"""Whether the page of a section has its tables and tells what every page tells."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from script.hubfest_tools.fault import Fault
from swarm_hub.reference import DescribedSection

_HEADINGS: Final = ("Keys", "Events", "Limits", "Troubleshooting")
_MARK: Final = re.compile(r"^<!-- keys of (\w+(?:: \w+)?) -->$", re.MULTILINE)


def faults(section: DescribedSection, page: Path, place: str) -> Iterator[Fault]:
    """Yield what a page of docs/components/ lacks."""
    if not page.is_file():
        yield Fault(place, "does not exist")
        return
    text = page.read_text(encoding="utf-8")
    for heading in _HEADINGS:
        if f"\n## {heading}\n" not in text:
            yield Fault(place, f"has no chapter {heading}")
    wanted = {section.domain} if section.keys else set()
    wanted |= {f"{section.domain}: {each.name}" for each in section.platforms if each.keys}
    for name in sorted(wanted.difference(_MARK.findall(text))):
        yield Fault(
            place,
            f"lacks the lines <!-- keys of {name} --> and <!-- end of keys -->, between which "
            "script/docs pages writes the table",
        )
