"""`stockrelay completion`: what a shell needs to complete our commands."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from daemon.commands.framework import FAILED, WRONG_CONFIGURATION, Command

_PROGRAM: Final = "stockrelay"


@click.command(
    cls=Command,
    examples=[
        "completion bash > /etc/bash_completion.d/stockrelay",
        "completion zsh > /usr/local/share/zsh/site-functions/_stockrelay",
        "completion fish > ~/.config/fish/completions/stockrelay.fish",
    ],
    exits={FAILED: None, WRONG_CONFIGURATION: None},
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, options and channels.

    Write it to where the shell looks for such scripts, as below, and begin a new shell. bash has to be 4.4 or newer.
    To try it in this shell alone: `source <(stockrelay completion bash)`.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())
