"""`nvgen-aug engines`: networks built ahead of time for a kind of GPU."""

from __future__ import annotations

import typer

from .build import build
from .listing import listing

__all__ = ["engines"]

engines = typer.Typer(no_args_is_help=True, help="Build engines for a GPU, and list what is built.")


@engines.callback()
def _root() -> None:
    """Build engines for a GPU, and list what is built.

    \b
    Example:
      nvgen-aug engines build tiny-brain --arch SM89
      nvgen-aug engines list
    """


engines.command("build")(build)
engines.command("list")(listing)
