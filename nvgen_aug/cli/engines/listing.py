"""`nvgen-aug engines list`: which engines are built, and what they are for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from ..terminal import answer
from ..terminal import hint

if TYPE_CHECKING:
    from ...generators.maisi.engines.store import StoredEngine

HEAD = ("variant", "part", "inputs", "precision", "gpu", "MiB", "seconds", "weights", "built by")


def listing(
    folder: Annotated[
        Path | None, typer.Option(help="Where engines are kept; ~/.cache/nvgen-aug/engines.")
    ] = None,
) -> None:
    """Print every built engine: of what, for which shape and GPU, how large, how long it took.

    \b
    Example:
      nvgen-aug engines list
    """
    from ...generators.maisi.engines.store import DEFAULT_FOLDER  # heavy, and --help does without
    from ...generators.maisi.engines.store import EngineStore

    store = EngineStore(folder or DEFAULT_FOLDER)
    engines = store.engines()
    show(engines)
    if not engines:
        hint(f"{store.folder} holds none yet: nvgen-aug engines build tiny-brain --arch SM89")


def show(engines: Sequence[StoredEngine]) -> None:
    """A table on stdout; nothing at all for no engines."""
    rows = [_row(engine) for engine in engines]
    if not rows:
        return
    widths = [max(len(row[i]) for row in (HEAD, *rows)) for i in range(len(HEAD))]
    answer(
        [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (HEAD, *rows)
        ]
    )


def _row(engine: StoredEngine) -> tuple[str, ...]:
    key = engine.key
    # Residuals follow from the state: the first input says it all.
    first = "x".join(str(n) for n in key.shapes[0])
    others = f" +{len(key.shapes) - 1}" if len(key.shapes) > 1 else ""
    return (
        key.variant,
        key.part,
        first + others,
        key.precision,
        key.target,
        f"{engine.bytes / 2**20:.1f}",
        f"{engine.seconds:.1f}",
        engine.weights,
        f"{key.backend} {key.libraries.get(key.backend, '?')}",
    )
