"""PhantomGenerator keeps the contract of generators."""

from __future__ import annotations

from typing import final

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.contracts.generator import GeneratorContract


@final
class TestPhantom(GeneratorContract):
    @classmethod
    def make(cls) -> Generator:
        return PhantomGenerator()


def test_a_lesion_has_the_diameter_that_was_asked() -> None:
    spec = VolumeSpec("phantom", seed=1, spacing=(1, 1, 1), pathology=[("lesion", 10.0)])  # type: ignore[arg-type]
    label = PhantomGenerator().generate(spec).volume.label
    assert label is not None
    assert (label == 3).sum() == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.1)


def test_generations_are_counted() -> None:
    phantom = PhantomGenerator()
    phantom.generate(VolumeSpec("phantom", seed=1))
    phantom.generate(VolumeSpec("phantom", seed=1))
    assert phantom.calls == 2


@pytest.mark.parametrize(
    "mask", [np.zeros((4, 4, 4), np.uint8), np.full((32, 32, 32), 9, np.uint8)]
)
def test_a_mask_of_other_size_or_with_strange_ids_is_refused(mask: np.ndarray) -> None:
    blob = Blob(mask, np.eye(4))
    with pytest.raises(SpecError, match="mask"):
        PhantomGenerator().generate(VolumeSpec("phantom", seed=1, mask=blob.digest()), blob)
