"""Crops of volumes that are stored as latents only are decoded alone, as long as that pays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.cache import VolumeCache
from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import LabelError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.serving.crop_budget import CropBudget
from nvgen_aug.serving.engine import Engine
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import Generated
from nvgen_aug.volume import Latent
from nvgen_aug.volume import SyntheticVolume
from tests.contracts.source import assert_same
from tests.contracts.source import made_directly
from tests.contracts.source import phantom

SMALL, OTHER = Crop((1, 2, 3), (8, 8, 8)), Crop((8, 2, 0), (8, 8, 8))


class Cropping:
    """A phantom with statistics, whose crops cost a third of the whole, and which notes crops."""

    def __init__(self) -> None:
        self.phantom = PhantomGenerator()
        self.on_progress: Callable[[], None] = lambda: None
        self.new_image = self.phantom.new_image
        self.decoded: list[Crop | None] = []

    @property
    def card(self) -> VariantCard:
        return self.phantom.card

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        made = self.phantom.generate(spec, mask)
        statistics = np.zeros((13, 2, 2), np.float32)
        return replace(made, latent=made.latent.with_statistics(statistics))

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        self.decoded.append(crop)
        return self.phantom.decode(latent, crop)

    def crop_share(self, latent: Latent, crop: Crop) -> float:
        return 0.3 if crop.size == (8, 8, 8) else 0.9

    def prove(self) -> None:
        self.phantom.prove()

    def use_less_memory(self) -> bool:
        return False

    def pin(self, memory: NDArray[np.uint8]) -> None:
        self.phantom.pin(memory)

    def close(self) -> None:
        self.phantom.close()


def evict_volumes(cache: VolumeCache) -> None:
    """What eviction does when the bound is met: decoded volumes go before latents."""
    for entry in (cache.path / "volumes").iterdir():
        shutil.rmtree(entry)


@pytest.fixture
def evicted(tmp_path: Path) -> Iterator[tuple[Cropping, Engine]]:
    with Engine(Cropping(), VolumeCache(tmp_path), memory_bytes=0) as engine:
        engine.fetch(phantom(1))
    cache = VolumeCache(tmp_path)
    evict_volumes(cache)
    generator = Cropping()
    with Engine(generator, cache) as engine:
        yield generator, engine


def test_crops_are_decoded_alone_until_the_volume_would_have_been_cheaper(
    evicted: tuple[Cropping, Engine],
) -> None:
    generator, engine = evicted
    for crop in (SMALL, OTHER, SMALL, OTHER, SMALL):
        assert_same(engine.fetch(phantom(1), crop), made_directly(phantom(1)).cropped(crop))
    assert generator.decoded == [SMALL, OTHER, SMALL, None]
    stats = engine.stats()
    assert (stats.crops, stats.decoded, stats.generated, stats.fetched) == (3, 1, 0, 5)


def test_a_whole_volume_is_decoded_whole(evicted: tuple[Cropping, Engine]) -> None:
    generator, engine = evicted
    assert_same(engine.fetch(phantom(1)), made_directly(phantom(1)))
    assert generator.decoded == [None]


def test_a_rule_chooses_where_the_label_is_as_in_a_decoded_volume(
    evicted: tuple[Cropping, Engine],
) -> None:
    generator, engine = evicted
    rule = CropRule((8, 8, 8), centre={"organ": 1.0}, seed=4)  # type: ignore[arg-type]
    whole = made_directly(phantom(1))
    crop = rule.resolve(whole.shape, whole.label, engine.card.vocabulary)
    assert_same(engine.fetch(phantom(1), rule), whole.cropped(crop))
    assert generator.decoded == [crop]


def test_a_rule_with_an_unknown_label_is_refused_and_the_next_caller_served(
    evicted: tuple[Cropping, Engine],
) -> None:
    _, engine = evicted
    rule = CropRule((8, 8, 8), centre={"liver": 1.0})  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="liver"):
        engine.fetch(phantom(1), rule)
    assert_same(engine.fetch(phantom(1), SMALL), made_directly(phantom(1)).cropped(SMALL))


def test_nothing_is_decoded_ahead_where_crops_are_asked_for(
    evicted: tuple[Cropping, Engine],
) -> None:
    generator, engine = evicted
    engine.fetch(phantom(1), SMALL)
    engine.prefetch([phantom(1)])
    engine.fetch(phantom(1), OTHER)  # the thread has done with the queue before it
    assert generator.decoded == [SMALL, OTHER]


def test_a_volume_is_decoded_ahead_where_its_crops_are_dear() -> None:
    budget = CropBudget(Cropping())
    latent = Cropping().generate(Cropping().card.resolve(phantom(1))).latent
    assert not budget.prefers_crops(latent)  # nothing has been asked yet
    budget.pay("key", latent, SMALL)
    assert budget.prefers_crops(latent)
    budget.pay("key", latent, Crop((0, 0, 0), (9, 9, 9)))
    assert not budget.prefers_crops(latent)


@pytest.mark.slow
@pytest.mark.parametrize("is_served", [False, True])
def test_the_shipped_model_decodes_a_crop_alone_once_its_volume_was_evicted(
    tmp_path: Path, is_served: bool
) -> None:
    spec = VolumeSpec("tiny-brain", seed=3, steps=2)
    crop = Crop((1, 2, 30), (15, 21, 10))

    def opened(stack: ExitStack) -> VolumeSource:
        way = serve if is_served else open_source
        return stack.enter_context(way("tiny-brain", cache=tmp_path))

    with ExitStack() as stack:
        whole = opened(stack).fetch(spec)
    evict_volumes(VolumeCache(tmp_path))
    with ExitStack() as stack:
        source = opened(stack)
        part = source.fetch(spec, crop)
        stats = source.stats()
    assert (stats.crops, stats.decoded, stats.generated) == (1, 0, 0)
    expected = whole.cropped(crop)
    difference = np.abs(part.image.astype(int) - expected.image)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3
    np.testing.assert_array_equal(part.label, expected.label)
    assert part.provenance == expected.provenance
    assert part.crop == crop
