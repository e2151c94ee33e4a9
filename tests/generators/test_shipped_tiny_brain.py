"""The `tiny-brain` that ships: it keeps the contract, is small, and comes with its papers."""

from __future__ import annotations

import re
from typing import final

import numpy as np
import pytest

from nvgen_aug.assembly import load_generator
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.generators.maisi.weights import TEMPLATE_FILE
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.record import RunRecord
from nvgen_aug.spec import VolumeSpec
from tests.contracts.generator import GeneratorContract

assert TINY_BRAIN.folder is not None
FOLDER = TINY_BRAIN.folder
MOST_BYTES = 25_000_000


@final
class TestTinyBrain(GeneratorContract):
    @classmethod
    def make(cls) -> Generator:
        return load_generator("tiny-brain")

    def spec(self, generator: Generator, seed: int = 7) -> VolumeSpec:
        return generator.card.resolve(VolumeSpec("tiny-brain", seed=seed, steps=4))

    def test_in_a_t1_image_white_matter_is_brightest_and_csf_darkest(
        self, generator: Generator
    ) -> None:
        spec = VolumeSpec("tiny-brain", seed=2, modality="mri_t1_skull_stripped", steps=12)
        volume = generator.generate(spec).volume
        assert volume.label is not None
        csf, grey, white = (np.median(volume.image[volume.label == i]) for i in (1, 2, 3))
        assert csf < grey < white

    def test_its_record_is_of_these_very_weights(self, generator: Generator) -> None:
        record = RunRecord.read(FOLDER / "record.json")
        assert record.numbers["weights_digest"] == generator.card.weights_digest


def test_its_files_are_at_most_25_megabytes() -> None:
    assert sum((FOLDER / n).stat().st_size for n in (WEIGHTS_FILE, TEMPLATE_FILE)) <= MOST_BYTES


@pytest.mark.parametrize("word", ["ICBM152", "licence", "PSNR", "not for"])
def test_its_model_card_names_data_licence_quality_and_limits(word: str) -> None:
    assert word.lower() in (FOLDER / "card.md").read_text(encoding="utf-8").lower()


def test_every_number_of_its_model_card_is_filled_in() -> None:
    assert re.findall(r"@[A-Z]+@", (FOLDER / "card.md").read_text(encoding="utf-8")) == []
