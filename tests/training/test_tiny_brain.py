"""All stages of the training, from nothing to files that the generator loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from nvgen_aug.generators.maisi.checks import NO_CHECKS
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.masks.warped_template import Template
from nvgen_aug.generators.maisi.variants import VARIANTS
from nvgen_aug.generators.maisi.weights import TEMPLATE_FILE
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.record import RunRecord
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.training import STAGES
from nvgen_aug.training import train_tiny_brain
from nvgen_aug.training.stand_ins import StandIns
from nvgen_aug.training.stand_ins import icbm152
from nvgen_aug.training.tiny_brain import write_template
from nvgen_aug.volume import Blob

STEPPED = ("autoencoder", "flow", "mask_encoder", "controlnet")
IMAGES = ("image_encoder", "image_control")
OWN = tuple(stage for stage in STAGES if stage not in IMAGES)


def test_an_unknown_stage_is_refused_with_those_there_are(tmp_path: Path) -> None:
    wanted = (
        "stages must be among autoencoder, latents, flow, mask_encoder, controlnet, "
        "image_encoder, image_control, got decoder"
    )
    with pytest.raises(ValueError, match=wanted):
        train_tiny_brain(tmp_path / "work", stages=("decoder", "flow"))
    assert not (tmp_path / "work").exists()


def test_a_stage_whose_ground_is_not_laid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stage autoencoder has not been trained in .*; ask for"):
        train_tiny_brain(tmp_path, stages=("flow",), pool_size=1)
    with pytest.raises(ValueError, match=r"stage image_encoder has not been trained in"):
        train_tiny_brain(tmp_path, stages=("image_control",), pool_size=1)
    with pytest.raises(ValueError, match=r"stage autoencoder has not been trained in"):
        train_tiny_brain(tmp_path, stages=("controlnet", *IMAGES), pool_size=1)
    assert not list(tmp_path.glob("*.checkpoint"))


def test_the_stored_template_has_the_tissues_and_not_the_image(tmp_path: Path) -> None:
    path = tmp_path / TEMPLATE_FILE
    write_template(path)
    stored, original = Template.load(path), icbm152()
    assert stored.maps.shape == (3, *original.maps.shape[1:])
    assert stored.spacing == original.spacing
    np.testing.assert_allclose(stored.maps, original.maps[:3].clip(0, 1), atol=0.6 / 255)
    assert load_file(path)["tissue"].dtype == np.uint8


@pytest.mark.slow
def test_a_first_stage_alone_leaves_its_checkpoint_and_no_weights(tmp_path: Path) -> None:
    record = train_tiny_brain(
        tmp_path, stages=("autoencoder",), minutes={"autoencoder": 1e-6}, pool_size=2
    )
    assert list(record.numbers) == ["autoencoder"]
    assert [p.name for p in tmp_path.glob("*.checkpoint")] == ["autoencoder.checkpoint"]
    assert not (tmp_path / "export").exists()


@pytest.mark.slow
def test_a_few_steps_of_every_stage_end_in_files_that_the_generator_loads(tmp_path: Path) -> None:
    def train(minutes: float) -> RunRecord:
        return train_tiny_brain(
            tmp_path, stages=OWN, minutes=dict.fromkeys(STEPPED, minutes), pool_size=4, seed=3
        )

    record = train(1e-6)
    export = tmp_path / "export"
    assert sorted(p.name for p in export.iterdir()) == sorted(
        [WEIGHTS_FILE, TEMPLATE_FILE, "record.json"]
    )
    assert [record.numbers[stage]["steps"] for stage in STEPPED] == [1, 1, 1, 1]
    assert RunRecord.read(export / "record.json").numbers == record.numbers
    assert set(STEPPED) < set(STAGES)

    unchecked = replace(VARIANTS["tiny-brain"], checks=NO_CHECKS)  # one step teaches no contrast
    generator = MaisiGenerator(unchecked, weights=export)
    assert generator.card.weights_digest == record.numbers["weights_digest"]
    volume = generator.generate(VolumeSpec("tiny-brain", seed=1, steps=1)).volume
    assert volume.shape == generator.card.default_size

    again = train(1e-6)  # every budget is spent: the same weights once more
    assert again.numbers["weights_digest"] == record.numbers["weights_digest"]
    assert [again.numbers[stage]["steps"] for stage in STEPPED] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_few_steps_beside_the_shipped_weights_end_in_an_image_controlnet_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvgen_aug.training.cross_sequence.SUBJECTS", 1)
    record = train_tiny_brain(tmp_path, stages=IMAGES, minutes=dict.fromkeys(IMAGES, 1e-6))
    assert [record.numbers[stage]["steps"] for stage in IMAGES] == [1, 1]
    export = tmp_path / "export"
    assert sorted(p.name for p in export.iterdir()) == [
        "image_control.safetensors",
        "image_record.json",
    ]
    shipped = MaisiGenerator.load("tiny-brain")
    assert record.numbers["trained_on"] == shipped.card.weights_digest
    assert shipped.variant.folder is not None
    for name in (WEIGHTS_FILE, TEMPLATE_FILE):
        (export / name).symlink_to(shipped.variant.folder / name)
    generator = MaisiGenerator.load("tiny-brain", weights=export)
    scan = StandIns("held-out").make(0)
    image = Blob(scan.image, scan.affine)
    spec = VolumeSpec("tiny-brain", seed=1, steps=1, image=image.digest())
    assert generator.generate(spec, image=image).volume.label is None
