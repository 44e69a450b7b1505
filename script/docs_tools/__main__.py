"""`script/docs`: builds the documentation as a site; `script/docs pages`: writes what is made."""

from pathlib import Path
from typing import Final

import click

from script.docs_tools.adr_page import adr_page
from script.docs_tools.cli_page import cli_page
from swarm_hub.cli import main as command_line
from swarm_hub.cli import run_command

_ROOT: Final = Path(__file__).parents[2]


def made_pages(root: Path) -> dict[Path, str]:
    """Return the pages that are made from something else, with what they should say."""
    docs = root / "docs"
    return {
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
    """Write docs/cli.md from the commands, and docs/adr/README.md from the titles there."""
    for path, text in made_pages(_ROOT).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_command(docs, prog_name="script/docs")
