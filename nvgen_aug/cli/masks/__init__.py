"""`nvgen-aug masks`: a bank of masks, indexed once and looked into."""

from __future__ import annotations

import typer

from .indexing import index
from .listing import list_

__all__ = ["masks"]

masks = typer.Typer(
    no_args_is_help=True, help="Index masks of your own, for images to be made of them."
)


@masks.callback()
def _root() -> None:
    """Index masks of your own, for images to be made of them.

    A bank is a folder or zip archive of NIfTI label maps with an index. What is generated
    with --masks gets one of them for each volume, by the volume's seed.

    \b
    Example:
      nvgen-aug masks index labels/
      nvgen-aug masks list labels/
      nvgen-aug generate rflow-ct --masks labels/ --num 4 --out volumes/
    """


masks.command("index")(index)
masks.command("list")(list_)
