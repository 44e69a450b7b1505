"""`script/docs`: builds the documentation as a site; `script/docs pages`: writes what is made."""

from pathlib import Path
from typing import Final

import click

from script.docs_tools.adr_page import adr_page
from script.docs_tools.cli_page import cli_page
from script.docs_tools.example_file import example
from script.docs_tools.keys_page import with_tables
from script.docs_tools.sections import all_sections
from swarm_hub.cli import main as command_line
from swarm_hub.cli import run_command
from swarm_hub.cli.directory import BUILT_IN_SCHEMA
from swarm_hub.reference.json_schema import as_text, document

_ROOT: Final = Path(__file__).parents[2]


def made_pages(root: Path) -> dict[Path, str]:
    """Return the pages that are made from something else, with what they should say."""
    docs, sections = root / "docs", all_sections()
    components = sorted((docs / "components").glob("*.md"))
    return {
        **{page: with_tables(page.read_text(encoding="utf-8"), sections) for page in components},
        root / "configuration.yaml.example": example(sections),
        BUILT_IN_SCHEMA: as_text(document(sections)),
        docs / "cli.md": cli_page(command_line),
        docs / "adr" / "README.md": adr_page(docs / "adr"),
    }


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def docs(ctx: click.Context) -> None:
    """Build docs/ as a site in build/site/, with its links and anchors checked."""
    if ctx.invoked_subcommand is None:
        from script.docs_tools.site import build

        click.echo(build(_ROOT, _ROOT / "build" / "site"))


@docs.command()
def pages() -> None:
    """Write what is made: docs/cli.md, docs/adr/README.md, and all that tells keys.

    The keys of configuration.yaml are in the tables of docs/components/, in
    configuration.yaml.example and in the JSON Schema for editors.
    """
    for path, text in made_pages(_ROOT).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_command(docs, prog_name="script/docs")
