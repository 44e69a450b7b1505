"""`completion`: what a shell needs to complete commands, options and names of files."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from swarm_hub.cli.options import echo

_SHELLS: Final = ("bash", "zsh", "fish")
_PROGRAM: Final = "swarm-hub"
_VARIABLE: Final = "_SWARM_HUB_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete swarm-hub's commands and options.

    \b
    bash  swarm-hub completion bash > ~/.local/share/bash-completion/completions/swarm-hub
    zsh   swarm-hub completion zsh > ~/.zfunc/_swarm-hub   (with ~/.zfunc in fpath)
    fish  swarm-hub completion fish > ~/.config/fish/completions/swarm-hub.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    echo(found(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
