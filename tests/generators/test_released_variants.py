"""Imported weights make volumes through the same door as the small model's."""

from __future__ import annotations

from abc import ABC
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from typing import final

import numpy as np
import pytest

from nvgen_aug.assembly import load_generator
from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.maisi import variants
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.masks.hosts import CT_HOSTS
from nvgen_aug.labels import LabelMap
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe
from nvgen_aug.serving import Engine
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.contracts.generator import GeneratorContract
from tests.generators.released import NARROW
from tests.generators.released import install

AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])


def loaded(name: str) -> MaisiGenerator:
    with TemporaryDirectory() as folder:
        return MaisiGenerator(NARROW[name], weights=install(Path(folder), NARROW[name]))


class _Released(GeneratorContract, ABC):
    name: ClassVar[str]

    @classmethod
    def make(cls) -> Generator:
        return loaded(cls.name)


@final
class TestDdpmCt(_Released):
    name = "ddpm-ct"

    def spec(self, generator: Generator, seed: int = 7) -> VolumeSpec:
        # Random networks draw masks in which no region of the body can be told.
        spec = VolumeSpec(generator.card.name, seed=seed, image_only=True)
        return generator.card.resolve(spec)


@final
class TestRflowCt(_Released):
    name = "rflow-ct"


@final
class TestRflowMr(_Released):
    name = "rflow-mr"


@final
class TestRflowMrBrain(_Released):
    name = "rflow-mr-brain"


@pytest.fixture(scope="module")
def ddpm() -> MaisiGenerator:
    return loaded("ddpm-ct")


@pytest.fixture(scope="module")
def rflow() -> MaisiGenerator:
    return loaded("rflow-ct")


@pytest.fixture(scope="module")
def brain() -> MaisiGenerator:
    return loaded("rflow-mr-brain")


def organs() -> Blob:
    label = np.zeros((32, 32, 32), np.uint8)
    label[6:26, 6:26, 4:28] = 200
    label[10:16, 10:20, 8:14] = 1
    label[10:16, 10:20, 18:26] = 28
    return Blob(label, AFFINE)


def test_an_image_under_a_mask_has_the_mask_as_its_label(rflow: MaisiGenerator) -> None:
    mask = organs()
    volume = rflow.generate(VolumeSpec("rflow-ct", seed=1, mask=mask.digest()), mask).volume
    assert volume.label is not None
    np.testing.assert_array_equal(volume.label[0], mask.array)
    assert (volume.image[volume.label == 0] == -1000).all()
    assert volume.image.min() >= -1000
    assert volume.image.max() <= 1000
    assert volume.provenance.mask_source == mask.digest()


def test_the_mask_steers_the_image(rflow: MaisiGenerator, ddpm: MaisiGenerator) -> None:
    for generator in (rflow, ddpm):
        mask = organs()
        other = Blob(np.where(mask.array == 1, 3, mask.array), AFFINE)
        spec = VolumeSpec(generator.card.name, seed=1, steps=2)
        one, two = (
            generator.latent(replace(spec, mask=m.digest()), m).tensor for m in (mask, other)
        )
        assert np.abs(one.astype(float) - two.astype(float)).max() > 0.01


def test_a_body_that_was_drawn_is_in_the_provenance(rflow: MaisiGenerator) -> None:
    mask = organs()
    bare = Blob(np.where(mask.array == 200, 0, mask.array), AFFINE)
    volume = rflow.generate(VolumeSpec("rflow-ct", seed=1, mask=bare.digest()), bare).volume
    assert volume.label is not None
    assert (volume.label == 200).any()
    assert volume.provenance.mask_source == f"{bare.digest()}: in a drawn body"
    assert volume.provenance.mask_parent == bare.digest()


def test_a_tumour_in_the_callers_mask_is_in_label_and_image(rflow: MaisiGenerator) -> None:
    mask = organs()
    healthy = VolumeSpec("rflow-ct", seed=1, mask=mask.digest())
    ill = replace(healthy, pathology=(("liver tumor", 32.0),))  # an alias of the vocabulary's name
    without, volume = (rflow.generate(spec, mask).volume for spec in (healthy, ill))
    assert volume.label is not None
    grown = volume.label[0] == 26
    assert grown.sum() * 8.0**3 == pytest.approx(np.pi / 6 * 32.0**3, rel=0.1)
    assert set(np.unique(mask.array[grown])) == {1}
    assert (volume.image != without.image).any()
    assert volume.provenance.mask_source == f"{mask.digest()}: hepatic tumor of 32 mm inserted"
    assert volume.provenance.mask_parent == mask.digest()


def test_exactly_the_tumours_with_a_host_can_be_asked_for(rflow: MaisiGenerator) -> None:
    card = rflow.card
    for name in card.vocabulary:
        recipe = Recipe(mask="ab" * 32, pathology={name: Lesions(diameter=(30, 40))})
        if name in card.pathology:
            recipe.check(card)
        else:
            with pytest.raises(SpecError, match=f"cannot place `{name}`"):
                recipe.check(card)
    assert set(card.pathology) == set(CT_HOSTS)


def test_a_tumour_in_an_image_alone_is_refused(rflow: MaisiGenerator) -> None:
    tumours = {"hepatic tumor": Lesions(diameter=(20, 40))}
    Recipe(pathology=tumours).check(rflow.card)  # goes into the mask that the networks draw
    with pytest.raises(SpecError, match=r"draws no label, but \['hepatic tumor'.* must be in it"):
        Recipe(image_only=True, pathology=tumours).check(rflow.card)


def test_a_tumour_below_the_voxels_of_a_mask_is_refused_before_anything_is_made(
    rflow: MaisiGenerator,
) -> None:
    recipe = Recipe(mask="ab" * 32, pathology={"hepatic tumor": Lesions(diameter=(4, 40))})
    with pytest.raises(SpecError, match=r"too small for voxels of 8 x 8 x 8 mm; the least is"):
        recipe.check(rflow.card)


def test_the_body_region_is_told_to_ddpm(ddpm: MaisiGenerator) -> None:
    spec = VolumeSpec("ddpm-ct", seed=1, image_only=True)
    default, same, other = (
        ddpm.latent(replace(spec, body_region=region)).tensor
        for region in (None, ("chest", "abdomen"), ("head", "head"))
    )
    np.testing.assert_array_equal(default, same)
    assert not np.array_equal(default, other)


def test_without_a_word_the_body_region_is_that_of_the_mask(ddpm: MaisiGenerator) -> None:
    mask = organs()
    spec = VolumeSpec("ddpm-ct", seed=1, mask=mask.digest())
    silent = ddpm.latent(spec, mask).tensor
    said = ddpm.latent(replace(spec, body_region=("chest", "abdomen")), mask).tensor
    np.testing.assert_array_equal(silent, said)


def test_guidance_on_the_modality_leads_somewhere_else(brain: MaisiGenerator) -> None:
    spec = VolumeSpec("rflow-mr-brain", seed=1)
    assert brain.card.resolve(spec).guidance == 2.0
    guided, plain = (brain.latent(replace(spec, guidance=g)).tensor for g in (2.0, 0.0))
    assert not np.array_equal(guided, plain)


def test_every_modality_makes_an_image_of_its_own(brain: MaisiGenerator) -> None:
    made = {
        name: brain.latent(
            VolumeSpec("rflow-mr-brain", seed=1, modality=name, steps=1)
        ).tensor.tobytes()
        for name in brain.card.modalities
    }
    assert len(made) == 11
    assert len(set(made.values())) == 11


def test_an_image_only_variant_refuses_labels_with_the_ways_out(brain: MaisiGenerator) -> None:
    assert not brain.card.has_labels
    with pytest.raises(LabelError, match="use a variant with labels"):
        LabelMap({"liver": 1}, others="background").bind(brain.card)
    with pytest.raises(SpecError, match="images alone"):
        brain.card.resolve(VolumeSpec("rflow-mr-brain", seed=1, mask="ab" * 32))


def test_a_volume_without_a_label_goes_through_engine_and_cache(
    brain: MaisiGenerator, tmp_path: Path
) -> None:
    spec = VolumeSpec("rflow-mr-brain", seed=3)
    with Engine(brain, VolumeCache(tmp_path)) as engine:
        fresh = engine.fetch(spec)
        again = engine.fetch(spec)
        assert engine.stats().generated == 1
    assert fresh.label is None
    assert again.label is None
    np.testing.assert_array_equal(fresh.image, again.image)


def test_outside_the_training_data_the_provenance_says_in_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    narrow = replace(NARROW["rflow-ct"], envelope=variants.CT_ENVELOPE)
    made = MaisiGenerator(narrow, weights=install(tmp_path, narrow))
    with pytest.raises(SpecError, match=r"not trained for this: size \(32, 32, 32\).*row"):
        made.latent(VolumeSpec("rflow-ct", seed=1))
    latent = made.latent(VolumeSpec("rflow-ct", seed=1, allow_out_of_distribution=True))
    assert latent.provenance.out_of_distribution.startswith("size (32, 32, 32) is none")
    assert latent.provenance.licence == "NVIDIA Open Model License"


def test_what_is_installed_is_loaded_by_its_name_and_tells_its_licence_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NVGEN_AUG_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="run `nvgen-aug weights import rflow-mr`"):
        load_generator("rflow-mr")
    home = install(tmp_path / "made", NARROW["rflow-mr"])
    (tmp_path / "weights").mkdir()
    home.rename(tmp_path / "weights" / "rflow-mr")
    monkeypatch.setitem(variants.VARIANTS, "rflow-mr", NARROW["rflow-mr"])  # type: ignore[arg-type]
    load_generator("rflow-mr")
    card = load_generator("rflow-mr").card
    assert card.name == "rflow-mr"
    assert [record.getMessage() for record in caplog.records] == [
        f"weights of `rflow-mr`: {card.licence}"
    ]
    assert "non-commercial" in card.licence
