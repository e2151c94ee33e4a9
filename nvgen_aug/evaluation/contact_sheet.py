"""ContactSheet: volumes side by side in three planes, with their labels, as one PNG."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import final

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from ..errors import DataError
from ..whole_file import replacing
from .planes import Colour
from .planes import Plane
from .planes import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND = (15, 17, 21)
PANEL = (0, 0, 0)
TITLE = (236, 239, 244)
CAPTION = (148, 156, 170)
# Told apart on black and by most colour-blind readers; small structures come last, so the
# last label is given the warm red of `LAST`, which nothing else in a grey image has.
PALETTE: tuple[Colour, ...] = (
    (86, 180, 233),
    (240, 190, 70),
    (90, 200, 140),
    (204, 121, 190),
    (160, 150, 255),
    (230, 159, 90),
    (120, 220, 220),
    (190, 200, 90),
)
LAST: Colour = (255, 72, 66)
# The font that Pillow brings along has Latin letters only.
_PLAIN = str.maketrans(
    {"×": "x", "≥": ">=", "≤": "<=", "–": "-", "—": "-", "→": "->", "²": "2", "³": "3", "−": "-"}
)
_PAD = 14
_GAP = 4


@final
@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One volume on a sheet.

    Args:
        title: One line above the planes, such as the name of the volume.
        image: `[X, Y, Z]` or `[1, X, Y, Z]`, any numbers, axes towards R, A and S.
        label: Integers of the same shape, or `None`.
        caption: A second, quieter line.
        spacing: mm per voxel.
        focus: Voxel through which the planes go; `None` takes the middle of the
            largest part of the rarest label, if that is rare, else of what is labelled.
    """

    title: str
    image: NDArray[np.generic]
    label: NDArray[np.generic] | None = None
    caption: str = ""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    focus: tuple[int, int, int] | None = None


def contact_sheet(
    rows: Sequence[SheetRow],
    path: str | Path,
    *,
    names: Mapping[int, str] | None = None,
    columns: int = 1,
    height: int = 200,
    beside: bool | None = None,
    heading: str = "",
) -> Path:
    """Draw volumes in three planes each and write them as one PNG.

    Axial and coronal planes are shown as radiologists do, the patient's right on
    the left; anterior and superior are up, and a sagittal plane looks left. Grey
    values run between robust percentiles of each volume's foreground; all volumes
    of a sheet have the same millimetres per pixel.

    Args:
        rows: The volumes, filled into the columns from left to right.
        path: Where the PNG goes; it appears whole or not at all.
        names: Names of the label ids for the legend; without one, `label 3`.
        columns: Volumes beside each other.
        height: Pixels of the tallest plane.
        beside: Whether each plane is shown twice, plain and with its label, instead of
            once with the label over it; `None` does so if there is one column.
        heading: A line above all volumes, such as what rows and columns are.

    Returns:
        The path.

    Raises:
        DataError: if there is nothing to show, or an array is not a volume.
    """
    if not rows:
        msg = "a contact sheet needs at least one volume, got none"
        raise DataError(msg)
    for row in rows:
        _check(row)
    beside = columns == 1 if beside is None else beside
    ids = sorted({int(i) for row in rows if row.label is not None for i in np.unique(row.label)})
    colours = _colours(ids if names is None else [i for i in sorted({*names, *ids}) if i])
    views = [View.of(row.image, row.label, row.spacing, row.focus) for row in rows]
    frame = _Frame.around(views, height)
    cells = [
        _cell(row, view, frame, colours, beside) for row, view in zip(rows, views, strict=True)
    ]
    legend = _legend({i: (names or {}).get(i, f"label {i}") for i in ids if i}, colours)
    return _write(_arrange(cells, columns, legend, _heading(heading)), Path(path))


@final
@dataclass(frozen=True, slots=True)
class _Frame:
    """Room for each plane, the same for all volumes of a sheet."""

    pixels_per_mm: float
    height: int
    widths: tuple[int, ...]

    @classmethod
    def around(cls, views: Sequence[View], height: int) -> _Frame:
        tallest = max(plane.millimetres[0] for view in views for plane in view.planes)
        scale = height / tallest
        columns = zip(*(view.planes for view in views), strict=True)
        widest = (max(plane.millimetres[1] for plane in column) for column in columns)
        return cls(scale, height, tuple(round(mm * scale) for mm in widest))


def _check(row: SheetRow) -> None:
    shape = row.image.shape
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or 0 in shape:
        msg = f"`{row.title}` must be a volume [X, Y, Z], got shape {row.image.shape}"
        raise DataError(msg)
    if row.label is not None and row.label.shape not in (shape, (1, *shape)):
        msg = (
            f"image and label of `{row.title}` must lie on one grid, "
            f"got {row.image.shape} and {row.label.shape}"
        )
        raise DataError(msg)


def _colours(ids: Sequence[int]) -> dict[int, Colour]:
    ids = [i for i in ids if i]
    table = {value: PALETTE[place % len(PALETTE)] for place, value in enumerate(ids)}
    if len(ids) > 1:
        table[ids[-1]] = LAST
    return table


def _cell(
    row: SheetRow, view: View, frame: _Frame, colours: Mapping[int, Colour], beside: bool
) -> Image.Image:
    panels = list(_panels(row, view, frame, colours, beside))
    head = 22 + (17 if row.caption else 0)
    wide = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    texts = (
        (row.title.translate(_PLAIN), _font(15), TITLE),
        (row.caption.translate(_PLAIN), _font(12), CAPTION),
    )
    wide = max(wide, *(round(font.getlength(text)) for text, font, _ in texts))
    cell = Image.new("RGB", (wide, head + frame.height), BACKGROUND)
    draw = ImageDraw.Draw(cell)
    for line, (text, font, colour) in enumerate(texts):
        draw.text((0, 20 * line), text, font=font, fill=colour)
    left = 0
    for panel in panels:
        cell.paste(panel, (left, head))
        left += panel.width + _GAP
    return cell


def _panels(
    row: SheetRow, view: View, frame: _Frame, colours: Mapping[int, Colour], beside: bool
) -> Iterator[Image.Image]:
    has_pair = beside and row.label is not None
    for inks in ({}, colours) if has_pair else (colours,):
        for plane, wide in zip(view.planes, frame.widths, strict=True):
            picture = plane.drawn(frame.pixels_per_mm, inks)
            panel = Image.new("RGB", (wide, frame.height), PANEL)
            panel.paste(
                picture, ((wide - picture.width) // 2, (frame.height - picture.height) // 2)
            )
            if not (has_pair and inks):
                _mark(panel, plane)
            yield panel


def _mark(panel: Image.Image, plane: Plane) -> None:
    """Which side the left edge and the upper edge of a plane are."""
    draw = ImageDraw.Draw(panel)
    draw.text((4, panel.height // 2), plane.left, font=_font(11), fill=CAPTION, anchor="lm")
    draw.text((panel.width // 2, 3), plane.up, font=_font(11), fill=CAPTION, anchor="mt")


def _legend(names: Mapping[int, str], colours: Mapping[int, Colour]) -> Image.Image | None:
    if not names:
        return None
    font = _font(13)
    wide = sum(round(font.getlength(name)) + 38 for name in names.values())
    legend = Image.new("RGB", (wide, 20), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    left = 0
    for value, name in names.items():
        draw.rounded_rectangle((left, 4, left + 12, 16), radius=3, fill=colours[value])
        draw.text((left + 18, 10), name, font=font, fill=TITLE, anchor="lm")
        left += round(font.getlength(name)) + 38
    return legend


def _heading(text: str) -> Image.Image | None:
    if not text:
        return None
    plain = text.translate(_PLAIN)
    heading = Image.new("RGB", (round(_font(15).getlength(plain)) + 2, 22), BACKGROUND)
    ImageDraw.Draw(heading).text((0, 2), plain, font=_font(15), fill=TITLE)
    return heading


def _arrange(
    cells: Sequence[Image.Image],
    columns: int,
    legend: Image.Image | None,
    heading: Image.Image | None = None,
) -> Image.Image:
    columns = max(1, min(columns, len(cells)))
    lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    wides = [max(cell.width for cell in cells[column::columns]) for column in range(columns)]
    talls = [max(cell.height for cell in line) for line in lines]
    wide = sum(wides) + 2 * _PAD * (columns - 1)
    tall = sum(talls) + _PAD * (len(lines) - 1)
    if legend is not None:
        wide, tall = max(wide, legend.width), tall + _PAD + legend.height
    if heading is not None:
        wide, tall = max(wide, heading.width), tall + _PAD + heading.height
    sheet = Image.new("RGB", (wide + 2 * _PAD, tall + 2 * _PAD), BACKGROUND)
    top = _PAD
    if heading is not None:
        sheet.paste(heading, (_PAD, top))
        top += heading.height + _PAD
    for line, line_tall in zip(lines, talls, strict=True):
        left = _PAD
        for cell, cell_wide in zip(line, wides, strict=False):
            sheet.paste(cell, (left, top))
            left += cell_wide + 2 * _PAD
        top += line_tall + _PAD
    if legend is not None:
        sheet.paste(legend, (_PAD, top))
    return sheet


def _write(sheet: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        sheet.save(partial, format="PNG", compress_level=6)
    return path


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow brings this font along, so a sheet looks alike on every machine.
    return ImageFont.load_default(size)
