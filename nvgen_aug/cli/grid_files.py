"""Grid files: factors as `--vary` has them, and a table of which volume has which."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..card import VariantCard
from ..errors import DataError
from ..errors import SpecError
from ..grid import GridCell
from ..whole_file import replacing
from .volume_files import VolumeFiles

TABLE = "grid.csv"


def factors_of(varied: Sequence[str]) -> dict[str, list[Any]]:
    """Factors and their values, from texts such as `spacing=1,1x1x3`.

    Raises:
        SpecError: for a text of another form, or a factor that is named twice.
    """
    factors: dict[str, list[Any]] = {}
    for text in varied:
        name, equals, values = text.partition("=")
        name = name.strip()
        if not equals or not name or not values.strip():
            msg = f"--vary is written NAME=VALUE,VALUE, such as spacing=1,1x1x3, got `{text}`"
            raise SpecError(msg)
        if name in factors:
            msg = f"--vary names `{name}` twice; give all its values at once"
            raise SpecError(msg)
        factors[name] = [_value(value.strip()) for value in values.split(",")]
    return factors


def write_table(
    folder: Path, volumes: Sequence[tuple[VolumeFiles, GridCell]], card: VariantCard
) -> Path:
    """Write which volume has which values of the factors, one line each.

    Raises:
        DataError: if the folder cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "draw", *volumes[0][1].factors, "seed", "uid"])
    for files, cell in volumes:
        image = files.image.relative_to(folder).as_posix()
        uid = card.volume_key(cell.spec)
        table.writerow([image, cell.base, *cell.texts.values(), cell.spec.seed, uid])
    path = folder / TABLE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror}; choose another folder"
        raise DataError(msg) from error
    return path


def _value(text: str) -> Any:
    """A number, several with `x` between them, a word, or `default`."""
    if text.lower() in ("default", "none"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    numbers = [_number(part) for part in text.split("x")]
    if any(number is None for number in numbers):
        return text
    return numbers[0] if len(numbers) == 1 else numbers


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
