"""`example`: the modules that come with swarm_hub, to have something to submit."""

import re
from pathlib import Path
from typing import Final

import click

from swarm_hub.cli.options import echo
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.config_validation import did_you_mean

# Of a README, what stands below its title up to the end of the sentence.
_ABOUT: Final = re.compile(r"#[^\n]*\s+(.*?[.:])(?=\s)", re.DOTALL)


@click.command()
@click.argument("name", required=False)
def example(name: str | None) -> None:
    """Print the module of an example as WAT text, or list the examples.

    It can be submitted like any module: swarm-hub example primes > primes.wat
    """
    found = examples()
    if name is None:
        for each, path in found.items():
            echo(f"{each:10} {_about(path)}")
    elif name in found:
        click.echo(found[name].read_text(encoding="utf-8"), nl=False)
    else:
        hint = did_you_mean(name, tuple(found))
        raise HubError(f"there is no example {name!r}; known: {', '.join(found)}{hint}")


def examples() -> dict[str, Path]:
    """Return the modules by their names."""
    return {path.parent.name: path for path in sorted(examples_dir().glob("*/*.wat"))}


def examples_dir() -> Path:
    """Return the examples: inside the package when installed, beside it in a checkout.

    What lies beside an installed package belongs to others; libp2p brings an `examples` folder of
    its own.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parent / "examples"):
        if folder.is_dir():
            return folder
    raise HubError("the examples are missing; install swarm-hub again")


def _about(path: Path) -> str:
    found = _ABOUT.match(path.with_name("README.md").read_text(encoding="utf-8"))
    return " ".join(found[1].rstrip(":").split()) if found else ""
