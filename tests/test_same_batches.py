"""The same batches, whatever workers, start method, cache and ranks, and after a kill."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import nvgen_aug as nv
from tests.data.phantoms import KEYS
from tests.data.phantoms import LABELS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import augment
from tests.data.phantoms import real_cases

GLOBAL_BATCH = 4
EPOCHS = 2
METHODS = ("fork", "spawn", "forkserver")


def blend(source: nv.VolumeSource) -> nv.SyntheticRealDataset:
    """Ten samples an epoch, four of them synthetic, with random transforms on both."""
    volumes = nv.SyntheticDataset(source, RECIPE, labels=LABELS, max_reuse=2)
    return nv.SyntheticRealDataset(
        real_cases(),
        volumes,
        ratio=0.4,
        transform=augment(),
        epoch_length=10,
        epochs=EPOCHS,  # so that nothing beyond them is generated ahead
        seed=7,
    )


def digest(item: Any) -> str:
    """SHA-256 of all that an item holds."""
    sha = hashlib.sha256()
    for key in KEYS:
        sha.update(np.ascontiguousarray(item[key].numpy()).tobytes())
        sha.update(np.ascontiguousarray(item[key].affine.numpy()).tobytes())
    sha.update(repr((item["synthetic"], item["provenance"])).encode())
    return sha.hexdigest()


def global_batches(source: nv.VolumeSource, world: int, **loader: Any) -> list[list[str]]:
    """Digests of the samples of each global batch; ranks one after another."""
    found: dict[tuple[int, int], list[str]] = {}
    for rank in range(world):
        train = blend(source)
        size = GLOBAL_BATCH // world
        sampler = train.sampler(size, world, rank)
        batches = DataLoader(train, size, sampler=sampler, collate_fn=list, **loader)
        for epoch in range(EPOCHS):
            train.set_epoch(epoch)
            for number, batch in enumerate(batches):
                found.setdefault((epoch, number), []).extend(map(digest, batch))
    # Which rank draws which sample of a global batch is the ranks' business.
    return [sorted(batch) for _, batch in sorted(found.items())]


@pytest.fixture(scope="module")
def reference() -> list[list[str]]:
    """What one process gives with an engine of its own, and no cache."""
    with nv.open_source("phantom") as source:
        found = global_batches(source, 1)
    assert [len(batch) for batch in found] == [4, 4, 2] * EPOCHS
    assert len({name for batch in found for name in batch}) == 10 * EPOCHS
    return found


@contextmanager
def served(folder: Path, cache: str) -> Iterator[nv.VolumeSource]:
    """A resident phantom with an empty cache, or one that an earlier run has filled."""
    if cache == "warm":
        with nv.serve("phantom", cache=folder) as source:
            global_batches(source, 1)
    with nv.serve("phantom", cache=folder) as source:
        yield source
        stats = source.stats()
        assert (stats.generated > 0) is (cache == "cold")


@pytest.mark.parametrize(
    ("workers", "method", "cache", "world"),
    [(0, None, "warm", 2), (1, "fork", "cold", 1), (3, "fork", "warm", 2)],
)
def test_the_same_batches_come(
    reference: list[list[str]],
    tmp_path: Path,
    workers: int,
    method: str | None,
    cache: str,
    world: int,
) -> None:
    loader: dict[str, Any] = {"num_workers": workers}
    if workers:
        loader |= {"multiprocessing_context": method, "persistent_workers": True}
    with served(tmp_path, cache) as source:
        assert global_batches(source, world, **loader) == reference


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize(
    ("workers", "method"), [(0, None), *((n, method) for n in (1, 3) for method in METHODS)]
)
def test_the_same_batches_come_in_every_combination(
    reference: list[list[str]],
    tmp_path: Path,
    workers: int,
    method: str | None,
    cache: str,
    world: int,
) -> None:
    test_the_same_batches_come(reference, tmp_path, workers, method, cache, world)


def in_order(train: nv.SyntheticRealDataset, **loader: Any) -> Iterator[list[str]]:
    """Digests of the batches from where the run stands to the end of its epoch."""
    sampler = train.sampler(2)
    for batch in DataLoader(train, 2, sampler=sampler, collate_fn=list, **loader):
        yield [digest(item) for item in batch]


def train_and_report(source: nv.VolumeSource, report: Connection) -> None:
    """A training run that saves its place after each batch."""
    train = blend(source)
    train.set_epoch(1)
    for number, batch in enumerate(in_order(train, num_workers=2), start=1):
        report.send((json.dumps(train.checkpoint(number)), batch))


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_run_goes_on_where_its_checkpoint_says(killed_after: int) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with nv.serve("phantom") as source:
        whole = blend(source)
        whole.set_epoch(1)
        expected = list(in_order(whole))
        run = multiprocessing.get_context("fork").Process(
            target=train_and_report, args=(source, theirs)
        )
        run.start()
        theirs.close()
        head = []
        for _ in range(killed_after):
            state, batch = ours.recv()
            head.append(batch)
        assert run.pid is not None
        os.kill(run.pid, signal.SIGKILL)
        run.join()
        ours.close()
        again = blend(source)
        again.resume(json.loads(state))
        tail = list(in_order(again, num_workers=1))
    assert run.exitcode == -signal.SIGKILL
    assert len(tail) == len(expected) - killed_after > 0
    assert head + tail == expected


RANK = """
import json
import sys

import torch.distributed as dist

import nvgen_aug as nv
from tests.test_same_batches import EPOCHS
from tests.test_same_batches import blend
from tests.test_same_batches import digest
from torch.utils.data import DataLoader

if __name__ == "__main__":
    address, folder, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    with nv.open_source(address) as source:
        train = blend(source)
        batches = DataLoader(train, 2, sampler=train.sampler(2), collate_fn=list, num_workers=1)
        for epoch in range(EPOCHS):
            train.set_epoch(epoch)
            for batch in batches:
                gathered = [None, None]
                dist.all_gather_object(gathered, [digest(item) for item in batch])
                if rank == 0:
                    print(json.dumps(sorted(gathered[0] + gathered[1])), flush=True)
    dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_of_torch_distributed_share_the_batches_of_one(
    reference: list[list[str]], tmp_path: Path
) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    with nv.serve("phantom", cache=tmp_path / "cache") as source:
        ranks = [
            subprocess.Popen(
                [sys.executable, str(script), source.address, str(tmp_path), str(rank)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        outputs = [rank.communicate(timeout=840)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert [json.loads(line) for line in outputs[0].splitlines()] == reference
