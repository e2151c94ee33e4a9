"""SyntheticRealDataset: one schema, both loaders, and the errors a person meets."""

from __future__ import annotations

import copy
import json
import random
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import monai.data
import monai.transforms as mt
import nibabel
import numpy as np
import pytest
import torch
import torch.utils.data
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.data import MetaTensor
from monai.data import decollate_batch

from nvgen_aug.data.chance import Chance
from nvgen_aug.data.failures import SubstituteWarning
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.errors import RatioError
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Piecewise
from nvgen_aug.source import SourceStats
from tests.data.phantoms import EDGE
from tests.data.phantoms import KEYS
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import augment
from tests.data.phantoms import real_case
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def blend(ratio: Any = 0.5, **arguments: Any) -> SyntheticRealDataset:
    real = arguments.pop("real", None)
    volumes = arguments.pop("volumes", None)
    return SyntheticRealDataset(
        real_cases() if real is None else real,
        synthetic(max_reuse=2) if volumes is None else volumes,
        ratio=ratio,
        **arguments,
    )


class Untouchable:
    """A dataset that must not be read."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        msg = "nobody may read this"
        raise AssertionError(msg)


def test_an_epoch_is_the_fewest_samples_in_which_every_real_case_appears() -> None:
    train = blend(0.3)
    assert len(train) == 8  # ceil(5 / 0.7)
    real = {key.index for key in train.plan(0, batch_size=4) if not key.is_synthetic}
    assert real == set(range(5))
    assert len(blend(0)) == 5
    assert len(blend(0.3, epoch_length=100)) == 100


def test_real_and_synthetic_items_have_the_same_keys_types_and_meta_keys() -> None:
    items = [blend()[i] for i in range(10)]
    assert {item["synthetic"] for item in items} == {0, 1}
    for item in items:
        assert list(item) == ["image", "label", "synthetic", "provenance"]
        assert isinstance(item["synthetic"], int)
        assert isinstance(item["provenance"], str)
        for key in KEYS:
            assert type(item[key]) is MetaTensor
            assert item[key].dtype == torch.float32
            assert item[key].affine.dtype == torch.float64
            assert set(item[key].meta) == set(items[0]["image"].meta)
            for name, value in items[0]["image"].meta.items():
                assert type(item[key].meta[name]) is type(value)


def test_a_real_item_says_where_it_came_from() -> None:
    train = blend(0)
    key = train.plan(0)[0]
    provenance = json.loads(train[key]["provenance"])
    assert provenance["source"] == "real"
    assert provenance["uid"] == f"case_{key.index}.nii.gz"


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, lambda x: x.to(torch.int16).numpy()])
def test_real_items_may_be_arrays_tensors_and_integers(kind: Any) -> None:
    cases = [{k: kind(v.as_tensor()) for k, v in real_case(c).items()} for c in range(3)]
    item = blend(0, real=cases)[0]
    assert item["image"].dtype == torch.float32
    assert torch.equal(item["image"].affine, torch.eye(4, dtype=torch.float64))
    assert item["image"].meta["filename_or_obj"].startswith("real:")


def test_other_entries_of_real_cases_are_dropped() -> None:
    cases = [{**real_case(0), "age": 61}]
    assert "age" not in blend(0, real=cases)[0]


def test_ratio_0_needs_no_synthetic_volume_and_gives_what_the_real_dataset_gives() -> None:
    source = PhantomSource()
    without = SyntheticRealDataset(real_cases(), None, ratio=0)
    with_unused = SyntheticRealDataset(real_cases(), synthetic(source), ratio=0.0)
    for train in (without, with_unused):
        for key in train.sampler(batch_size=2):
            item = train[key]
            for name in KEYS:
                assert torch.equal(item[name].as_tensor(), real_case(key.index)[name].as_tensor())
        assert train.report().delivered == 0
    assert source.fetched == source.prefetched == []


def test_ratio_0_gives_what_transform_gives_on_the_plain_dataset() -> None:
    train = SyntheticRealDataset(real_cases(), None, ratio=0, transform=augment())
    key = train.plan(0)[2]
    alone = SyntheticRealDataset([real_case(key.index)], None, ratio=0)
    chance = Chance(augment())
    with chance.of(key.view_seed):
        expected = chance.root(alone[0])
    assert torch.equal(train[key]["image"].as_tensor(), expected["image"].as_tensor())


def test_ratio_1_reads_no_real_case() -> None:
    train = blend(1, real=Untouchable(), epoch_length=6)
    assert [train[i]["synthetic"] for i in range(6)] == [1] * 6
    assert len(SyntheticRealDataset(None, synthetic(), ratio=1, epoch_length=3)) == 3
    with pytest.raises(DataError, match="epoch_length"):
        blend(1)


def test_an_integer_is_a_position_of_the_current_epoch() -> None:
    train = blend(epoch_length=6)
    train.set_epoch(2)
    for position, key in enumerate(train.plan(2)):
        assert key.position == position
        assert train[position]["provenance"] == train[key]["provenance"]
    assert train[-1]["provenance"] == train[5]["provenance"]
    with pytest.raises(IndexError):
        train[6]
    with pytest.raises(TypeError, match="SampleKey"):
        train["first"]  # type: ignore[index]


@pytest.mark.parametrize("loader", [torch.utils.data.DataLoader, monai.data.DataLoader])
def test_both_loaders_collate_mixed_batches(loader: Any) -> None:
    train = blend(transform=augment())
    batches = list(loader(train, batch_size=4, sampler=train.sampler(4), num_workers=0))
    for batch in batches:
        assert batch["image"].shape[1:] == batch["label"].shape[1:] == (1, 8, 8, 8)
        assert batch["image"].dtype == batch["label"].dtype == torch.float32
        assert batch["synthetic"].tolist() == [
            int(json.loads(text)["source"] == "synthetic") for text in batch["provenance"]
        ]
    assert sum(len(batch["provenance"]) for batch in batches) == 10


def test_a_batch_of_monais_loader_can_be_taken_apart_again() -> None:
    train = blend(transform=augment())
    for batch in monai.data.DataLoader(train, batch_size=4, sampler=train.sampler(4)):
        for item, uid in zip(decollate_batch(batch), batch["provenance"], strict=True):
            name = item["image"].meta["filename_or_obj"]
            assert name.removeprefix("nvgen:") == json.loads(uid)["uid"]
            assert item["image"].affine.shape == (4, 4)


def test_a_multi_sample_crop_gives_several_samples_of_each_item() -> None:
    crops = mt.RandSpatialCropSamplesd(KEYS, (8, 8, 8), num_samples=2, random_size=False)
    train = blend(transform=crops)
    batch = next(iter(monai.data.DataLoader(train, batch_size=4, sampler=train.sampler(4))))
    assert batch["image"].shape == (8, 1, 8, 8, 8)
    assert len(batch["provenance"]) == 8


def test_monais_seeding_of_the_dataset_changes_nothing() -> None:
    train = blend(transform=augment(), real=real_cases(5, mt.RandFlipd(KEYS, prob=0.5)))
    before = [train[i]["image"].clone() for i in range(10)]
    for seed in (0, 1):
        monai.data.utils.set_rnd(train, seed)
        loader = monai.data.DataLoader(train, batch_size=2, sampler=train.sampler(2))
        del loader
        for i in range(10):
            assert torch.equal(train[i]["image"], before[i])


def test_global_generators_are_left_as_they_were() -> None:
    train = blend(transform=augment())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    train[0], train[1]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.get_rng_state().tolist() == states[2]


def test_random_transforms_of_the_real_dataset_are_seeded_too() -> None:
    noisy = mt.RandGaussianNoised("image", prob=1.0)
    key = blend(0).plan(0)[0]
    one = blend(0, real=real_cases(5, noisy))
    other = blend(0, real=monai.data.CacheDataset(list(real_cases()), [noisy], progress=False))
    assert torch.equal(one[key]["image"], one[key]["image"])
    assert not torch.equal(one[key]["image"], real_case(key.index)["image"])
    assert torch.equal(other[key]["image"], other[key]["image"])


def test_a_caller_s_cached_case_is_not_changed() -> None:
    cases = [real_case(c) for c in range(3)]
    kept = copy.deepcopy(cases)
    train = blend(0, real=cases, transform=mt.Spacingd(KEYS, (1.0, 1.0, 1.0)))
    for item in (train[0], train[1], blend(0, real=cases)[2]):
        for key in KEYS:
            item[key].as_tensor().fill_(7)  # as an augmentation in place does
    for case, before in zip(cases, kept, strict=True):
        for key in KEYS:
            assert torch.equal(case[key], before[key])
            assert case[key].meta.keys() == before[key].meta.keys()


def test_the_volumes_of_a_batch_are_announced_before_the_first_is_fetched() -> None:
    source = PhantomSource()
    train = blend(1, volumes=synthetic(source), epoch_length=4)
    train.__getitems__([0, 1, 2])
    assert source.prefetched == source.fetched


def test_without_meta_tracking_items_are_plain_tensors() -> None:
    monai.data.set_track_meta(False)
    try:
        items = [blend()[i] for i in range(4)]
    finally:
        monai.data.set_track_meta(True)
    assert {type(item[key]) for item in items for key in KEYS} == {torch.Tensor}


def test_the_report_counts_by_plan() -> None:
    train = blend(0.3, epoch_length=20, volumes=synthetic(max_reuse=2))
    train.set_epoch(14)
    report = train.report()
    keys = [key for epoch in range(15) for key in train.plan(epoch) if key.is_synthetic]
    assert report.samples == 300
    assert report.synthetic == len(keys) == 90
    assert report.delivered == pytest.approx(0.3)
    assert report.distinct_volumes == len({key.index for key in keys})
    assert report.reused == sum(key.reuse > 0 for key in keys)
    assert "asked 30.00% synthetic, delivered 30.00%: 90 of 300 samples" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["synthetic"] == 90


def test_the_report_says_what_a_schedule_asked_and_delivered() -> None:
    train = blend(Linear(0, 0.6, epochs=3), epoch_length=20)
    train.set_epoch(3)
    report = train.report()
    assert [epoch.asked for epoch in report.epochs] == [0, 0.2, 0.4, 0.6]
    assert [epoch.synthetic for epoch in report.epochs] == [0, 4, 8, 12]
    assert report.asked == report.delivered == 0.3
    assert train.ratio == Fraction(3, 5)
    assert json.loads(json.dumps(report.to_dict()))["epochs"][1]["asked"] == 0.2


def test_a_schedule_over_steps_is_reported_by_the_batches_of_the_sampler() -> None:
    train = blend(Piecewise(steps={0: 0, 2: 1}), epoch_length=8)
    train.sampler(2)
    assert train.report().delivered == train.ratio == 0.5
    assert [key.is_synthetic for key in train.plan(0, 2)] == [False] * 4 + [True] * 4


def test_a_schedule_can_stand_in_the_configuration_of_a_bundle() -> None:
    ramp = {"_target_": "nvgen_aug.Linear", "start": 0, "end": 0.5, "epochs": 10}
    pieces = {"_target_": "nvgen_aug.Piecewise", "epochs": [[0, ramp], [80, 0.25]]}
    parser = ConfigParser({"ratio": pieces})
    expected = Piecewise(epochs={0: Linear(0, 0.5, epochs=10), 80: 0.25})
    assert parser.get_parsed_content("ratio") == expected


def test_the_report_stands_where_the_source_is_gone() -> None:
    class Gone(PhantomSource):
        __slots__ = ()

        def stats(self) -> SourceStats:
            msg = "nobody answers"
            raise ServerUnavailable(msg)

    report = blend(epoch_length=4, volumes=synthetic(Gone())).report()
    assert report.delivered == 0.5
    assert report.source is None


# Errors a person meets.


@pytest.mark.parametrize("ratio", [-0.1, 1.5, float("nan"), "0.3", None])
def test_a_ratio_that_is_no_share_is_refused(ratio: Any) -> None:
    with pytest.raises(RatioError, match="ratio"):
        blend(ratio)


def test_a_ratio_in_percent_is_recognised() -> None:
    with pytest.raises(RatioError, match=r"did you mean 0\.5\?"):
        blend(50)


def test_an_empty_real_dataset_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        blend(real=[])


def test_a_share_without_synthetic_volumes_is_refused() -> None:
    with pytest.raises(DataError, match="SyntheticDataset"):
        SyntheticRealDataset(real_cases(), None, ratio=0.1)


class Stream(torch.utils.data.IterableDataset[Any]):
    """Cases without numbers."""

    def __iter__(self) -> Any:
        return iter([real_case(0)])


def test_a_schedule_without_an_epoch_s_length_is_refused() -> None:
    with pytest.raises(DataError, match=r"pass `epoch_length=`, such as 5"):
        blend(Linear(0, 0.5, epochs=3))


def test_a_schedule_that_ever_asks_needs_synthetic_volumes() -> None:
    with pytest.raises(DataError, match="SyntheticDataset"):
        SyntheticRealDataset(
            real_cases(), None, ratio=Piecewise(epochs={0: 0, 90: 0.1}), epoch_length=5
        )


def test_datasets_without_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="IterableDataset"):
        blend(real=Stream())
    with pytest.raises(DataError, match="`len`"):
        blend(real=iter([real_case(0)]))


def test_nan_voxels_are_refused_with_case_count_and_place() -> None:
    case = real_case(0)
    case["image"][0, 1, 2, 3] = float("nan")
    case["image"][0, 4, 4, 4] = float("inf")
    with pytest.raises(DataError, match=r"`case_0.nii.gz`: image has 2 NaN .*\(0, 1, 2, 3\)"):
        blend(0, real=[case])[0]
    assert blend(0, real=[case], check=False)[0]["synthetic"] == 0


def test_different_grids_of_image_and_label_are_refused_with_both() -> None:
    case = {"image": real_case(0)["image"], "label": real_case(0, edge=8)["label"]}
    with pytest.raises(DataError, match=r"one grid, got \[16, 16, 16\] and \[8, 8, 8\]"):
        blend(0, real=[case])[0]
    case = real_case(0)
    case["label"].affine = torch.eye(4, dtype=torch.float64)
    with pytest.raises(DataError, match=r"one affine, got \[\[2\.0.*\[\[1\.0"):
        blend(0, real=[case])[0]


@pytest.mark.parametrize(
    "affine",
    [
        torch.diag(torch.tensor([2.0, 0.0, 2.0, 1.0])),
        torch.diag(torch.tensor([2.0, float("nan"), 2.0, 1.0])),
        torch.tensor([[2.0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]),
    ],
    ids=["zero", "NaN", "two axes alike"],
)
def test_a_spacing_that_is_none_is_refused_with_the_affine(affine: torch.Tensor) -> None:
    case = real_case(0)
    case["image"].affine = case["label"].affine = affine
    with pytest.raises(DataError, match=r"`case_0.nii.gz`: image must have a spacing above 0 mm"):
        blend(0, real=[case])[0]


@pytest.mark.parametrize("kept", [0.0, 0.5])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_cut_short_is_named_with_its_case(
    tmp_path: Path, kept: float, workers: int
) -> None:
    files = {key: tmp_path / f"case_7_{key}.nii.gz" for key in KEYS}
    for path in files.values():
        nibabel.save(nibabel.Nifti1Image(np.zeros((16, 16, 16), np.int16), np.eye(4)), path)
    content = files["label"].read_bytes()
    files["label"].write_bytes(content[: int(len(content) * kept)])
    data = [{key: str(path) for key, path in files.items()}]
    train = blend(0, real=Dataset(data, mt.LoadImaged(KEYS, ensure_channel_first=True)))
    loader = torch.utils.data.DataLoader(train, sampler=train.sampler(1), num_workers=workers)
    with pytest.raises(Exception) as failed:  # noqa: PT011  # whatever the reader raises
        list(loader)
    text = str(failed.value) + "".join(getattr(failed.value, "__notes__", []))
    assert f"while real case 0 was loaded from {files['image']}, {files['label']}" in text


def test_labels_that_are_no_integers_are_refused() -> None:
    case = real_case(0)
    case["label"][0, 0, 0, 5] = 0.5
    with pytest.raises(DataError, match=r"labels must be integers, got 0.5 at \(0, 0, 0, 5\)"):
        blend(0, real=[case])[0]


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ({"img": 1}, "`image`"),
        ([real_case(0)], "several samples"),
        ({"image": "a.nii.gz"}, "LoadImaged"),
        ({"image": np.zeros((4, 4, 4))}, "EnsureChannelFirstd"),
    ],
)
def test_real_items_of_another_form_are_refused_with_the_way_out(case: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        blend(0, real=[case])[0]


def test_items_that_cannot_be_collated_are_refused_with_a_table() -> None:
    train = blend(volumes=synthetic(PhantomSource(has_labels=False), labels=None))
    with pytest.raises(DataError, match=r"label +(\(missing\)|MetaTensor)"):
        list(train)


def test_a_real_case_that_stands_in_is_not_called_by_the_number_of_the_volume() -> None:
    source = PhantomSource()
    volumes = synthetic(source, on_failure="real")
    real = [real_case(c, edge=EDGE + 4) for c in range(5)]
    train = blend(1, real=real, volumes=volumes, epoch_length=2)
    key = train.plan(0)[0]
    source.broken = {volumes.spec(key.index).seed}
    text = rf"real case in place of synthetic volume {key.index}` and `synthetic volume"
    with pytest.warns(SubstituteWarning), pytest.raises(DataError, match=text):
        train.__getitems__([0, 1])


def test_real_cases_are_loaded_while_the_generator_works() -> None:
    is_asked, is_loaded = threading.Event(), threading.Event()

    class Slow(PhantomSource):
        """Is asked at once, and has nothing before the real cases are there."""

        __slots__ = ()

        def prefetch(self, specs: Any) -> None:
            super().prefetch(specs)
            is_asked.set()

        def fetch(self, spec: Any, crop: Any = None) -> Any:
            assert is_loaded.is_set(), "waited for a volume before the real cases were loaded"
            return super().fetch(spec, crop)

    loaded: list[int] = []

    def load(case: int) -> Any:
        assert is_asked.is_set(), "a real case was loaded before the volumes were asked for"
        loaded.append(case)
        if len(loaded) == 2:
            is_loaded.set()
        return real_case(case)

    real = monai.data.Dataset(list(range(5)), load)
    train = blend(real=real, volumes=synthetic(Slow()), epoch_length=4)
    one, other, *real_keys = sorted(train.plan(0, 4), key=lambda key: not key.is_synthetic)
    items = train.__getitems__([one, real_keys[0], other, real_keys[1]])
    assert [item["synthetic"] for item in items] == [1, 0, 1, 0]


def test_two_shapes_in_a_batch_are_refused_with_both_items() -> None:
    train = blend(real=[real_case(c, edge=EDGE + 4) for c in range(5)])
    loader = torch.utils.data.DataLoader(train, batch_size=4, sampler=train.sampler(4))
    with pytest.raises(DataError, match=r"(?s)real case \d.*shape \[1, 20, 20, 20\].*crop or pad"):
        next(iter(loader))
