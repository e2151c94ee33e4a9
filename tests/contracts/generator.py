"""What every Generator must do. Inherit it and say which generator is meant."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import pytest

from nvgen_aug.crop import Crop
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.base import Generator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob


class GeneratorContract(ABC):
    """Tests of a generator; `TestX(GeneratorContract)` says how one is made."""

    @classmethod
    @abstractmethod
    def make(cls) -> Generator:
        """A loaded generator."""

    def spec(self, generator: Generator, seed: int = 7) -> VolumeSpec:
        """A cheap spec; override it where the variant's default is dear."""
        return generator.card.resolve(VolumeSpec(generator.card.name, seed=seed))

    @pytest.fixture(scope="class")
    @classmethod
    def generator(cls) -> Iterator[Generator]:
        made = cls.make()  # once: weights take time to load
        yield made
        made.close()

    def test_a_volume_is_a_pure_function_of_its_spec(self, generator: Generator) -> None:
        first = generator.generate(self.spec(generator)).volume
        generator.generate(self.spec(generator, seed=8))
        again = generator.generate(self.spec(generator)).volume
        np.testing.assert_array_equal(first.image, again.image)
        if first.label is not None:
            np.testing.assert_array_equal(first.label, again.label)

    def test_another_seed_gives_other_voxels(self, generator: Generator) -> None:
        one = generator.generate(self.spec(generator, seed=1)).volume
        two = generator.generate(self.spec(generator, seed=2)).volume
        assert not np.array_equal(one.image, two.image)

    def test_the_volume_has_the_size_spacing_and_types_that_the_spec_asks(
        self, generator: Generator
    ) -> None:
        spec = self.spec(generator)
        volume = generator.generate(spec).volume
        assert volume.shape == spec.size
        assert volume.image.dtype == np.int16
        spacing = np.linalg.norm(volume.affine[:3, :3], axis=0)
        np.testing.assert_allclose(spacing, spec.spacing or ())

    def test_labels_are_in_the_vocabulary_of_the_card(self, generator: Generator) -> None:
        spec = self.spec(generator)
        label = generator.generate(spec).volume.label
        assert (label is not None) == generator.card.gives_label(spec)
        if label is not None:
            assert set(np.unique(label).tolist()) <= set(generator.card.vocabulary.values())

    def test_provenance_names_the_volume_the_generator_and_the_spec(
        self, generator: Generator
    ) -> None:
        spec = self.spec(generator)
        provenance = generator.generate(spec).volume.provenance
        assert provenance.source == "synthetic"
        assert provenance.uid == generator.card.volume_key(spec)
        assert provenance.weights_digest == generator.card.weights_digest
        assert VolumeSpec.from_json(provenance.spec) == spec
        assert provenance.seed == spec.seed

    def test_decoding_a_latent_again_gives_the_same_voxels(self, generator: Generator) -> None:
        made = generator.generate(self.spec(generator))
        np.testing.assert_array_equal(generator.decode(made.latent).image, made.volume.image)

    def test_a_decoded_crop_is_the_same_box_of_the_whole(self, generator: Generator) -> None:
        made = generator.generate(self.spec(generator))
        x, y, z = (n // 2 for n in made.volume.shape)
        crop = Crop((x // 2, y // 3, z), (x, y, z))
        part = generator.decode(made.latent, crop)
        whole = made.volume.cropped(crop)
        # To rounding: a box that decodes alone is summed up in another order here and there.
        difference = np.abs(part.image.astype(int) - whole.image)
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 1e-3
        np.testing.assert_array_equal(part.affine, whole.affine)
        assert part.provenance == whole.provenance

    def test_a_mask_of_the_caller_becomes_the_label(self, generator: Generator) -> None:
        made = generator.generate(self.spec(generator, seed=3)).volume
        if made.label is None:
            pytest.skip("the variant makes no labels")
        mask = Blob(made.label[0], made.affine)
        spec = VolumeSpec(generator.card.name, seed=4, mask=mask.digest(), size=made.shape)
        volume = generator.generate(generator.card.resolve(spec), mask).volume
        np.testing.assert_array_equal(volume.label, made.label)
        assert volume.provenance.mask_source == mask.digest()

    def test_a_size_it_cannot_make_is_refused(self, generator: Generator) -> None:
        with pytest.raises(SpecError, match="nearest legal size"):
            generator.generate(VolumeSpec(generator.card.name, seed=0, size=(7, 7, 7)))

    def test_its_card_survives_json(self, generator: Generator) -> None:
        assert type(generator.card).from_json(generator.card.to_json()) == generator.card
