"""Sets that measure: real cases only, or a stress test that says so everywhere."""

from __future__ import annotations

import json
from typing import Any

import monai.transforms as mt
import pytest
import torch
from monai.data import CacheDataset

import nvgen_aug as nv
from nvgen_aug.data.holdout import SyntheticHoldout
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.errors import GenerationError
from nvgen_aug.transforms.synthetic_volume import RandSyntheticVolumed
from tests.data.phantoms import KEYS
from tests.data.phantoms import LABELS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_case
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def holdout(source: PhantomSource | None = None, **arguments: Any) -> SyntheticHoldout:
    source = source or PhantomSource()
    return SyntheticHoldout(source, RECIPE, labels=LABELS, length=3, **arguments)


def test_a_validation_set_gives_every_real_case_once() -> None:
    valid = SyntheticRealDataset(real_cases(), None, ratio=0, split="validation")
    items = [valid[i] for i in range(len(valid))]
    assert sorted(json.loads(item["provenance"])["uid"] for item in items) == [
        f"case_{case}.nii.gz" for case in range(5)
    ]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_set_that_measures_refuses_a_share_of_synthetic_samples(split: str) -> None:
    with pytest.raises(DataError, match=rf"a {split} set holds real cases only, got ratio 1/10"):
        SyntheticRealDataset(real_cases(), synthetic(), ratio=0.1, split=split)
    with pytest.raises(DataError, match="split must be one of"):
        SyntheticRealDataset(real_cases(), None, ratio=0, split="val")


def test_a_set_that_measures_refuses_a_coin_toss_wherever_it_hides() -> None:
    coin = RandSyntheticVolumed(KEYS, synthetic(), prob=1.0)
    after = SyntheticRealDataset(real_cases(), None, ratio=0, split="test", transform=coin)
    with pytest.raises(DataError, match=r"real case \d of this test set is synthetic"):
        after[0]
    cached = CacheDataset([real_case(0)], coin, progress=False)
    before = SyntheticRealDataset(cached, None, ratio=0, split="validation")
    with pytest.raises(DataError, match="real case 0 of this validation set is synthetic"):
        before[0]


def test_a_training_set_takes_no_synthetic_sample_for_a_real_case() -> None:
    for real in (holdout(), real_cases(2, RandSyntheticVolumed(KEYS, synthetic(), prob=1.0))):
        train = SyntheticRealDataset(real, None, ratio=0)
        with pytest.raises(DataError, match=r"train set is synthetic; only a plan counts"):
            train[0]


def test_a_tensor_of_a_synthetic_volume_is_known_by_its_name() -> None:
    image = {key: synthetic()[0][key] for key in KEYS}
    with pytest.raises(DataError, match="real case 0 of this train set is synthetic"):
        SyntheticRealDataset([image], None, ratio=0)[0]


def test_the_items_of_a_holdout_say_so() -> None:
    item = holdout()[0]
    provenance = json.loads(item["provenance"])
    assert (item["synthetic"], provenance["status"]) == (1, "holdout")
    assert provenance["source"] == "synthetic"
    assert nv.SyntheticHoldout is SyntheticHoldout
    assert len(list(holdout())) == len(holdout()) == 3


def test_a_holdout_has_no_volume_of_the_training_set() -> None:
    training = synthetic(seed=5)
    held = {json.loads(item["provenance"])["uid"] for item in holdout(seed=5)}
    assert held.isdisjoint(json.loads(training[v]["provenance"])["uid"] for v in range(40))
    again = [item["image"] for item in holdout(seed=5)]
    assert all(torch.equal(a, b["image"]) for a, b in zip(again, holdout(seed=5), strict=True))


def test_every_report_of_a_holdout_begins_with_the_warning() -> None:
    report = holdout().report()
    assert str(report).startswith("SYNTHETIC HOLD-OUT: a stress test, not a validation")
    assert "3 volumes of `phantom`" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["kind"].startswith("SYNTHETIC HOLD-OUT")


def test_a_volume_of_a_holdout_has_no_substitute() -> None:
    source = PhantomSource()
    volumes = holdout(source, transform=mt.Identityd(KEYS))
    volumes[0]
    source.broken = {spec.seed for spec in source.fetched}
    with pytest.raises(GenerationError, match="told to fail"):
        volumes[0]
