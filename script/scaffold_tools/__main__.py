"""`script/scaffold component|platform|view NAME`: writes the files of what is to be added."""

from pathlib import Path
from typing import Final

import click

from script.scaffold_tools.inserting import before, into_set_up
from script.scaffold_tools.writing import ROOT, TEMPLATES, Files, Words, shown, write_pages
from swarm_hub.cli import run_command
from swarm_hub.const import CUSTOM_COMPONENTS_DIR
from swarm_hub.helpers.config_validation import did_you_mean
from swarm_hub.loader import ComponentIndex
from swarm_hub.reference.texts import KEYS_FILE

_BUILT_IN: Final = ROOT / "swarm_hub" / "components"
_PAGES: Final = ROOT / "docs" / "components"
_TESTS: Final = ROOT / "tests" / "components"
_ARCHITECTURE: Final = ROOT / "docs" / "architecture.md"
_PLATFORM_DOMAINS: Final = sorted(
    path.name.removesuffix("_test.py.txt")
    for path in (TEMPLATES / "platform").glob("*_test.py.txt")
)
_CORE: Final = ("hub", "storage")
_OWN_TABLE: Final = """\
| key | default | meaning |
|---|---|---|
| `every` | `1m` | how often it looks |
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def scaffold() -> None:
    """Write the files of a new component, platform or view, each with its test.

    What is written works and passes the linters as it is; then make of it what it is to be.
    NAME is a Python name in small letters, such as room_heater.

    With --custom DIR it goes into the custom_components/ of the hub whose configuration directory
    DIR is, without a test.
    """


def _words(_ctx: object, _param: object, name: str) -> Words:
    return Words(name)


_name = click.argument("words", metavar="NAME", callback=_words)
_custom = click.option(
    "--custom",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    metavar="DIR",
    help="A hub's configuration directory.",
)


@scaffold.command
@_name
@_custom
def component(words: Words, custom: Path | None) -> None:
    """Write a component, with a section of its own."""
    if words.name in _CORE:
        raise click.UsageError(f"{words.name} is a section of the core")
    files, name = Files(), words.name
    folder = _home(custom) / name
    page = folder / "README.md" if custom else _PAGES / f"{name}.md"
    words = words.with_more(
        inside="." if custom else f"swarm_hub.components.{name}.",
        package=f"swarm_hub.components.{name}",
        documentation="README.md" if custom else f"docs/components/{name}.md",
        version='  "version": "0.1.0",\n' if custom else "",
        keys=_OWN_TABLE if custom else f"<!-- keys of {name} -->\n<!-- end of keys -->\n",
    )
    for file in ("manifest.json", "__init__.py", "service.py", "keys.yaml"):
        files.add(folder / file, f"component/{file}", words)
    files.add(page, "component/page.md", words)
    if custom is None:
        files.add(_TESTS / name / f"test_{name}.py", "component/test.py", words)
        row = f"| [{name}](components/{name}.md) | | say what it does |\n"
        files.change(_ARCHITECTURE, lambda text: before(text, "\n[hub](components/hub.md)", row))
    files.write()
    if custom is None:
        write_pages()
    _next(f"a hub has it with `{name}:` in its configuration.yaml")


@scaffold.command
@_name
@click.option("--domain", required=True, help=f"One of {', '.join(_PLATFORM_DOMAINS)}.")
@_custom
def platform(words: Words, domain: str, custom: Path | None) -> None:
    """Write another strategy, deadline rule or collector."""
    if domain not in _PLATFORM_DOMAINS:
        raise click.UsageError(_unknown(domain, _PLATFORM_DOMAINS, "has platforms"))
    files, name = Files(), words.name
    package = "strategies" if domain == "scheduler" else ""
    path = _BUILT_IN / domain / package / f"{name}.py"
    base = "swarm_hub.components.scheduler" + ("" if custom else ".strategies.base")
    if custom is not None:
        if path.exists():
            raise click.UsageError(f"{name} is built in and would win; choose another name")
        path = _home(custom) / name / f"{domain}.py"
    files.add(path, f"platform/{domain}.py", words.with_more(base=base))
    if custom is None:
        test = _TESTS / domain / package / f"test_{name}.py"
        files.add(test, f"platform/{domain}_test.py", words)
        keys = words.fill(f"platform/{domain}_keys.md")
        page = _PAGES / f"{domain}.md"
        files.change(page, lambda text: before(text, "\n## ", f"\n{keys}", behind="## Keys"))
        said = words.with_more(key=name).fill(f"platform/{domain}_keys.yaml")
        files.change(_BUILT_IN / domain / KEYS_FILE, lambda text: text + said)
    else:
        said = words.with_more(key=domain).fill(f"platform/{domain}_keys.yaml")
        files.put(path.parent / KEYS_FILE, "platforms:\n", said)
    files.write()
    if custom is None:
        write_pages()
    _next(f"a hub chooses it with `{domain}: {{platform: {name}}}`")


@scaffold.command
@_name
@click.option("--domain", required=True, help="The component that serves it.")
@_custom
def view(words: Words, domain: str, custom: Path | None) -> None:
    """Write a view, GET /NAME, of a component."""
    home = _home(custom)
    known = [path.parent.name for path in home.glob("*/manifest.json")]
    if domain not in known:
        raise click.UsageError(_unknown(domain, known, f"is in {shown(home)}"))
    files, name = Files(), words.name
    package = "views" if (home / domain / "views").is_dir() else ""
    inside = ("" if custom else f"swarm_hub.components.{domain}") + f".{package}".rstrip(".")
    files.add(home / domain / package / f"{name}.py", "view/view.py", words)
    files.change(
        home / domain / "__init__.py",
        lambda text: into_set_up(
            text, f"from {inside}.{name} import {name}_view", f"add_view({name}_view({{hub}}))"
        ),
    )
    if custom is None:
        comes_with_gateway = {each.domain for each in ComponentIndex(ROOT).order({"gateway"})}
        extra = "" if domain in comes_with_gateway else f"{domain}:\\n"
        test = _TESTS / domain / package / f"test_{name}.py"
        files.add(test, "view/test.py", words.with_more(extra=extra))
    files.write()
    _next(f'put "/{name}" into "serves" of {shown(home / domain / "manifest.json")}')


def _home(custom: Path | None) -> Path:
    return _BUILT_IN if custom is None else custom / CUSTOM_COMPONENTS_DIR


def _unknown(domain: str, known: list[str], what: str) -> str:
    return (
        f"no component {domain!r} {what}{did_you_mean(domain, known)}; there are "
        f"{', '.join(sorted(known)) or 'none'}"
    )


def _next(text: str) -> None:
    click.echo(f"next: {text}")


if __name__ == "__main__":
    run_command(scaffold, prog_name="script/scaffold")
