"""What a request leaves open is completed from patients, if their sizes were imported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.manifest import Manifest
from nvgen_aug.generators.maisi.masks import diffused_mask as module
from nvgen_aug.generators.maisi.masks.size_table import nearest_patient
from nvgen_aug.generators.maisi.masks.size_table import patient_like
from nvgen_aug.generators.maisi.masks.size_table import read_size_table
from nvgen_aug.generators.maisi.masks.size_vector import SIZED_NAMES
from nvgen_aug.generators.maisi.masks.size_vector import SIZED_ORGANS
from nvgen_aug.generators.maisi.masks.size_vector import SIZED_TUMOURS
from nvgen_aug.generators.maisi.masks.size_vector import size_vector
from nvgen_aug.generators.maisi.releases import MASK_NETWORKS
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.spec import VolumeSpec
from tests.generators.released import NARROW
from tests.generators.released import SIZE_TABLE_PATH
from tests.generators.released import write_size_table

RFLOW = NARROW["rflow-ct"]


def patients(number: int = 200, seed: int = 0) -> Any:
    """Liver and stomach of one size each, and a hepatic tumour in every fourth."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0, 1, (number, len(SIZED_NAMES))).round(4)
    table[:, SIZED_NAMES.index("stomach")] = table[:, SIZED_NAMES.index("liver")]
    table[:, len(SIZED_ORGANS) :] = -1
    table[::4, SIZED_NAMES.index("hepatic tumor")] = 0.3
    return table


def test_the_released_file_is_read_to_the_digit(tmp_path: Path) -> None:
    table = patients()
    table[3, 9] = 3.99  # they may exceed 1
    np.testing.assert_array_equal(read_size_table(write_size_table(tmp_path, table)), table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "cannot read the table of sizes"),
        ("[" * 100_000, "cannot read the table of sizes"),
        ("{}", "must be a list of entries with `organ_size`"),
        ("[]", "must be a list of entries with `organ_size`"),
        (json.dumps([{"organ_size": [0.5] * 10}, {"size": 3}]), "entry 1 must have `organ_size`"),
        (json.dumps([{"organ_size": [0.5] * 9}]), "entry 0 must have .* 10 numbers, gallbladder"),
        (json.dumps([{"organ_size": [float("nan")] * 10}]), "entry 0"),
        (json.dumps([{"organ_size": [True] * 10}]), "entry 0"),
        (json.dumps([3]), "entry 0"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sizes.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=f"{path.name}.*{said}|{said}.*{path.name}"):
        read_size_table(path)


def test_reference_takes_the_first_of_the_nearest_patients() -> None:
    table = patients()
    table[7] = table[9]
    found = nearest_patient(table, {"liver": table[9, 1], "colon": table[9, 4]})
    assert list(found.values()) == table[7].tolist()


def test_a_patient_like_the_request_lends_what_was_not_asked() -> None:
    table = patients()
    for seed in range(30):
        found = patient_like(table, {"liver": 0.8}, (), np.random.default_rng(seed))
        assert found["liver"] == found["stomach"]  # they belong to one patient
        assert abs(found["stomach"] - 0.8) < 0.1
        assert all(found[name] == -1 for name in SIZED_TUMOURS)


def test_which_of_them_is_drawn_evenly() -> None:
    table = patients()
    rng = np.random.default_rng(0)
    colons = [patient_like(table, {"liver": 0.8}, (), rng)["colon"] for _ in range(1600)]
    _, counts = np.unique(colons, return_counts=True)
    assert len(counts) == 16
    assert counts.min() > 60
    anybody = {patient_like(table, {}, (), rng)["colon"] for _ in range(3000)}
    assert anybody == set(table[:, SIZED_NAMES.index("colon")])


def test_who_lacks_what_is_needed_is_passed_over() -> None:
    table, rng = patients(), np.random.default_rng(0)
    needed = ("hepatic tumor",)
    for _ in range(30):
        assert patient_like(table, {}, needed, rng)["hepatic tumor"] == 0.3
    assert patient_like(table, {}, ("bone lesion",), rng)["bone lesion"] == -1


def test_a_needed_tumour_that_no_patient_has_gets_a_size() -> None:
    patient = dict.fromkeys(SIZED_NAMES, -1.0)
    sizes = size_vector({"liver": 0.5}, ("bone lesion", "colon"), np.random.default_rng(0), patient)
    told = dict(zip(SIZED_NAMES, sizes, strict=True))
    assert told["liver"] == 0.5
    assert told["bone lesion"] >= 0
    assert told["colon"] >= 0
    assert told["stomach"] == told["hepatic tumor"] == -1


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """The networks' place is taken by a body with a liver; the list gets what they were told."""
    label = np.full((32, 32, 32), 200, np.uint8)
    label[8:20, 8:20, 6:16] = 1
    found: list[tuple[float, ...]] = []

    def draw(self: Any, sizes: tuple[float, ...], *_: Any, **__: Any) -> Any:
        found.append(sizes)
        return label.copy()

    monkeypatch.setattr(module.MaskModel, "draw", draw)
    monkeypatch.setattr(module.MaskModel, "draw_as_reference", draw)
    return found


def test_an_imported_table_reaches_the_networks(
    release: Path, tmp_path: Path, told: list[tuple[float, ...]]
) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "models").symlink_to(release / "models")
    without = import_weights(RFLOW, FolderSource(folder), tmp_path / "home")
    table = patients()
    write_size_table(folder, table)
    manifest = import_weights(RFLOW, FolderSource(folder), tmp_path / "home")
    assert manifest.digest != without.digest
    assert Manifest.read(tmp_path / "home" / "manifest.json") == manifest
    made = MaisiGenerator(RFLOW, weights=tmp_path / "home")
    exact_one = VolumeSpec("rflow-ct", seed=4, organ_sizes=(("liver", 0.5),))
    for spec in (exact_one, replace(exact_one, numerics="reference")):
        made.latent(made.card.resolve(spec))
    exact, reference = (dict(zip(SIZED_NAMES, sizes, strict=True)) for sizes in told)
    assert exact["liver"] == reference["liver"] == 0.5
    stored = dict(zip(SIZED_NAMES, table[np.abs(table[:, 1] - 0.5).argmin()].tolist(), strict=True))
    assert reference == {**stored, "liver": 0.5}
    assert exact["colon"] in table[:, SIZED_NAMES.index("colon")]
    assert exact["hepatic tumor"] == -1


def test_without_mask_networks_no_table_is_taken_along(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "models").symlink_to(release / "models")
    write_size_table(folder, patients())
    source = FolderSource(folder)
    manifest = import_weights(RFLOW, source, tmp_path / "home", without=MASK_NETWORKS)
    assert manifest.part("size_table") is None
    assert (folder / SIZE_TABLE_PATH).is_file()
