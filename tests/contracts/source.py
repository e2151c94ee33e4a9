"""What every VolumeSource must do. Inherit it and say which source is meant."""

from __future__ import annotations

import copy
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest

from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume

SIZE = (16, 20, 24)


def phantom(seed: int, **wishes: object) -> VolumeSpec:
    """A spec of a few kilobytes."""
    return VolumeSpec("phantom", seed=seed, size=SIZE, **wishes)  # type: ignore[arg-type]


def made_directly(spec: VolumeSpec) -> SyntheticVolume:
    """The volume as the generator makes it, with no source between."""
    return PhantomGenerator().generate(spec).volume


def assert_same(one: SyntheticVolume, other: SyntheticVolume) -> None:
    """Same voxels, place and record."""
    np.testing.assert_array_equal(one.image, other.image)
    assert one.image.dtype == other.image.dtype
    assert (one.label is None) == (other.label is None)
    if one.label is not None and other.label is not None:
        np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.provenance == other.provenance
    assert one.crop == other.crop


class SourceContract(ABC):
    """Tests of a source of phantoms; `TestX(SourceContract)` says how one is opened."""

    @classmethod
    @abstractmethod
    def open(cls, folder: str) -> AbstractContextManager[VolumeSource]:
        """A source; the folder is empty and its own."""

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolumeSource]:
        with cls.open(str(tmp_path_factory.mktemp("source"))) as source:
            yield source

    def test_a_volume_is_the_one_that_the_generator_makes(self, source: VolumeSource) -> None:
        for _ in range(2):  # new, and from wherever it is kept
            assert_same(source.fetch(phantom(1)), made_directly(phantom(1)))

    def test_a_crop_is_that_part_of_the_volume(self, source: VolumeSource) -> None:
        crop = Crop((1, 2, 3), (8, 9, 10))
        for _ in range(2):
            assert_same(source.fetch(phantom(2), crop), made_directly(phantom(2)).cropped(crop))

    def test_a_rule_is_resolved_where_the_label_is(self, source: VolumeSource) -> None:
        rule = CropRule((7, 8, 9), centre={"organ": 1.0}, seed=5)  # type: ignore[arg-type]
        whole = made_directly(phantom(3))
        crop = rule.resolve(whole.shape, whole.label, source.card.vocabulary)
        for _ in range(2):
            assert_same(source.fetch(phantom(3), rule), whole.cropped(crop))

    def test_the_arrays_are_the_callers_own(self, source: VolumeSource) -> None:
        source.fetch(phantom(4)).image[:] = -1
        assert_same(source.fetch(phantom(4)), made_directly(phantom(4)))

    def test_what_cannot_be_made_is_refused_by_name(self, source: VolumeSource) -> None:
        with pytest.raises(SpecError, match="asked of a source that makes `phantom`"):
            source.fetch(VolumeSpec("tiny-brain", seed=0))
        with pytest.raises(SpecError, match="nearest legal size"):
            source.fetch(VolumeSpec("phantom", seed=0, size=(17, 16, 16)))

    def test_a_crop_that_leaves_the_volume_is_refused(self, source: VolumeSource) -> None:
        with pytest.raises(SpecError, match="leaves the volume"):
            source.fetch(phantom(5), Crop((10, 0, 0), (8, 8, 8)))
        with pytest.raises(SpecError, match=r"leaves the volume|larger than the volume"):
            source.fetch(phantom(5), CropRule((32, 8, 8)))

    def test_a_rule_with_an_unknown_label_is_refused(self, source: VolumeSource) -> None:
        with pytest.raises(LabelError, match="did you mean `organ`"):
            source.fetch(phantom(6), CropRule((8, 8, 8), centre=(("organs", 1.0),)))

    def test_a_mask_that_was_put_determines_the_label(self, source: VolumeSource) -> None:
        mask = np.zeros(SIZE, dtype=np.uint8)
        mask[4:12, 5:15, 6:18] = 2
        digest = source.put(mask, np.eye(4))
        label = source.fetch(phantom(7, mask=digest)).label
        assert label is not None
        np.testing.assert_array_equal(label[0], mask)

    def test_a_mask_that_nobody_put_is_asked_for(self, source: VolumeSource) -> None:
        with pytest.raises(SpecError, match=r"hand it over again with `source.put`"):
            source.fetch(phantom(8, mask="ab" * 32))

    def test_what_was_prefetched_is_made_once(self, source: VolumeSource) -> None:
        before = source.stats().generated
        source.prefetch([phantom(9), phantom(10)])
        source.fetch(phantom(10))
        source.fetch(phantom(9))
        assert source.stats().generated == before + 2

    def test_figures_add_up(self, source: VolumeSource) -> None:
        before = source.stats()
        for _ in range(3):
            source.fetch(phantom(11))
        after = source.stats()
        assert after.fetched == before.fetched + 3
        assert after.generated == before.generated + 1
        assert after.hits == before.hits + 2

    def test_a_deep_copy_still_answers(self, source: VolumeSource) -> None:
        assert_same(copy.deepcopy(source).fetch(phantom(12)), made_directly(phantom(12)))

    def test_nothing_of_it_can_be_walked_by_monai(self, source: VolumeSource) -> None:
        assert not hasattr(source, "__dict__")

    def test_closing_twice_is_closing_once(self, tmp_path: object) -> None:
        with self.open(str(tmp_path)) as source:
            source.close()
            source.close()
