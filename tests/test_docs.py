"""The documentation is complete, its links lead somewhere, and each block of code says its part."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from script.docs_tools.__main__ import made_pages
from script.docs_tools.keys_page import with_tables
from swarm_hub import config
from swarm_hub.cli import main
from swarm_hub.loader import ComponentIndex
from swarm_hub.models.event import EventType
from swarm_hub.models.features import BASELINE, FEATURES
from tests.helpers.sections import component, has_platforms, keys_of, platforms
from tests.helpers.snippets import FOLLOWED, Snippet, pages, snippets, spans

_ROOT = Path(__file__).parents[1]
_DOCS = _ROOT / "docs"
_PAGES = sorted([*_ROOT.glob("*.md"), *_DOCS.rglob("*.md")])
_DOMAINS = ComponentIndex(Path("nowhere")).domains()
_CORE: Final[dict[str, Any]] = {
    "hub": config.hub_schema("hub"),
    **config.CORE_SCHEMAS,
}

_SNIPPETS = [each for page in pages() for each in snippets(page)]

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SOURCE = re.compile(r"`(?:swarm_hub/)?([a-z0-9_]+(?:/[a-z0-9_]+)*\.py)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def config_keys(domain: str) -> set[str]:
    if domain in _CORE:
        return keys_of(_CORE[domain].schema.schema)
    if not has_platforms(domain):
        return keys_of(component(domain).CONFIG_SCHEMA.schema.schema)
    found = {"platform", *keys_of(component(domain).CONFIG_SCHEMA.keys)}
    for module in platforms(domain).values():
        found |= keys_of(module.PLATFORM_SCHEMA)
    return found


def anchors(page: Path) -> set[str]:
    """Return the ids that a page's headings get where it is shown."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def relative_links(page: Path) -> Iterator[tuple[str, str]]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("domain", _DOMAINS)
def test_a_component_names_its_page_and_the_page_exists(domain: str) -> None:
    manifest = ComponentIndex(Path("nowhere")).manifest(domain)
    assert manifest is not None
    assert manifest.documentation == f"docs/components/{domain}.md"
    assert (_ROOT / manifest.documentation).is_file()


def test_there_is_no_page_of_a_component_that_does_not_exist() -> None:
    pages = {page.stem for page in (_DOCS / "components").glob("*.md")}
    assert pages == {*_DOMAINS, *_CORE}


@pytest.mark.parametrize("domain", [*_DOMAINS, *_CORE])
def test_a_page_has_a_row_for_every_key_of_its_component(domain: str) -> None:
    text = (_DOCS / "components" / f"{domain}.md").read_text(encoding="utf-8")
    made = "".join(re.findall(r"<!-- keys of .*?<!-- end of keys -->", text, re.DOTALL))
    rows = set(re.findall(r"^\| `(\w+)` \| ", made, re.MULTILINE))
    assert config_keys(domain) == rows


@pytest.mark.parametrize("domain", [*_DOMAINS, *_CORE])
def test_a_page_tells_events_limits_and_troubleshooting(domain: str) -> None:
    found = anchors(_DOCS / "components" / f"{domain}.md")
    assert {"keys", "events", "limits", "troubleshooting"} <= found


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for path, anchor in relative_links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_what_is_made_says_what_it_is_made_from() -> None:
    """Command line, decisions, tables of keys, the example and the schema for editors."""
    made = made_pages(_ROOT)
    assert len(made) >= len(_DOMAINS) + len(_CORE) + 4
    stale = [
        str(path.relative_to(_ROOT))
        for path, text in made.items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "write them anew: script/docs pages"


def test_a_table_of_keys_that_there_are_not_is_refused() -> None:
    with pytest.raises(ValueError, match="keys of meshes -->: there is no such section"):
        with_tables("<!-- keys of meshes -->\n<!-- end of keys -->", [])


def test_every_durable_event_is_explained() -> None:
    texts = [page.read_text(encoding="utf-8") for page in (_DOCS / "components").glob("*.md")]
    for event in EventType:
        assert any(f"`{event.value}" in text for text in texts), event


def test_every_signed_message_has_its_row_in_the_protocol() -> None:
    messages = importlib.import_module("swarm_hub.models.messages")
    text = (_DOCS / "protocol.md").read_text(encoding="utf-8")
    kinds = [
        value
        for name, value in vars(messages).items()
        if name.isupper() and isinstance(value, str) and value.isidentifier()
    ]
    assert len(kinds) >= 10
    for kind in kinds:
        assert re.search(rf"^\| `{kind}` \|", text, re.MULTILINE), kind


def test_every_feature_has_its_row_in_the_protocol() -> None:
    text = (_DOCS / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| known \|$", text, re.MULTILINE)
    assert set(rows) == BASELINE
    for name in FEATURES:
        assert re.search(rf"^\| `{name}` \|", text, re.MULTILINE), name


@pytest.mark.parametrize("page", sorted(_DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_every_source_file_that_is_named_exists(page: Path) -> None:
    package = _ROOT / "swarm_hub"
    folders = (_ROOT, package, package / "components", *(package / "components").iterdir())
    for name in _SOURCE.findall(page.read_text(encoding="utf-8")):
        assert any((folder / name).is_file() for folder in folders), name


@pytest.mark.parametrize("snippet", _SNIPPETS, ids=lambda each: each.place)
def test_a_block_of_code_has_a_language_that_says_how_it_is_held_true(snippet: Snippet) -> None:
    held = (*FOLLOWED, "text")
    assert snippet.language in held or snippet.run_by or snippet.not_run, "say ```text, or by what"


@pytest.mark.parametrize(
    "snippet",
    [each for each in _SNIPPETS if each.not_run or each.run_by],
    ids=lambda each: each.place,
)
def test_what_is_not_run_here_says_why_or_by_what(snippet: Snippet) -> None:
    if snippet.not_run:
        assert len(snippet.not_run.split()) >= 3, "a reason, please"
    else:
        by = _ROOT / snippet.run_by.split()[0]
        assert by.is_file()
        text = by.read_text("utf-8")
        # It reads the block, or runs the script that the block calls.
        assert snippet.page in text or any(word in text for word in scripts(snippet.code))


def scripts(code: str) -> set[str]:
    return {Path(word).name for word in re.findall(r"script/\w+|install\.sh|-m build", code)}


@pytest.mark.parametrize("page", pages())
def test_a_command_within_the_text_exists_with_its_options(page: str) -> None:
    wrong = []
    for span in spans(page):
        words = span.split() or [""]
        if words[0] in ("swarm-hub", ".venv/bin/swarm-hub"):
            wrong += [f"{span}: {said}" for said in unknown(span)]
        elif words[0].startswith("script/") and "." not in words[0]:
            name = words[0].rstrip("…/")
            wrong += [] if (_ROOT / name).exists() else [f"{span}: there is no {name}"]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("swarm-hub job shw ID", "no command shw"),
        ("swarm-hub submit MODULE --redundancy 3 --wach", "no option --wach"),
        ("swarm-hub node ban [NODE…] --reason TEXT", None),
    ],
)
def test_a_command_that_is_not_there_would_be_noticed(line: str, said: str | None) -> None:
    assert next(unknown(line), None) == said


def unknown(line: str) -> Iterator[str]:
    """Yield what a line asks of `swarm-hub` that it does not have."""
    command: click.Command = main
    ctx = click.Context(main)
    known: set[str] = set()
    for word in plain_words(line):
        if word in ("|", ">", "&&", ";"):
            return
        if word.startswith("-") and len(word) > 1 and not word[1:].isdigit():
            known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            if word.partition("=")[0] not in known | {"-h", "--help", "--version"}:
                yield f"no option {word}"
        elif isinstance(command, click.Group):
            for name in word.split("|"):
                if (found := command.get_command(ctx, name)) is None:
                    yield f"no command {name}"
                    return
            command = found


def plain_words(line: str) -> list[str]:
    """Return the words of a command; brackets and dots say what may be left out or repeated."""
    text = re.sub(r"[\[\]…]|<[^>]*>", " ", line)
    return shlex.split(text)[1:]
