"""A bank of masks: indexed once, each spec bound to one by its seed, clear when nothing fits."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.card import VariantCard
from nvgen_aug.errors import DataError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi import variants
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.masks.bank.bank import MaskBank
from nvgen_aug.generators.maisi.masks.bank.indexing import Indexed
from nvgen_aug.generators.maisi.masks.bank.indexing import index_masks
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.recipe import Recipe
from nvgen_aug.serving import Engine
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.generators.released import NARROW
from tests.generators.released import install

VARIANT = NARROW["rflow-ct"]
MM = 8.0
LIVER, TUMOUR, LUNG_TUMOUR, LOBE, BRAIN, BODY = 1, 26, 23, 28, 22, 200


def torso(*extra: int, at: int = 10) -> NDArray[np.uint8]:
    """A body with liver and lung, and cubes of what else is named."""
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:28, 4:28, 2:30] = BODY
    label[8:24, 8:24, 4:14] = LIVER
    label[8:24, 8:24, 16:26] = LOBE
    for number, value in enumerate(extra):
        label[at + 4 * number : at + 3 + 4 * number, 10:13, 8:11] = value
    return label


def write(path: Path, label: NDArray[Any], mm: float = MM, flip: bool = False) -> Path:
    affine = np.diag([mm, mm, mm, 1.0])
    if flip:
        label, affine = label[::-1], affine @ np.diag([-1.0, 1, 1, 1])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(label), affine), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("masks")
    write(place / "healthy.nii.gz", torso())
    write(place / "flipped.nii", torso(at=12), flip=True)
    write(place / "deep" / "ill.nii.gz", torso(TUMOUR))
    write(place / "both.nii.gz", torso(TUMOUR, LUNG_TUMOUR))
    write(place / "fine.nii.gz", np.repeat(np.repeat(np.repeat(torso(), 2, 0), 2, 1), 2, 2), 4.0)
    return place


@pytest.fixture(scope="module")
def indexed(folder: Path) -> Indexed:
    return index_masks(folder, VARIANT)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> MaisiGenerator:
    return MaisiGenerator(VARIANT, weights=install(tmp_path_factory.mktemp("weights"), VARIANT))


@pytest.fixture(scope="module")
def card(generator: MaisiGenerator, indexed: Indexed) -> VariantCard:
    return indexed.bank.card(generator.card)


@pytest.fixture
def bound(indexed: Indexed, card: VariantCard) -> Callable[..., str]:
    def name(seed: int = 0, **asked: Any) -> str:
        spec = indexed.bank.bound(VolumeSpec("rflow-ct", seed=seed, **asked), card)
        (entry,) = (e for e in indexed.bank.entries if e.digest == spec.mask)
        return entry.name

    return name


def test_an_index_knows_of_each_mask_what_is_in_it(indexed: Indexed, folder: Path) -> None:
    (entry,) = (e for e in indexed.bank.entries if e.name == "deep/ill.nii.gz")
    file = folder / "deep" / "ill.nii.gz"
    assert entry.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry.bytes == file.stat().st_size
    assert entry.digest == Blob(torso(TUMOUR), np.diag([MM, MM, MM, 1.0])).digest()
    assert (entry.size, entry.spacing) == ((32, 32, 32), (MM, MM, MM))
    assert entry.labels["hepatic tumor"] == 27 * MM**3
    assert entry.boxes["hepatic tumor"] == (10, 10, 8, 13, 13, 11)
    assert entry.tumours["hepatic tumor"] == pytest.approx([(6 * 27 / np.pi) ** (1 / 3) * MM], 1e-4)
    assert entry.region == ("chest", "abdomen")


def test_a_mask_in_another_orientation_is_indexed_as_it_will_be_used(indexed: Indexed) -> None:
    (entry,) = (e for e in indexed.bank.entries if e.name == "flipped.nii")
    blob = indexed.bank.blob(entry.digest)
    assert blob is not None
    np.testing.assert_array_equal(blob.array, torso(at=12))
    assert (np.diag(blob.affine)[:3] > 0).all()


def test_an_index_is_read_as_it_was_written_wherever_both_are_moved(
    folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "here" / "masks"
    write(place / "a.nii.gz", torso())
    made = index_masks(place, VARIANT).bank
    made.save(tmp_path / "here" / "index.json")
    (tmp_path / "here").rename(tmp_path / "there")
    again = MaskBank.open(tmp_path / "there" / "index.json")
    assert (again.entries, again.digest) == (made.entries, made.digest)
    assert again.blob(made.entries[0].digest) is not None


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.nii.gz", torso())
    write(tmp_path / "b.nii.gz", torso(TUMOUR))
    first = index_masks(tmp_path, VARIANT).bank
    write(tmp_path / "b.nii.gz", torso(TUMOUR, LUNG_TUMOUR))
    second = index_masks(tmp_path, VARIANT, earlier=first.entries)
    assert second.kept == 1
    assert "lung tumor" in second.bank.entries[1].labels


def test_many_masks_at_a_time_give_the_same_index(indexed: Indexed, folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = index_masks(folder, VARIANT, threads=3, on_mask=lambda *a: seen.append(a))
    assert made.bank.entries == indexed.bank.entries
    assert seen == [(n, 5) for n in range(1, 6)]


def test_files_that_cannot_be_used_are_left_out_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "good.nii.gz", torso())
    write(tmp_path / "halves.nii.gz", torso().astype(np.float32) / 2)
    write(tmp_path / "strange.nii.gz", torso(222))
    write(tmp_path / "empty.nii.gz", torso() * np.uint8(0))
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:300])
    (tmp_path / "text.nii").write_text("no mask")
    made = index_masks(tmp_path, VARIANT)
    assert [entry.name for entry in made.bank.entries] == ["good.nii.gz"]
    assert set(made.skipped) == {
        *("halves.nii.gz", "strange.nii.gz", "empty.nii.gz", "torn.nii.gz", "text.nii")
    }
    assert "222 (27 voxels)" in made.skipped["strange.nii.gz"]
    assert "no whole numbers" in made.skipped["halves.nii.gz"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "text.nii").rename(tmp_path / "alone" / "text.nii")
    with pytest.raises(DataError, match=r"none of 1 masks .* can be used; the first: `text.nii`"):
        index_masks(tmp_path / "alone", VARIANT)


def test_a_folder_without_masks_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no .nii or .nii.gz"):
        index_masks(tmp_path, VARIANT)


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def content(label: NDArray[np.uint8], folder: Path) -> bytes:
    return write(folder / "one.nii.gz", label).read_bytes()


def listed(path: Path, *names: str, **more: Any) -> Path:
    rows = [{"pseudo_label_filename": name, "dim": [1, 1, 1], **more} for name in names]
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("is_packed", [True, False])
def test_the_released_list_is_indexed_with_the_masks_beside_it(
    tmp_path: Path, is_packed: bool
) -> None:
    name = "all_masks_flexible_size_and_spacing_4000"
    if is_packed:
        packed = content(torso(TUMOUR), tmp_path)
        zipped(tmp_path / f"{name}.zip", **{"./Task06/a.nii.gz": packed, "odd.nii.gz": b"no"})
    else:
        write(tmp_path / name / "Task06" / "a.nii.gz", torso(TUMOUR))
    made = index_masks(listed(tmp_path / "candidates.json", "./Task06/a.nii.gz"), VARIANT).bank
    assert [entry.name for entry in made.entries] == ["Task06/a.nii.gz"]
    made.save(tmp_path / "index.json")
    blob = MaskBank.open(tmp_path / "index.json").blob(made.entries[0].digest)
    assert blob is not None
    np.testing.assert_array_equal(blob.array, torso(TUMOUR))


def test_the_list_tells_the_region_where_the_labels_do_not(tmp_path: Path) -> None:
    label = torso()
    label[(label == LIVER) | (label == LOBE)] = 122  # a sternum
    write(tmp_path / "masks" / "a.nii.gz", label)
    regions = {"top_region_index": [0, 1, 0, 0], "bottom_region_index": [0, 0, 1, 0]}
    path = listed(tmp_path / "list.json", "a.nii.gz", **regions)
    made = index_masks(path, VARIANT, files=tmp_path / "masks").bank
    assert made.entries[0].region == ("chest", "abdomen")


def test_a_list_that_names_missing_masks_names_them(tmp_path: Path) -> None:
    write(tmp_path / "masks" / "a.nii.gz", torso())
    path = listed(tmp_path / "list.json", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    with pytest.raises(DataError, match=r"2 of 3 masks .* missing: `b.nii.gz`, `c.nii.gz`; fetch"):
        index_masks(path, VARIANT, files=tmp_path / "masks")


def test_a_list_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    path = listed(tmp_path / "list.json", "../secret.nii.gz")
    with pytest.raises(DataError, match="leads out of the folder"):
        index_masks(path, VARIANT, files=tmp_path)


def test_something_else_than_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="pseudo_label_filename"):
        index_masks(tmp_path / "list.json", VARIANT, files=tmp_path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/a.nii.gz", "absolute path"),
        ("C:\\a.nii.gz", "absolute path"),
        ("a/../../b.nii.gz", "leads out"),
    ],
)
def test_an_archive_whose_names_lead_elsewhere_is_refused(
    tmp_path: Path, name: str, why: str
) -> None:
    path = zipped(tmp_path / "a.zip", **{name: b"x"})
    with pytest.raises(DataError, match=why):
        index_masks(path, VARIANT)


def test_an_archive_with_a_link_or_a_giant_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.nii.gz")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        index_masks(tmp_path / "link.zip", VARIANT)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("giant.nii.gz", b"x")
    told = bytearray(buffer.getvalue())
    place = told.index(b"PK\x01\x02") + 24  # what the directory says of the unpacked length
    told[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "giant.zip").write_bytes(told)
    with pytest.raises(DataError, match="bytes, more than the"):
        index_masks(tmp_path / "giant.zip", VARIANT)


def test_a_file_that_unpacks_without_end_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "good.nii.gz", torso())
    write(tmp_path / "long.nii.gz", np.ones((64, 64, 64), np.uint8))
    monkeypatch.setattr("nvgen_aug.generators.maisi.masks.bank.files.MAX_BYTES", 100_000)
    made = index_masks(tmp_path, VARIANT)
    assert list(made.skipped) == ["long.nii.gz"]
    assert "more than the 100000 bytes" in made.skipped["long.nii.gz"]


def test_a_seed_has_one_mask_and_seeds_have_several(bound: Callable[..., str]) -> None:
    names = [bound(seed, anatomy=("liver",)) for seed in range(20)]
    assert names == [bound(seed, anatomy=("liver",)) for seed in range(20)]
    assert set(names) == {"healthy.nii.gz", "flipped.nii"}


def test_tumours_that_were_not_asked_for_are_not_given(bound: Callable[..., str]) -> None:
    asked = {"anatomy": ("hepatic tumor",)}
    assert {bound(seed, **asked) for seed in range(10)} == {"deep/ill.nii.gz"}
    both = {"anatomy": ("liver tumor", "lung tumor")}
    assert {bound(seed, **both) for seed in range(5)} == {"both.nii.gz"}


def test_the_grid_asked_for_goes_before_others_that_are_resampled(
    bound: Callable[..., str], indexed: Indexed, card: VariantCard
) -> None:
    fine = {"size": (64, 64, 64), "spacing": (4.0, 4.0, 4.0)}
    assert {bound(seed, **fine) for seed in range(10)} == {"fine.nii.gz"}
    spec = indexed.bank.bound(VolumeSpec("rflow-ct", seed=0, **fine), card)  # type: ignore[arg-type]
    assert not spec.fit_mask
    other = indexed.bank.bound(VolumeSpec("rflow-ct", seed=0, spacing=(6.0, 6.0, 6.0)), card)
    assert other.fit_mask
    assert (other.size, other.spacing) == ((32, 32, 32), (6.0, 6.0, 6.0))


def test_a_tumour_that_would_be_lost_is_not_risked(bound: Callable[..., str]) -> None:
    with pytest.raises(SpecError, match="would lose `hepatic tumor` when resampled"):
        bound(anatomy=("hepatic tumor",), spacing=(1.0, 1.0, 1.0))


def test_the_region_is_asked_of_the_mask_and_then_read_from_it(
    indexed: Indexed, card: VariantCard
) -> None:
    asked = VolumeSpec("rflow-ct", seed=0, body_region=("chest", "chest"))
    assert indexed.bank.bound(asked, card).body_region is None
    with pytest.raises(SpecError, match="do not reach from head to chest"):
        indexed.bank.bound(replace(asked, body_region=("head", "chest")), card)


def test_when_nothing_fits_it_says_what_was_asked_what_failed_and_what_is_nearest(
    bound: Callable[..., str],
) -> None:
    with pytest.raises(
        SpecError,
        match=(
            r"fits `liver`, `lung tumor` at 32 x 32 x 32 voxels of 8 x 8 x 8 mm; of its 5, "
            r"4 lack `lung tumor`, 1 show tumours that were not asked for; the nearest is "
            r"`both.nii.gz` of 32 x 32 x 32 voxels"
        ),
    ):
        bound(anatomy=("liver", "lung tumor"))


def test_a_tumour_is_put_into_a_mask_that_has_its_host_and_no_tumour(
    bound: Callable[..., str],
) -> None:
    ill = {"pathology": (("hepatic tumor", 40.0),)}
    assert {bound(seed, **ill) for seed in range(10)} == {"healthy.nii.gz", "flipped.nii"}
    with pytest.raises(SpecError, match="5 have no place for `pancreatic tumor`"):
        bound(pathology=(("pancreatic tumor", 40.0),))


def test_a_spec_with_a_mask_of_its_own_stays_as_it_is(indexed: Indexed, card: VariantCard) -> None:
    own = VolumeSpec("rflow-ct", seed=0, mask="ab" * 32)
    assert indexed.bank.bound(own, card) == own


def test_an_unbound_spec_has_no_key(card: VariantCard) -> None:
    with pytest.raises(SpecError, match="bound to a mask"):
        card.volume_key(card.resolve(VolumeSpec("rflow-ct", seed=0)))


def test_a_bank_for_another_vocabulary_is_refused(indexed: Indexed, card: VariantCard) -> None:
    other = replace(card, vocabulary={"liver": 7})
    with pytest.raises(SpecError, match="index it with --variant"):
        indexed.bank.card(other)
    with pytest.raises(SpecError, match="makes images alone"):
        indexed.bank.card(replace(card, has_labels=False))


def test_volumes_of_a_bank_are_made_of_its_masks(
    generator: MaisiGenerator, indexed: Indexed, folder: Path
) -> None:
    recipe = Recipe(anatomy=("hepatic tumor",), augment_mask=True, steps=1)
    with Engine(generator, masks=indexed.bank) as engine:
        recipe.check(engine.card)
        assert recipe.gives_labels(engine.card)
        spec = engine.resolve(recipe.draw(np.random.default_rng(0), variant="rflow-ct"))
        volume = engine.fetch(spec)
    assert volume.label is not None
    assert spec.mask == Blob(torso(TUMOUR), np.diag([MM, MM, MM, 1.0])).digest()
    assert volume.provenance.mask_source == f"{spec.mask}: hepatic tumor moved"
    assert volume.provenance.spec == spec.to_json()


def test_a_mask_that_was_changed_after_the_index_is_refused(
    generator: MaisiGenerator, tmp_path: Path
) -> None:
    write(tmp_path / "a.nii.gz", torso())
    bank = index_masks(tmp_path, VARIANT).bank
    write(tmp_path / "a.nii.gz", torso(TUMOUR))
    with (
        Engine(generator, masks=bank) as engine,
        pytest.raises(DataError, match=r"`a.nii.gz` .* was changed since it was indexed"),
    ):
        engine.fetch(VolumeSpec("rflow-ct", seed=0))


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder in which the narrow variant is installed."""
    monkeypatch.setenv("NVGEN_AUG_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    install(tmp_path / "made", VARIANT).rename(tmp_path / "weights" / "rflow-ct")
    monkeypatch.setitem(variants.VARIANTS, "rflow-ct", VARIANT)  # type: ignore[arg-type]
    return tmp_path


def test_a_source_is_opened_with_a_bank(at_home: Path, folder: Path, indexed: Indexed) -> None:
    indexed.bank.save(at_home / "index.json")
    with open_source("rflow-ct", masks=at_home / "index.json", cache=at_home / "cache") as source:
        spec = source.resolve(VolumeSpec("rflow-ct", seed=1, anatomy=("liver",)))
        first = source.fetch(spec)
    # The mask is in the cache now, as if it had been put.
    with open_source("rflow-ct", cache=at_home / "cache") as source:
        again = source.fetch(replace(spec, seed=2))
    np.testing.assert_array_equal(again.label, first.label)
    with pytest.raises(SpecError, match="masks: for a variant only"):
        open_source("unix:/nowhere", masks=folder)


def test_a_bank_without_an_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no index .*nvgen-aug masks index"):
        open_source("phantom", masks=tmp_path)


def bank_of_a_phantom(folder: Path) -> Blob:
    """The only mask of a new bank of masks in a folder."""
    vocabulary = PhantomGenerator().card.vocabulary
    as_phantom = replace(variants.TINY_BRAIN, name="phantom", labels=vocabulary, hosts={})
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:28, 4:28, 4:28] = 1
    label[8:20, 8:20, 8:20] = 2
    write(folder / "a.nii.gz", label, 2.0)
    index_masks(folder, as_phantom).bank.save(folder / "nvgen-masks.json")
    return Blob(label, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize("device", ["cpu", ["cpu", "cpu"]], ids=["one", "two"])
def test_a_server_binds_the_specs_of_its_clients_to_its_bank(
    tmp_path: Path, device: str | list[str]
) -> None:
    mask = bank_of_a_phantom(tmp_path / "masks")
    asked = VolumeSpec("phantom", seed=1, anatomy=("organ",))
    with serve(
        "phantom", device=device, masks=tmp_path / "masks", cache=tmp_path / "cache"
    ) as source:
        spec = source.resolve(asked)
        assert spec.mask == mask.digest()
        volume = source.fetch(asked)
        np.testing.assert_array_equal(volume.label[0], mask.array)  # type: ignore[index]
        assert volume.provenance.uid == source.card.volume_key(spec)
        source.fetch(asked)
        assert source.stats().hits == 1
        with pytest.raises(SpecError, match="1 lack `lesion`"):
            source.resolve(replace(asked, anatomy=("lesion",)))


def test_what_is_announced_to_two_generators_is_bound_to_their_bank_and_made_once(
    tmp_path: Path,
) -> None:
    bank_of_a_phantom(tmp_path / "masks")
    specs = [VolumeSpec("phantom", seed=seed, anatomy=("organ",)) for seed in range(8)]
    with serve("phantom", device=["cpu", "cpu"], masks=tmp_path / "masks") as source:
        source.prefetch(specs)
        for spec in specs:
            source.fetch(spec)
        assert source.stats().generated == len(specs)
