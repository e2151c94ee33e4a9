"""A cached source reads what is stored and asks the source behind for the rest."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import weakref

import numpy as np
import pytest

from nvgen_aug.cache import CachedSource
from nvgen_aug.cache import VolumeCache
from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.source import SourceStats
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume

SPEC = VolumeSpec("phantom", seed=5, pathology=(("lesion", 9.0),))


class Phantoms(VolumeSource):
    """A phantom generator as a source that notes what it was asked."""

    __slots__ = ("__weakref__", "asked", "closed", "generator", "is_down", "prefetched")

    def __init__(self) -> None:
        self.generator = PhantomGenerator()
        self.asked: list[VolumeSpec] = []
        self.prefetched: list[VolumeSpec] = []
        self.is_down = False
        self.closed = False

    @property
    def card(self) -> VariantCard:
        return self.generator.card

    def fetch(self, spec, crop=None) -> SyntheticVolume:
        self.asked.append(spec)
        volume = self.generator.generate(self.resolve(spec)).volume
        if isinstance(crop, CropRule):
            crop = crop.resolve(volume.shape, volume.label, self.card.vocabulary)
        return volume.cropped(crop)

    def put(self, array, affine) -> str:
        return f"{array.shape} {affine.shape}"

    def prefetch(self, specs) -> None:
        self.prefetched.extend(specs)

    def stats(self) -> SourceStats:
        if self.is_down:
            msg = "no generator answers"
            raise ServerUnavailable(msg)
        return SourceStats(fetched=len(self.asked), generated=len(self.asked), hits=1)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def phantoms() -> Phantoms:
    return Phantoms()


@pytest.fixture
def stored(cache: VolumeCache) -> VolumeCache:
    """A cache that holds the volume of `SPEC`."""
    generator = PhantomGenerator()
    volume = generator.generate(SPEC).volume
    assert cache.put_volume(generator.card.volume_key(generator.card.resolve(SPEC)), volume)
    return cache


@pytest.mark.parametrize(
    "crop",
    [
        None,
        Crop((3, 4, 5), (16, 16, 16)),
        CropRule((8, 8, 8), {"lesion": 1}, 3),
        CropRule((9, 9, 9)),
    ],
)
def test_a_stored_volume_is_what_the_source_would_give(stored, phantoms, crop) -> None:
    found = CachedSource(phantoms, stored).fetch(SPEC, crop)
    assert phantoms.asked == []
    expected = phantoms.fetch(SPEC, crop)
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.label, expected.label)
    assert found.affine.tobytes() == expected.affine.tobytes()
    assert (found.provenance, found.crop) == (expected.provenance, expected.crop)


def test_what_is_not_stored_is_asked_of_the_source_and_not_written(cache, phantoms) -> None:
    CachedSource(phantoms, cache).fetch(SPEC)
    assert phantoms.asked == [phantoms.resolve(SPEC)]
    assert cache.stats().entries == 0


def test_hits_are_added_to_what_the_source_counts(stored, phantoms) -> None:
    source = CachedSource(phantoms, stored)
    source.fetch(SPEC)
    source.fetch(SPEC)
    source.fetch(VolumeSpec("phantom", seed=6))
    assert source.stats() == SourceStats(fetched=3, generated=1, hits=3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_hits_of_forked_workers_are_counted_too(stored) -> None:
    source = CachedSource(Resting(), stored)
    source.fetch(SPEC)
    workers = [
        multiprocessing.get_context("fork").Process(target=source.fetch, args=(SPEC,))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert source.stats() == SourceStats(fetched=4, hits=4)


def test_statistics_do_not_need_a_live_server(stored, phantoms) -> None:
    source = CachedSource(phantoms, stored)
    source.fetch(SPEC)
    phantoms.is_down = True
    assert source.stats() == SourceStats(fetched=1, hits=1)


def test_only_what_is_not_stored_is_prefetched(stored, phantoms) -> None:
    other = VolumeSpec("phantom", seed=6)
    CachedSource(phantoms, stored).prefetch([SPEC, other])
    assert phantoms.prefetched == [phantoms.resolve(other)]


def test_everything_else_is_delegated(stored, phantoms) -> None:
    source = CachedSource(phantoms, stored)
    assert source.card is phantoms.card
    assert source.resolve(SPEC) == phantoms.resolve(SPEC)
    assert source.put(np.zeros((1, 2, 3)), np.eye(4)) == "(1, 2, 3) (4, 4)"
    with source:
        pass
    assert phantoms.closed


def test_an_impossible_spec_is_refused_before_the_cache_is_asked(stored, phantoms) -> None:
    with pytest.raises(SpecError, match="nearest legal size"):
        CachedSource(phantoms, stored).fetch(VolumeSpec("phantom", seed=1, size=(33, 32, 32)))


@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy])
def test_a_copy_answers_and_counts_from_zero(stored, copied) -> None:
    original = CachedSource(Resting(), stored)
    original.fetch(SPEC)
    source = copied(original)
    assert source.stats().hits == 0
    source.fetch(SPEC)
    assert source.stats().hits == 1


def test_no_cycle_keeps_a_source_alive(stored) -> None:
    phantoms = Phantoms()
    gone = weakref.ref(phantoms)
    source = CachedSource(phantoms, stored)
    source.fetch(SPEC)
    assert not hasattr(source, "__dict__")
    gc.disable()
    try:
        del phantoms, source
        assert gone() is None
    finally:
        gc.enable()


class Resting(VolumeSource):
    """A source that can be pickled and has never done anything."""

    __slots__ = ()

    @property
    def card(self) -> VariantCard:
        return PhantomGenerator().card

    def fetch(self, spec, crop=None) -> SyntheticVolume:
        raise AssertionError

    def put(self, array, affine) -> str:
        raise AssertionError

    def stats(self) -> SourceStats:
        return SourceStats()
