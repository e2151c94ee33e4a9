"""What is put into a cache comes out of it, whole or in part, bit for bit."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.cache import VolumeCache
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import CacheError
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import VOCABULARY
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume

# Two chunks along x and three along y, the last of them cut off by the border.
SIZE = (72, 132, 40)


def assert_same(found: SyntheticVolume | None, expected: SyntheticVolume) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.image, expected.image)
    assert (found.label is None) == (expected.label is None)
    if found.label is not None and expected.label is not None:
        np.testing.assert_array_equal(found.label, expected.label)
    assert found.affine.tobytes() == expected.affine.tobytes()
    assert found.provenance == expected.provenance
    assert found.crop == expected.crop


@pytest.fixture(scope="module")
def stored(make):
    """A volume of several chunks in a cache of its own."""
    key, made = make(7, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        cache = VolumeCache(folder, max_bytes="100 MB")
        cache.put_volume(key, made.volume)
        yield cache, key, made.volume


def test_a_volume_comes_back_bit_for_bit(stored) -> None:
    cache, key, volume = stored
    assert_same(cache.get_volume(key), volume)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SIZE)))
def test_every_crop_equals_the_crop_of_the_volume(stored, box) -> None:
    cache, key, volume = stored
    start = tuple(begin for begin, _ in box)
    size = tuple(min(extent, n - begin) for (begin, extent), n in zip(box, SIZE, strict=True))
    crop = Crop(start, size)
    assert_same(cache.get_volume(key, crop), volume.cropped(crop))


@pytest.mark.parametrize("start", [(0, 0, 0), (40, 100, 8), (8, 32, 0), (32, 64, 8)])
def test_a_crop_at_the_border_equals_the_crop_of_the_volume(stored, start) -> None:
    cache, key, volume = stored
    crop = Crop(start, (32, 32, 32))
    assert_same(cache.get_volume(key, crop), volume.cropped(crop))


@pytest.mark.parametrize("centre", [None, {"lesion": 1}, {"organ": 2, "body": 1}])
def test_a_rule_chooses_the_crop_that_it_chooses_in_memory(stored, centre) -> None:
    cache, key, volume = stored
    for seed in range(5):
        rule = CropRule((16, 24, 32), centre, seed)
        crop = rule.resolve(volume.shape, volume.label, VOCABULARY)
        assert_same(cache.get_volume(key, rule, VOCABULARY), volume.cropped(crop))


def test_crops_can_be_written_to(stored) -> None:
    cache, key, _ = stored
    found = cache.get_volume(key, Crop((0, 0, 0), (8, 8, 8)))
    assert found.image.flags.writeable
    assert found.label.flags.writeable


def test_a_volume_without_a_label_comes_back_without_one(cache, make) -> None:
    key, made = make()
    volume = replace(made.volume, label=None)
    cache.put_volume(key, volume)
    assert_same(cache.get_volume(key), volume)
    rule = CropRule((8, 8, 8), {"lesion": 1}, seed=3)
    crop = rule.resolve(volume.shape, None, VOCABULARY)
    assert_same(cache.get_volume(key, rule, VOCABULARY), volume.cropped(crop))


def test_a_volume_of_several_channels_comes_back(cache, make) -> None:
    key, made = make()
    volume = replace(made.volume, image=np.concatenate([made.volume.image, -made.volume.image]))
    cache.put_volume(key, volume)
    crop = Crop((3, 2, 1), (20, 5, 7))
    assert_same(cache.get_volume(key, crop), volume.cropped(crop))


def test_what_nobody_put_is_a_miss(cache) -> None:
    assert cache.get_volume("0" * 64) is None
    assert cache.get_latent("0" * 64) is None
    assert cache.get_blob("0" * 64) is None
    assert not cache.has_volume("0" * 64)


def test_a_second_put_of_a_key_says_false(cache, make) -> None:
    key, made = make()
    assert cache.put_volume(key, made.volume)
    assert not cache.put_volume(key, made.volume)
    assert cache.has_volume(key)


def test_a_part_of_a_volume_is_not_stored(cache, make) -> None:
    key, made = make()
    with pytest.raises(CacheError, match="only whole volumes"):
        cache.put_volume(key, made.volume.cropped(Crop((0, 0, 0), (8, 8, 8))))


def test_a_latent_comes_back_with_label_and_statistics(cache, make) -> None:
    key, made = make()
    latent = made.latent.with_statistics(np.linspace(0, 1, 48, dtype=np.float32).reshape(3, 8, 2))
    assert cache.put_latent(key, latent)
    found = cache.get_latent(key)
    assert found.spec == latent.spec
    assert found.provenance == latent.provenance
    for name in ("tensor", "label", "affine", "statistics"):
        ours, theirs = getattr(found, name), getattr(latent, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert_same(PhantomGenerator().decode(found), made.volume)


def test_a_latent_without_statistics_comes_back_without_them(cache, make) -> None:
    key, made = make()
    cache.put_latent(key, made.latent)
    assert cache.get_latent(key).statistics is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_an_array_of_the_caller_comes_back_by_its_digest(cache, dtype) -> None:
    blob = Blob(np.arange(60).reshape(3, 4, 5).astype(dtype), np.diag([1.5, 1.5, 3.0, 1.0]))
    digest = cache.put_blob(blob)
    assert digest == blob.digest() == cache.put_blob(blob)
    found = cache.get_blob(digest)
    assert found.array.dtype == dtype
    np.testing.assert_array_equal(found.array, blob.array)
    np.testing.assert_array_equal(found.affine, blob.affine)


def test_a_crop_that_leaves_the_volume_is_refused(stored) -> None:
    cache, key, _ = stored
    with pytest.raises(SpecError, match="leaves the volume"):
        cache.get_volume(key, Crop((60, 0, 0), (32, 32, 32)))


def test_a_rule_with_an_unknown_label_is_refused(stored) -> None:
    cache, key, _ = stored
    with pytest.raises(LabelError, match="did you mean `lesion`"):
        cache.get_volume(key, CropRule((8, 8, 8), {"lesions": 1}), VOCABULARY)


@pytest.mark.parametrize("key", ["", "../" * 22, "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_key_that_is_not_64_hex_digits_is_refused(cache, make, key) -> None:
    _, made = make()
    for use in (
        lambda: cache.get_volume(key),
        lambda: cache.put_volume(key, made.volume),
        lambda: cache.has_volume(key),
        lambda: cache.get_latent(key),
        lambda: cache.get_blob(key),
    ):
        with pytest.raises(CacheError, match="64 hex digits"):
            use()


@pytest.mark.parametrize("copied", [lambda c: pickle.loads(pickle.dumps(c)), copy.deepcopy])
def test_a_copy_reads_and_does_not_write(cache, make, copied) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    for original in (cache, cache.reader()):
        view = copied(original)
        assert view.read_only
        assert view.path == cache.path
        assert_same(view.get_volume(key), made.volume)


def test_a_reader_refuses_to_store(cache, make) -> None:
    key, made = make()
    with pytest.raises(CacheError, match="opened read-only"):
        cache.reader().put_volume(key, made.volume)


def test_any_zarr_reader_understands_an_entry(stored) -> None:
    cache, key, volume = stored
    group = zarr.open_group(cache.path / "volumes" / key[:2] / key, mode="r")
    np.testing.assert_array_equal(group["image"][:], volume.image)
    np.testing.assert_array_equal(group["label"][:], volume.label)
    assert group["image"].chunks == (1, 64, 64, 40)
    assert group["image"].shards == (1, 128, 192, 40)


def test_a_volume_of_one_chunk_is_not_sharded(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    array = zarr.open_array(cache.path / "volumes" / key[:2] / key / "image", mode="r")
    assert array.chunks == (1, 24, 20, 16)
    assert array.shards is None


def test_both_codec_pipelines_read_what_either_wrote(cache, make, monkeypatch) -> None:
    pytest.importorskip("zarrs")
    key, made = make(7, SIZE)
    other, _ = make(8, SIZE)
    python = "zarr.core.codec_pipeline.BatchedCodecPipeline"
    cache.put_volume(key, made.volume)
    monkeypatch.setattr("nvgen_aug.cache.arrays._PIPELINE", python)
    cache.put_volume(other, made.volume)
    assert_same(cache.reader().get_volume(key), made.volume)
    monkeypatch.undo()
    assert_same(cache.reader().get_volume(other), made.volume)


def test_the_settings_of_zarr_are_left_alone(cache, make) -> None:
    before = json.dumps(zarr.config.config, sort_keys=True, default=str)
    key, made = make()
    cache.put_volume(key, made.volume)
    cache.get_volume(key)
    assert json.dumps(zarr.config.config, sort_keys=True, default=str) == before


def test_statistics_tell_entries_and_bytes_by_kind(cache, make) -> None:
    key, made = make()
    cache.put_volume(key, made.volume)
    cache.put_latent(key, made.latent)
    stats = cache.stats()
    on_disk = sum(f.stat().st_size for f in Path(cache.path).rglob("*/*/*") if f.is_file())
    assert (stats.entries, stats.bytes, stats.bound) == (2, on_disk, 100_000_000)
    assert [stats.by_kind[k].entries for k in ("volumes", "latents", "blobs")] == [1, 1, 0]
    assert cache.reader().stats().bound is None


def test_an_unresolved_spec_never_reaches_the_cache() -> None:
    with pytest.raises(SpecError, match="only a resolved spec has a key"):
        PhantomGenerator().card.volume_key(VolumeSpec("phantom", seed=1))
