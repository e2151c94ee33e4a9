"""`nvgen-aug weights`: released weights, brought to this machine and listed."""

from __future__ import annotations

import typer

from .importing import import_
from .listing import list_

__all__ = ["weights"]

weights = typer.Typer(
    no_args_is_help=True, help="Bring released weights to this machine, and list them."
)


@weights.callback()
def _root() -> None:
    """Bring released weights to this machine, and list them.

    They are kept in the folder NVGEN_AUG_HOME, or among your other data if that is not set.

    \b
    Example:
      nvgen-aug weights import rflow-ct
      nvgen-aug weights list
    """


weights.command("import")(import_)
weights.command("list")(list_)
