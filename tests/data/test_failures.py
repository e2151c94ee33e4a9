"""When generation fails: what stands in, what is counted, and when it is enough."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from nvgen_aug.data.failures import Failures
from nvgen_aug.data.failures import SubstituteWarning
from nvgen_aug.data.report import FailureCount
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import GeneratorBroken
from nvgen_aug.errors import ServerDied
from nvgen_aug.transforms.synthetic_volume import RandSyntheticVolume
from nvgen_aug.transforms.synthetic_volume import RandSyntheticVolumed
from tests.data.phantoms import KEYS
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_case
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic

BORNE = pytest.mark.filterwarnings("ignore::nvgen_aug.data.failures.SubstituteWarning")


def broken(*numbers: int, **arguments: Any) -> tuple[Any, PhantomSource]:
    """A dataset of synthetic volumes of which some cannot be made."""
    source = PhantomSource()
    volumes = synthetic(source, **arguments)
    source.broken = {volumes.spec(v).seed for v in numbers}
    return volumes, source


def status(item: Any) -> str:
    found: str = json.loads(item["provenance"])["status"]
    return found


@BORNE
def test_a_failed_volume_is_replaced_by_the_previous_one_and_says_so() -> None:
    volumes, _ = broken(5)
    item = volumes[5]
    assert torch.equal(item["image"], volumes[4]["image"])
    assert status(item) == "substitute"
    assert status(volumes[4]) == "planned"
    assert volumes.failures == FailureCount(failed=1, by_volume=1)


@BORNE
def test_after_the_previous_the_next_is_taken_and_then_it_ends() -> None:
    volumes, source = broken(0, 4, 5)
    assert torch.equal(volumes[5]["image"], volumes[6]["image"])
    assert torch.equal(volumes[0]["image"], volumes[1]["image"])
    source.broken |= {volumes.spec(6).seed}
    with pytest.raises(GenerationError, match="so did its substitutes"):
        volumes[5]


def test_a_failure_is_raised_when_that_was_asked() -> None:
    volumes, _ = broken(5, on_failure="raise")
    with pytest.raises(GenerationError, match="told to fail"):
        volumes[5]


@BORNE
def test_a_dead_server_is_never_masked_by_a_substitute() -> None:
    volumes, source = broken(5)
    source.error = ServerDied("the server died")
    with pytest.raises(ServerDied):
        volumes[5]
    blend = SyntheticRealDataset(
        real_cases(), synthetic(source, on_failure="real"), ratio=1, epoch_length=6
    )
    source.broken = {volumes.spec(v).seed for v in range(200)}
    with pytest.raises(ServerDied):
        blend[0]


@BORNE
def test_a_real_case_stands_in_when_that_was_asked_and_the_report_says_the_share_is_lower() -> None:
    volumes, _ = broken(*range(200), on_failure="real")
    blend = SyntheticRealDataset(real_cases(), volumes, ratio=0.5, epoch_length=4)
    items = [blend[i] for i in range(4)]
    assert [item["synthetic"] for item in items] == [0, 0, 0, 0]
    assert sorted(map(status, items)) == ["planned"] * 2 + ["substitute"] * 2
    report = blend.report()
    assert report.failures == FailureCount(failed=2, by_real=2)
    assert "2 synthetic samples were real cases instead: the share was lower" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["failures"]["by_real"] == 2


def test_the_first_substitute_of_a_process_is_a_warning_and_further_ones_are_counted() -> None:
    volumes, _ = broken(3, 5, 7)
    with pytest.warns(SubstituteWarning, match=r"volume 5 could not be made .*told to fail"):
        volumes[5]
    volumes[3], volumes[7]  # a second warning would be an error here
    assert volumes.failures.by_volume == 3


@BORNE
@pytest.mark.parametrize("on_failure", ["reuse", "real"])
def test_too_many_failures_in_a_row_end_the_run_and_name_the_last(on_failure: str) -> None:
    volumes, _ = broken(1, 3, 5, 7, on_failure=on_failure, failure_tolerance=2)
    blend = SyntheticRealDataset(real_cases(), volumes, ratio=0.5, epoch_length=40)
    keys = {key.index: key for e in range(4) for key in blend.plan(e) if key.is_synthetic}
    blend[keys[1]], blend[keys[3]]
    with pytest.raises(GeneratorBroken, match=r"3 volumes in a row .* volume 5, said: .*told to"):
        blend[keys[5]]
    blend[keys[2]], blend[keys[7]]  # a volume that was made begins a new row


@BORNE
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_what_workers_met_is_counted_in_the_process_that_trains(method: str) -> None:
    volumes, _ = broken(*range(0, 200, 2), failure_tolerance=99)
    blend = SyntheticRealDataset(real_cases(), volumes, ratio=0.5, epoch_length=16)
    sampler = blend.sampler(4)
    loader = DataLoader(blend, 4, sampler=sampler, num_workers=2, multiprocessing_context=method)
    found = [json.loads(text)["status"] for batch in loader for text in batch["provenance"]]
    assert found.count("substitute") == volumes.failures.by_volume > 0
    assert f"{volumes.failures.failed} volumes failed" in str(blend.report())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_counts_for_itself(copied: Any) -> None:
    one = Failures(5)
    one.add(failed=1)
    other = copied(one)
    other.add(by_real=2)
    assert one.count() == FailureCount(1, 0, 0)
    assert other.count() == FailureCount(1, 0, 2)


@BORNE
def test_a_coin_toss_keeps_the_real_sample_when_that_was_asked() -> None:
    volumes, _ = broken(*range(200), on_failure="real")
    item = RandSyntheticVolumed(KEYS, volumes, prob=1.0)(real_case(0))
    assert torch.equal(item["image"], real_case(0)["image"])
    assert (item["synthetic"], status(item)) == (0, "substitute")
    image, _ = RandSyntheticVolume(volumes, prob=1.0)(**real_case(0))
    assert torch.equal(image, real_case(0)["image"])
    assert volumes.failures == FailureCount(failed=2, by_real=2)
