"""RandSyntheticVolume and RandSyntheticVolumed, by MONAI's conventions."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import monai.data
import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.data import MetaTensor
from monai.transforms import LazyTransform
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends

import nvgen_aug.transforms
from nvgen_aug.errors import DataError
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import RatioError
from nvgen_aug.transforms import RandSyntheticVolume
from nvgen_aug.transforms import RandSyntheticVolumed
from tests.data.phantoms import KEYS
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_case
from tests.data.phantoms import synthetic

KINDS = [lambda x: x, lambda x: x.as_tensor(), lambda x: x.numpy()]


def coin(prob: float = 1.0, **arguments: Any) -> RandSyntheticVolumed:
    transform = RandSyntheticVolumed(KEYS, synthetic(), prob=prob, pool=8, **arguments)
    transform.set_random_state(0)
    return transform


def test_the_docstrings_say_what_it_is_not() -> None:
    for kind in (RandSyntheticVolume, RandSyntheticVolumed):
        assert kind.__doc__ is not None
        assert kind.__doc__.startswith("A coin toss, not a share")


def test_it_follows_monais_class_shape() -> None:
    assert nvgen_aug.transforms.RandSyntheticVolumeD is RandSyntheticVolumed
    assert nvgen_aug.transforms.RandSyntheticVolumeDict is RandSyntheticVolumed
    for kind in (RandSyntheticVolume, RandSyntheticVolumed):
        assert kind.backend == [TransformBackends.TORCH]
        assert issubclass(kind, RandomizableTransform)
        assert not issubclass(kind, LazyTransform)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_do_not_depend_on_the_coin(kind: Any, dtype: torch.dtype) -> None:
    data = {key: kind(value.to(dtype)) for key, value in real_case(0).items()}
    real, made = coin(0.0)(data), coin(1.0)(data)
    assert list(real) == list(made)
    for key in KEYS:
        assert type(real[key]) is type(made[key]) is MetaTensor
        assert real[key].dtype == made[key].dtype == dtype
    assert (real["synthetic"], made["synthetic"]) == (0, 1)
    assert json.loads(real["provenance"])["source"] == "real"
    assert json.loads(made["provenance"])["source"] == "synthetic"
    assert type(real["provenance"]) is type(made["provenance"]) is str


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_the_array_version_gives_a_pair(prob: float) -> None:
    case = real_case(0)
    transform = RandSyntheticVolume(synthetic(), prob=prob)
    image, label = transform(case["image"], case["label"])
    assert label is not None
    assert image.shape == label.shape == (1, 16, 16, 16)
    assert torch.equal(image, case["image"]) is (prob == 0)
    assert transform(case["image"])[1] is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_the_array_version_is_seeded_and_copied_like_any_of_monais(copied: Any) -> None:
    transform = RandSyntheticVolume(synthetic(), prob=0.5, pool=8).set_random_state(3)
    other = copied(transform)
    case = real_case(0)
    tosses = [transform(**case)[0] for _ in range(8)]
    assert any(torch.equal(image, case["image"]) for image in tosses)
    assert not all(torch.equal(image, case["image"]) for image in tosses)
    for image in tosses:
        assert torch.equal(other(**case)[0], image)


def test_one_toss_can_be_applied_again() -> None:
    case = real_case(0)
    transform = RandSyntheticVolume(synthetic(), prob=1.0)
    image, _ = transform(case["image"], case["label"])
    again, _ = transform(case["image"], case["label"], randomize=False)
    assert torch.equal(image, again)


def test_the_same_random_state_gives_the_same_samples_inside_a_compose() -> None:
    def volumes(seed: int) -> list[str]:
        chain = mt.Compose([coin(0.5), mt.RandFlipd(KEYS, 0.5)]).set_random_state(seed)
        return [chain(real_case(0))["provenance"] for _ in range(12)]

    assert volumes(1) == volumes(1)
    assert volumes(1) != volumes(2)
    assert len(set(volumes(1))) > 3


def test_volumes_do_not_depend_on_how_the_coin_fell() -> None:
    transform = coin(0.2)
    drawn = set()
    for seed in range(200):
        transform.set_random_state(seed)
        if transform(real_case(0))["synthetic"]:
            drawn.add(transform.replace.volume)
    assert drawn == set(range(8))


def test_image_and_label_are_one_draw_and_one_request() -> None:
    source = PhantomSource()
    transform = RandSyntheticVolumed(KEYS, synthetic(source), prob=1.0)
    item = transform(real_case(0))
    assert len(source.fetched) == 1
    assert item["image"].meta["filename_or_obj"] == item["label"].meta["filename_or_obj"]


def test_the_input_is_not_changed_and_other_keys_pass() -> None:
    data = {**real_case(0), "age": 61}
    before = copy.deepcopy(data)
    item = coin()(data)
    assert list(data) == list(before)
    assert all(torch.equal(data[key], before[key]) for key in KEYS)
    assert item["age"] == 61


def test_volumes_come_from_the_pool() -> None:
    names = {coin().set_random_state(s)(real_case(0))["provenance"] for s in range(60)}
    assert 4 < len({json.loads(name)["uid"] for name in names}) <= 8


def test_missing_keys_are_an_error_or_are_skipped() -> None:
    image = {"image": real_case(0)["image"]}
    with pytest.raises(KeyError):
        coin()(image)
    item = coin(allow_missing_keys=True)(image)
    assert item["synthetic"] == 1
    assert "label" not in item
    item = coin(allow_missing_keys=True)({"age": 61})
    assert (item["synthetic"], item["age"]) == (0, 61)


def test_keys_may_have_any_name() -> None:
    case = real_case(0)
    transform = RandSyntheticVolumed(("ct", "seg"), synthetic(), prob=1.0)
    item = transform({"ct": case["image"], "seg": case["label"]})
    assert set(item["seg"].unique().tolist()) <= {0.0, 1.0, 2.0}
    with pytest.raises(DataError, match="keys"):
        RandSyntheticVolumed(("a", "b", "c"), synthetic())


def test_it_is_not_frozen_by_a_cache_dataset() -> None:
    chain = mt.Compose([mt.Identityd(KEYS), coin(0.5)])
    cached = CacheDataset([real_case(0)], chain.set_random_state(0), progress=False)
    assert len({cached[0]["provenance"] for _ in range(12)}) > 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_it_can_be_copied_and_pickled(copied: Any) -> None:
    transform = coin()
    other = copied(transform)
    assert other(real_case(0))["provenance"] == transform(real_case(0))["provenance"]


def test_without_meta_tracking_it_gives_plain_tensors() -> None:
    monai.data.set_track_meta(False)
    try:
        items = [coin(prob)(real_case(0)) for prob in (0.0, 1.0)]
    finally:
        monai.data.set_track_meta(True)
    assert {type(item[key]) for item in items for key in KEYS} == {torch.Tensor}


def test_real_and_replaced_samples_can_be_collated() -> None:
    loader = monai.data.DataLoader(
        monai.data.Dataset([real_case(c) for c in range(8)], coin(0.5)), batch_size=8
    )
    (batch,) = loader
    assert batch["image"].shape == (8, 1, 16, 16, 16)
    assert set(batch["synthetic"].tolist()) == {0, 1}
    assert len(monai.data.decollate_batch(batch)) == 8


def test_a_real_sample_can_be_inverted_and_a_synthetic_one_says_why_not() -> None:
    flip = mt.Flipd(KEYS, 0)
    for prob in (0.0, 1.0):
        chain = mt.Compose([flip, coin(prob), mt.RandRotate90d(KEYS, prob=1.0)])
        item = chain(real_case(0))
        if prob == 0:
            back = chain.inverse(item)
            assert torch.equal(back["image"], real_case(0)["image"])
        else:
            assert [op["class"] for op in item["image"].applied_operations] == ["RandRotate90d"]
            with pytest.raises(RuntimeError) as caught:
                chain.inverse(item)
            assert isinstance(caught.value.__cause__, DataError)
            assert "synthetic" in str(caught.value.__cause__)


def test_a_provenance_that_is_there_is_kept() -> None:
    assert coin(0.0)({**real_case(0), "provenance": "mine"})["provenance"] == "mine"


def test_integers_that_cannot_hold_the_volume_are_refused() -> None:
    transform = RandSyntheticVolumed(
        KEYS, synthetic(transform=mt.ScaleIntensityd("image")), prob=1.0
    )
    data = {key: value.to(torch.int16) for key, value in real_case(0).items()}
    with pytest.raises(DataError, match="EnsureTyped"):
        transform(data)


def test_an_image_only_variant_cannot_replace_a_pair() -> None:
    volumes = synthetic(PhantomSource(has_labels=False), labels=None)
    with pytest.raises(LabelError, match=r"have no labels here, but `label` .*images alone"):
        RandSyntheticVolumed(KEYS, volumes, prob=1.0)
    with pytest.raises(DataError, match="no label"):
        RandSyntheticVolume(volumes, prob=1.0)(*(real_case(0)[key] for key in KEYS))
    assert RandSyntheticVolumed("image", volumes, prob=1.0)(real_case(0))["synthetic"] == 1


@pytest.mark.parametrize("prob", [-0.1, 1.1, 30, float("nan"), "0.3", None, True])
def test_a_probability_that_is_none_is_refused_and_not_clamped(prob: Any) -> None:
    for make in (
        lambda: RandSyntheticVolume(synthetic(), prob=prob),
        lambda: RandSyntheticVolumed(KEYS, synthetic(), prob=prob),
    ):
        with pytest.raises(RatioError, match="prob"):
            make()


@pytest.mark.parametrize("pool", [0, -1, 1.5])
def test_a_pool_that_is_no_number_of_volumes_is_refused(pool: Any) -> None:
    with pytest.raises(DataError, match="pool"):
        RandSyntheticVolume(synthetic(), prob=0.5, pool=pool)


def test_numpy_arrays_are_taken() -> None:
    image = np.zeros((1, 16, 16, 16), dtype=np.float32)
    assert coin(0.0)({"image": image, "label": image})["image"].dtype == torch.float32
