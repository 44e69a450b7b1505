"""`configuration.yaml.example`: every section with every key, its default and what it is for."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from swarm_hub.reference import NO_DEFAULT, DescribedKey, DescribedPlatform, DescribedSection
from swarm_hub.reference.json_schema import plain
from swarm_hub.util.yaml_text import flow

_WIDTH: Final = 100
_HEAD: Final = """\
# Every key of swarm_hub with its default. Made by `script/docs pages` from the schemas.
#
# Copy what you need into the configuration.yaml of your configuration directory (`swarm-hub init`
# makes one), then run `swarm-hub check`.
#
# A section that is absent is a component that is not loaded; `hub` and `storage` always are, and
# what a component depends on is loaded with its defaults, and with `api` the page, `frontend`. So
# `worker:` alone is enough for a worker, and `gateway:` alone for a gateway. At least one of the
# two must be there.
#
# Sizes: 65536, 64KiB, 1.5GB (B, kB, MB, GB count in thousands, KiB, MiB, GiB in 1024s).
# Durations: 300, 1.5s, 10m, 24h (ms, s, m, h, d); a plain number is seconds.
#
# Tags: `!secret KEY` takes the value from secrets.yaml, `!env_var NAME default` from the
# environment, `!include FILE` from another file of this directory. `!include_dir_named FOLDER`
# makes a mapping of the files of a folder, `!include_dir_list FOLDER` a list;
# `!include_dir_merge_named FOLDER` and `!include_dir_merge_list FOLDER` join what is in them.
"""


def example(sections: Iterable[DescribedSection]) -> str:
    """Return the text of the file."""
    return _HEAD + "".join(
        "\n" + "".join(f"{line}\n" for line in _lines(each)) for each in sections
    )


def _lines(section: DescribedSection) -> Iterator[str]:
    yield from _comment(section.about, "")
    yield f"{section.domain}:"
    chosen = next((p for p in section.platforms if p.name == section.default_platform), None)
    for key in (*section.keys, *(chosen.keys if chosen else ())):
        yield from _key(key)
    yield from (f"# {line}".rstrip() for line in section.example.splitlines())
    for platform in section.platforms:
        if platform is not chosen:
            yield from _comment(platform.about, "")
            yield f"# {section.domain}: {flow(_values(platform))}"


def _values(platform: DescribedPlatform) -> dict[str, object]:
    return {"platform": platform.name, **{key.name: key.default for key in platform.keys}}


def _key(key: DescribedKey) -> Iterator[str]:
    yield from _comment(_sentence(key.said.description), "  ")
    if key.said.example:
        yield f"  {key.name}: {key.said.example}"
    elif key.default is NO_DEFAULT:
        below = {each.name: each.default for each in key.keys if each.default is not NO_DEFAULT}
        yield f"  # {key.name}: {flow(below)}"
    else:
        yield f"  {key.name}: {flow(key.default)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    begin = f"{indent}# "
    yield from textwrap.wrap(
        plain(text), _WIDTH, initial_indent=begin, subsequent_indent=begin,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""
