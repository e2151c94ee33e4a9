"""Command line: `nvgen-aug`, one file a subcommand.

The subcommands import what is heavy inside their functions, here and nowhere
else in the package, so that `--help` answers at once and without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from ..errors import NvgenError
from ..record import package_version
from .bench import bench
from .cache import cache
from .census import census
from .demo import demo
from .doctor import doctor
from .engines import engines
from .generate import generate
from .inspect import inspect
from .masks import masks
from .plan import plan
from .preview import preview
from .replay import replay
from .serve import serve
from .status import status
from .terminal import INTERRUPTED
from .terminal import answer
from .terminal import fail
from .terminal import say
from .train import train
from .weights import weights

__all__ = ["app", "main"]

app = typer.Typer(
    name="nvgen-aug",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        answer([package_version()])
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Synthetic 3D image/mask pairs, blended into segmentation training on the fly.

    \b
    Start with:
      nvgen-aug demo
      nvgen-aug generate tiny-brain --num 4 --out volumes/
    """


app.command()(demo)
app.command()(generate)
app.command()(census)
app.command()(plan)
app.command()(preview)
app.command()(inspect)
app.command()(replay)
app.command()(serve)
app.command()(status)
app.command()(train)
app.add_typer(cache, name="cache")
app.add_typer(engines, name="engines")
app.command()(bench)
app.add_typer(weights, name="weights")
app.add_typer(masks, name="masks")
app.command()(doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process.

    Exits with 0, with 1 for an error that this package raised on purpose, with 2
    for arguments that make no sense, and with 130 after Ctrl-C.

    Args:
        arguments: What stands behind the program's name; `None` takes it from the shell.
    """
    try:
        app(args=arguments, prog_name="nvgen-aug")
    except NvgenError as error:
        fail(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; nothing was begun, and the same command starts again")
        sys.exit(INTERRUPTED)
