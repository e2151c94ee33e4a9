"""What every sample was is written down by whoever loaded it, and changes nothing."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nvgen_aug.data.events import EventLog
from nvgen_aug.data.failures import SubstituteWarning
from nvgen_aug.data.manifest import Manifest
from nvgen_aug.data.manifest import share_of_synthetic
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.schedule import Linear
from nvgen_aug.transforms import RandSyntheticVolumed
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import augment
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def blend(**arguments: Any) -> SyntheticRealDataset:
    arguments = {
        "real": real_cases(),
        "synthetic": synthetic(max_reuse=2),
        "ratio": 0.4,
        "epoch_length": 10,
        "transform": augment(),
        **arguments,
    }
    return SyntheticRealDataset(**arguments)


def walked(train: SyntheticRealDataset, epochs: int = 2, **loader: Any) -> Iterator[Any]:
    batches = DataLoader(train, batch_size=4, sampler=train.sampler(4), collate_fn=list, **loader)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        yield from batches


def recorded(folder: Path, **arguments: Any) -> Manifest:
    loader = arguments.pop("loader", {})
    train = blend(**arguments)
    train.record_to(folder)
    for _ in walked(train, **loader):
        pass
    return Manifest.of(EventLog(folder).read())


def without_machine(manifest: Manifest) -> list[dict[str, Any]]:
    vary = ("worker", "pid", "seconds", "line")
    return [{k: v for k, v in row.items() if k not in vary} for row in manifest.rows]


def test_every_planned_sample_is_written_once(tmp_path: Path) -> None:
    manifest = recorded(tmp_path)
    planned = [key for epoch in range(2) for key in blend().plan(epoch, batch_size=4)]
    assert [(row["epoch"], row["position"]) for row in manifest.rows] == [
        (key.epoch, key.position) for key in planned
    ]
    assert [row["source"] == "synthetic" for row in manifest.rows] == [
        key.is_synthetic for key in planned
    ]
    assert [row["step"] for row in manifest.rows] == [0] * 4 + [1] * 4 + [2] * 2 + [3] * 4 + [
        4
    ] * 4 + [5] * 2
    assert {row["loads"] for row in manifest.rows} == {1}
    assert manifest.chain.breaks == ()


def test_workers_write_what_one_process_writes(tmp_path: Path) -> None:
    alone = recorded(tmp_path / "alone")
    together = recorded(tmp_path / "together", loader={"num_workers": 2})
    assert without_machine(together) == without_machine(alone)
    assert {row["worker"] for row in alone.rows} == {-1}
    assert {row["worker"] for row in together.rows} == {0, 1}
    assert together.chain.breaks == ()


def test_items_are_the_same_bytes_with_and_without_a_record(tmp_path: Path) -> None:
    plain, watched = blend(), blend()
    watched.record_to(tmp_path)
    for one, other in zip(walked(plain), walked(watched), strict=True):
        for a, b in zip(one, other, strict=True):
            assert a["provenance"] == b["provenance"]
            assert torch.equal(a["image"].as_tensor(), b["image"].as_tensor())


def test_ranks_share_one_record(tmp_path: Path) -> None:
    for rank in range(2):
        train = blend(epoch_length=12)
        train.record_to(tmp_path)
        for _ in DataLoader(train, 3, sampler=train.sampler(3, 2, rank), collate_fn=list):
            pass
    rows = Manifest.of(EventLog(tmp_path).read()).rows
    assert [row["position"] for row in rows] == list(range(12))
    for rank in range(2):
        samples, found, asked = share_of_synthetic(r for r in rows if r["rank"] == rank)
        assert samples == 6
        assert abs(found - asked * samples) < 1


def test_asked_and_delivered_shares_are_those_of_the_step(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, ratio=Linear(0, 1, epochs=2), epoch_length=8)
    assert {(row["epoch"], row["asked"]) for row in manifest.rows} == {(0, 0.0), (1, 0.5)}
    assert {row["delivered"] for row in manifest.rows if row["epoch"] == 0} == {0.0}
    assert {row["delivered"] for row in manifest.rows if row["epoch"] == 1} == {0.5}


def test_labels_are_counted_as_they_are_delivered(tmp_path: Path) -> None:
    train = blend()
    train.record_to(tmp_path)
    items = [item for batch in walked(train, epochs=1) for item in batch]
    rows = Manifest.of(EventLog(tmp_path).read()).rows
    for item, row in zip(items, rows, strict=True):
        ids, counts = np.unique(item["label"].numpy(), return_counts=True)
        told = {str(int(i)): int(n) for i, n in zip(ids, counts, strict=True) if i}
        assert row["labels"] == told


def test_a_row_holds_the_whole_provenance(tmp_path: Path) -> None:
    train = blend()
    train.record_to(tmp_path)
    items = [item for batch in walked(train, epochs=1) for item in batch]
    rows = Manifest.of(EventLog(tmp_path).read()).rows
    for item, row in zip(items, rows, strict=True):
        provenance = json.loads(item["provenance"])
        assert {name: row[name] for name in provenance} == provenance


def test_a_substitute_is_told_from_what_was_planned(tmp_path: Path) -> None:
    source = PhantomSource()
    volumes = synthetic(source, on_failure="real")
    train = blend(synthetic=volumes)
    broken = next(key for key in train.plan(0, batch_size=4) if key.is_synthetic)
    source.broken = {volumes.spec(broken.index).seed}
    with pytest.warns(SubstituteWarning):
        manifest = recorded(tmp_path, synthetic=volumes)
    row = next(row for row in manifest.rows if row["position"] == broken.position)
    assert (row["planned"], row["source"], row["status"]) == ("synthetic", "real", "substitute")


def test_a_sample_that_a_coin_replaced_is_recorded_as_what_it_is(tmp_path: Path) -> None:
    coin = RandSyntheticVolumed(("image", "label"), synthetic(), prob=1.0, pool=4)
    manifest = recorded(tmp_path, synthetic=None, ratio=0, transform=coin)
    assert {(row["planned"], row["source"]) for row in manifest.rows} == {("real", "synthetic")}
    assert {row["variant"] for row in manifest.rows} == {"phantom"}


def test_a_run_that_is_resumed_has_each_sample_once(tmp_path: Path) -> None:
    first = blend()
    first.record_to(tmp_path)
    walk = walked(first)
    for _ in range(2):
        next(walk)
    second = blend()
    second.record_to(tmp_path)
    sampler = second.sampler(4)
    second.resume(first.checkpoint(1))
    for _ in DataLoader(second, batch_size=4, sampler=sampler, collate_fn=list):
        pass
    rows = Manifest.of(EventLog(tmp_path).read()).rows
    assert [row["position"] for row in rows] == list(range(10))
    assert [row["loads"] for row in rows] == [1] * 4 + [2] * 4 + [1] * 2


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    recorded(tmp_path)
    with pytest.raises(DataError, match=r"another run .*ratio: there '2/5', now '1/2'"):
        blend(ratio=0.5).record_to(tmp_path)


def test_the_first_event_says_what_runs(tmp_path: Path) -> None:
    blend().record_to(tmp_path)
    (event,) = EventLog(tmp_path).read().events
    assert event["kind"] == "run"
    assert event["settings"]["variant"] == "phantom"
    assert event["settings"]["label_names"] == {"1": "organ", "2": "lesion"}
    assert event["packages"]["nvgen_aug"]


def test_a_dataset_that_records_can_be_copied_and_pickled(tmp_path: Path) -> None:
    train = blend(transform=None)
    train.record_to(tmp_path)
    for other in (copy.deepcopy(train), pickle.loads(pickle.dumps(train))):
        assert other[0]["provenance"] == train[0]["provenance"]
    kinds = [event["kind"] for event in EventLog(tmp_path).read().events]
    assert kinds.count("sample") == 4


def test_a_manifest_can_be_read_as_a_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = recorded(tmp_path)
    table = parquet.read_table(manifest.write(tmp_path))
    assert table.num_rows == 20
    assert table.schema.metadata[b"events_head"].decode() == manifest.chain.head
    shares = table.to_pandas().groupby("epoch")["source"].apply(lambda s: (s == "synthetic").mean())
    assert shares.tolist() == [0.4, 0.4]
    assert table["voxels_1"].to_pylist() == [row["labels"].get("1", 0) for row in manifest.rows]
