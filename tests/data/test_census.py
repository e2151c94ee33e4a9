"""Census: counting the real cases, and when counts are used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel
import numpy as np
import pytest
from monai.data import Dataset
from monai.data import MetaTensor

from nvgen_aug.data.census import Census
from nvgen_aug.data.counting import census
from nvgen_aug.errors import DataError
from nvgen_aug.labels import LabelMap
from tests.data.censuses import counted

LABELS = {"organ": 1, "lesion": 2}


def case(*edges: int, scanner: str = "GE") -> dict[str, Any]:
    """A label with cubes of class 2 of these edges, in voxels of 2 mm."""
    label = np.zeros((1, 40, 20, 20), dtype=np.float32)
    label[0, :2, :2, :2] = 1
    for number, edge in enumerate(edges):
        begin = 4 + 10 * number
        label[0, begin : begin + edge, 4 : 4 + edge, 4 : 4 + edge] = 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return {"label": MetaTensor(label, affine=affine), "scanner": scanner}


class Reads:
    """Cases that count how often they are read."""

    def __init__(self, cases: list[Any], data: Any = None, transform: Any = None) -> None:
        self.cases, self.data, self.transform = cases, data, transform
        self.reads = 0

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.cases[index]


def test_classes_lesions_and_sizes_are_counted() -> None:
    found = census([case(2, 4), case(), case(3)], LABELS, columns=("scanner",))
    assert found.cases[0].volumes == {"organ": (64.0,), "lesion": (512.0, 64.0)}
    assert found.holds("lesion") == (True, False, True)
    assert found.holds("lesion < 6 mm") == (True, False, False)
    assert float(found.share("lesion >= 7 mm")) == pytest.approx(2 / 3)
    assert all(found.holds("scanner=GE"))
    lines = str(found).splitlines()
    assert lines[2].split() == ["lesion", "2", "67%", "3", "1.5", "5.0", "7.4", "9.9"]


def test_names_come_from_a_label_map_and_columns_from_a_table() -> None:
    labels = LabelMap({"lesion": 2}, others="background")
    found = census([case(2), case()], labels, columns={"site": ["A", 7]})
    assert list(found.labels) == ["lesion"]
    assert found.holds("site=7") == (False, True)


def test_a_census_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    found = census([case(2, 4), case()], LABELS, columns=("scanner",))
    found.save(tmp_path / "census.json")
    assert Census.load(tmp_path / "census.json") == found


def test_progress_is_told_case_by_case() -> None:
    told: list[tuple[int, int]] = []
    census([case(), case()], LABELS, report=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def files(folder: Path, *edges: int) -> list[dict[str, str]]:
    """Label files on disk, with a cube of this edge each."""
    listed = []
    for number, edge in enumerate(edges):
        path = folder / f"case_{number}.nii.gz"
        label = case(edge)["label"].numpy()[0].astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(label, np.diag([2.0, 2.0, 2.0, 1.0])), path)
        listed.append({"label": str(path)})
    return listed


LOAD = [mt.LoadImaged("label"), mt.EnsureChannelFirstd("label")]


def test_a_case_whose_file_is_as_before_is_not_read_again(tmp_path: Path) -> None:
    data = files(tmp_path, 2, 3, 4)
    kept = tmp_path / "census.json"
    real = Dataset(data, mt.Compose(LOAD))
    first = census(real, LABELS, path=kept)
    assert first.cases[1].name.endswith("case_1.nii.gz")
    again = Reads([], data, real.transform)
    again.cases = [None] * 3
    assert census(again, LABELS, path=kept) == first
    assert again.reads == 0


def test_a_case_whose_file_changed_is_counted_anew(tmp_path: Path) -> None:
    kept = tmp_path / "census.json"
    data = files(tmp_path, 2, 3)
    first = census(Dataset(data, mt.Compose(LOAD)), LABELS, path=kept)
    files(tmp_path, 5, 3)
    loaded = [Dataset(data, mt.Compose(LOAD))[i] for i in range(2)]
    real = Reads(loaded, data, mt.Compose(LOAD))
    second = census(real, LABELS, path=kept)
    assert second.cases[0].volumes["lesion"] != first.cases[0].volumes["lesion"]
    assert second.cases[0].volumes["lesion"] == (1000.0,)


def test_another_transform_counts_anew(tmp_path: Path) -> None:
    kept = tmp_path / "census.json"
    data = files(tmp_path, 4)
    census(Dataset(data, mt.Compose(LOAD)), LABELS, path=kept)
    coarse = mt.Compose([*LOAD, mt.Spacingd("label", (4.0, 4.0, 4.0), mode="nearest")])
    found = census(Dataset(data, coarse), LABELS, path=kept)
    assert found == census(Dataset(data, coarse), LABELS)


def test_cases_in_memory_are_known_by_their_voxels(tmp_path: Path) -> None:
    kept = tmp_path / "census.json"
    census([case(2), case(3)], LABELS, path=kept)
    values = json.loads(kept.read_text())
    values["cases"][0]["volumes"]["lesion"] = [1.0]
    kept.write_text(json.dumps(values))
    found = census([case(2), case(4)], LABELS, path=kept)
    # The first is as it was, so what is kept of it counts; the second is another one.
    assert found.cases[0].volumes["lesion"] == (1.0,)
    assert found.cases[1].volumes["lesion"] == (512.0,)
    anew = census([case(2)], {"lesion": 2}, path=kept)
    assert anew.cases[0].volumes["lesion"] == (64.0,)


@pytest.mark.parametrize(
    ("real", "arguments", "text"),
    [
        ([{"image": 0}], {}, "real case 0 must be a mapping with `label`"),
        ([{"label": np.zeros((1, 4, 4, 4))}], {}, "without spacing.*pass `spacing=`"),
        ([{"label": np.zeros((4, 4, 4))}], {"spacing": (1.0, 1.0, 1.0)}, r"\[1, X, Y, Z\]"),
        ([case()], {"columns": ("site",)}, r"no entry `site`; it has \['label', 'scanner'\]"),
        ([case()], {"columns": {"site": []}}, "a value for each of 1 cases, got 0"),
        ([case()], {"columns": "site"}, "must be a list of names or a mapping"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    real: list[Any], arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        census(real, LABELS, **arguments)


def test_a_class_that_was_not_counted_is_refused_with_a_close_one() -> None:
    with pytest.raises(DataError, match="no class `leson`; did you mean `lesion`"):
        counted([[4.0]]).holds("leson")
    with pytest.raises(DataError, match="no column `site`; none was counted"):
        counted([[4.0]]).holds("site=A")


def test_a_file_that_is_no_census_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "census.json"
    path.write_text("[]")
    with pytest.raises(DataError, match=r"cannot be read as a census.*nvgen-aug census"):
        Census.load(path)
    path.write_text('{"version": 99}')
    with pytest.raises(DataError, match="census of version 99, expected 1"):
        Census.load(path)
