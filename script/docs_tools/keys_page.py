"""The tables of keys in the pages of the components, made from the schemas between two marks."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from swarm_hub.reference import NO_DEFAULT, DescribedKey, DescribedSection
from swarm_hub.reference.kinds import words
from swarm_hub.util.yaml_text import flow

# `<!-- keys of gc -->`, or of one of its platforms `<!-- keys of gc: ttl -->`.
_MARKED: Final = re.compile(
    r"(<!-- keys of (\w+)(?:: (\w+))? -->\n).*?(<!-- end of keys -->)", re.DOTALL
)
_HEAD: Final = """\
| key | type | default | unit | reloadable | since | what it is |
|---|---|---|---|---|---|---|
"""


def with_tables(text: str, sections: Iterable[DescribedSection]) -> str:
    """Return a page with its tables made anew; raises ValueError for a mark of nothing."""
    known = {each.domain: each for each in sections}

    def table(found: re.Match[str]) -> str:
        begin, domain, platform, end = found.groups()
        if domain not in known:
            raise ValueError(f"{begin.strip()}: there is no such section")
        return f"{begin}{_table(known[domain], platform)}{end}"

    return _MARKED.sub(table, text)


def _table(section: DescribedSection, platform: str | None) -> str:
    keys: Sequence[DescribedKey] = section.keys
    if platform is not None:
        named = {each.name: each for each in section.platforms}
        if platform not in named:
            raise ValueError(f"{section.domain} has no platform {platform}")
        keys = named[platform].keys
    names = [f"`{each.name}`" for each in section.platforms]
    rows = "".join(f"{row}\n" for row in _rows(keys, "", names))
    return f"\n{_HEAD}{rows}\n"


def _rows(keys: Iterable[DescribedKey], above: str, platforms: list[str]) -> Iterator[str]:
    for key in keys:
        said = key.said
        kind = said.kind or words(key.validator)
        if key.name == "platform" and platforms:
            kind = f"{', '.join(platforms[:-1])} or {platforms[-1]}"
        default = said.default
        if not default and key.default is not NO_DEFAULT:
            default = f"`{flow(key.default)}`"
        reloadable = "yes" if key.reloadable else "no"
        cells = (
            f"`{above}{key.name}`", kind, default, said.unit, reloadable, said.since,
            said.description,
        )  # fmt: skip
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |".replace(
            "|  |", "| |"
        )
        yield from _rows(key.keys, f"{above}{key.name}: ", [])
