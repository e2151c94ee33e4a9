"""The contact sheet: what is promised about rows, sides, windows and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvgen_aug.errors import DataError
from nvgen_aug.evaluation.contact_sheet import LAST
from nvgen_aug.evaluation.contact_sheet import PALETTE
from nvgen_aug.evaluation.contact_sheet import SheetRow
from nvgen_aug.evaluation.contact_sheet import contact_sheet
from nvgen_aug.evaluation.planes import View


def ball() -> tuple[np.ndarray, np.ndarray]:
    """A grey ball with one bright voxel towards the patient's right, front and top."""
    grid = np.indices((24, 24, 24)) - 11.5
    inside = (grid**2).sum(axis=0) < 100
    image = np.where(inside, 500, 0).astype(np.int16)
    label = inside.astype(np.uint8)
    label[16:18, 15:17, 14:16] = 2
    image[label == 2] = 900
    return image, label


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def is_near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=-1) < 70


def test_planes_show_right_on_the_left_and_front_and_top_up() -> None:
    image, label = ball()
    axial, coronal, sagittal = View.of(image, label, (1, 1, 1)).planes
    for plane in (axial, coronal, sagittal):
        rows, columns = np.nonzero(plane.label == 2)
        assert rows.mean() < (plane.grey.shape[0] - 1) / 2
        assert columns.mean() < (plane.grey.shape[1] - 1) / 2
        np.testing.assert_array_equal(plane.grey > 0.9, plane.label == 2)
    assert [(p.left, p.up) for p in (axial, coronal, sagittal)] == [
        ("R", "A"),
        ("R", "S"),
        ("A", "S"),
    ]


def test_the_planes_go_through_the_rarest_label() -> None:
    image, label = ball()
    for plane in View.of(image, label, (1, 1, 1)).planes:
        assert plane.label is not None
        assert (plane.label == 2).any()


def test_the_planes_go_where_they_are_told() -> None:
    image, label = ball()
    axial, _, _ = View.of(image, label, (1, 1, 1), focus=(12, 12, 5)).planes
    assert axial.label is not None
    assert not (axial.label == 2).any()


def test_grey_runs_over_the_foreground_whatever_the_units() -> None:
    image, label = ball()
    ramp = (image * np.linspace(0.5, 1, 24)[:, None, None]).astype(np.float32)
    one, two = (View.of(a, label, (1, 1, 1)).planes[0].grey for a in (ramp, ramp * 40 - 1000))
    np.testing.assert_allclose(one, two, atol=1e-3)
    assert 0.9 < np.clip(one, 0, 1).max() <= 1


def test_height_follows_spacing() -> None:
    image, label = ball()
    flat, tall = (View.of(image, label, (1, 1, mm)).planes[1].millimetres for mm in (1, 3))
    assert tall == (flat[0] * 3, flat[1])


def test_contours_have_the_colours_of_the_legend(tmp_path: Path) -> None:
    image, label = ball()
    path = contact_sheet([SheetRow("a", image, label)], tmp_path / "a.png")
    assert is_near(pixels(path), PALETTE[0]).sum() > 200
    assert is_near(pixels(path), LAST).sum() > 50


def test_a_volume_without_label_has_no_colours(tmp_path: Path) -> None:
    picture = pixels(contact_sheet([SheetRow("a", ball()[0])], tmp_path / "a.png"))
    spread = picture.max(axis=-1).astype(int) - picture.min(axis=-1)
    assert spread.max() < 30


@pytest.mark.parametrize(
    ("number", "columns", "rows"), [(1, 1, 1), (3, 1, 3), (3, 2, 2), (4, 2, 2)]
)
def test_a_sheet_has_as_many_lines_as_promised(
    tmp_path: Path, number: int, columns: int, rows: int
) -> None:
    image, _ = ball()
    path = contact_sheet(
        [SheetRow(f"volume {k}", image) for k in range(number)],
        tmp_path / "a.png",
        columns=columns,
        height=100,
    )
    height, width, _ = pixels(path).shape
    assert height == 14 + rows * (22 + 100 + 14)
    assert width == 28 + columns * (3 * 100 + 2 * 4) + (columns - 1) * 28


def test_the_same_volumes_give_the_same_file_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    row = SheetRow("a", *ball(), caption="32 × 32 × 32 voxels · lesion ≥ 3 mm")
    one = contact_sheet([row], tmp_path / "one" / "a.png").read_bytes()
    assert contact_sheet([row], tmp_path / "two" / "a.png").read_bytes() == one
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.png"]


@pytest.mark.parametrize("image", [np.zeros((8, 8, 8)), np.full((8, 8, 8), np.nan)])
def test_a_volume_without_contrast_is_drawn_all_the_same(tmp_path: Path, image: np.ndarray) -> None:
    assert contact_sheet([SheetRow("empty", image)], tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "needs at least one volume, got none"),
        ([SheetRow("flat", np.zeros((8, 8)))], r"`flat` must be a volume \[X, Y, Z\]"),
        (
            [SheetRow("odd", np.zeros((8, 8, 8)), np.zeros((8, 8, 9), np.uint8))],
            "image and label of `odd` must lie on one grid",
        ),
        (
            [SheetRow("turned", np.zeros((8, 6, 4)), np.zeros((4, 6, 8), np.uint8))],
            "image and label of `turned` must lie on one grid",
        ),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, rows: list[SheetRow], text: str) -> None:
    with pytest.raises(DataError, match=text):
        contact_sheet(rows, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
