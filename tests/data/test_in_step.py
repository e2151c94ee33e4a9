"""Two ranks in step, in two processes: what one does when it cannot load, the other does too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import nvgen_aug as nv
from nvgen_aug.errors import DataError
from nvgen_aug.errors import ServerUnavailable
from tests.data.two_ranks import SIZE
from tests.data.two_ranks import Faltering

ROOT = Path(__file__).parents[2]
SECONDS = 240.0  # the guard against a hang; it takes seconds


def ranks(
    folder: Path,
    on_failure: str,
    *,
    down: int | None = None,
    workers: int = 0,
    seeds: tuple[int, int] = (0, 0),
) -> list[dict[str, Any]]:
    """What both ranks tell; a rank that waits for ever fails the test."""
    words = [on_failure, str(-1 if down is None else down), str(workers)]
    command = [sys.executable, "-m", "tests.data.two_ranks", str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), *words, str(seed)], cwd=ROOT)
        for rank, seed in enumerate(seeds)
    ]
    try:
        assert [process.wait(SECONDS) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two epochs of both ranks; in the first the generator of rank 1 goes down."""
    return ranks(tmp_path_factory.mktemp("ranks"), "real", down=1, workers=1)


def test_real_cases_stand_in_on_all_ranks_from_the_same_batch_on(
    outage: list[dict[str, Any]],
) -> None:
    each = len(outage[0]["planned"]) // 2
    shown = [one["shown"][:each] for one in outage]
    planned = [one["planned"][:each] for one in outage]
    both = [sum(counts) for counts in zip(*shown, strict=True)]
    first = both.index(0)
    assert 0 < first < each - 1
    assert [one[:first] for one in shown] == [one[:first] for one in planned]
    assert both[first:] == [0] * (each - first)
    # Each synthetic sample that was planned is a real case, which says so.
    for one in outage:
        assert one["status"][first:each] == one["planned"][first:each]
        assert one["error"] == ""


def test_the_next_epoch_asks_the_generator_again(outage: list[dict[str, Any]]) -> None:
    each = len(outage[0]["planned"]) // 2
    for one in outage:
        assert one["shown"][each:] == one["planned"][each:]


def test_else_all_ranks_stop_at_the_same_batch_with_the_same_error(tmp_path: Path) -> None:
    one, other = ranks(tmp_path, "reuse", down=1)
    assert one["error"] == other["error"]
    assert "rank 1: ServerUnavailable: no generator answers" in one["error"]
    assert "all ranks stop here" in one["error"]
    assert len(one["shown"]) == len(other["shown"]) > 0


def test_ranks_with_different_settings_all_hear_which(tmp_path: Path) -> None:
    one, other = ranks(tmp_path, "reuse", seeds=(3, 4))
    assert one["error"] == other["error"]
    assert one["error"].endswith("and rank 0 has seed 3; rank 1 has seed 4")
    assert one["shown"] == other["shown"] == []


def blend(good_for: int, on_failure: str) -> nv.SyntheticRealDataset:
    image = np.zeros((1, *SIZE), np.float32)
    real = [{"image": image, "label": image.astype(np.uint8)} for _ in range(4)]
    source = Faltering(good_for)
    synthetic = nv.SyntheticDataset(source, nv.Recipe(size=SIZE), on_failure=on_failure)
    return nv.SyntheticRealDataset(real, synthetic, ratio=0.5, check=False)


def test_a_rank_alone_raises_the_error_of_its_source_as_it_is() -> None:
    train = blend(1, "raise")
    loader = DataLoader(train, 2, sampler=train.sampler(2))
    with pytest.raises(ServerUnavailable, match=r"^no generator answers at unix:/nowhere$"):
        list(train.in_step(loader))


def test_it_goes_on_from_where_a_run_was_resumed() -> None:
    train = blend(100, "real")
    loader = DataLoader(train, 2, sampler=train.sampler(2))
    whole = [batch["provenance"] for batch in train.in_step(loader)]
    train.resume(train.checkpoint(1))
    assert [batch["provenance"] for batch in train.in_step(loader)] == whole[1:]


def test_a_loader_without_a_sampler_of_the_dataset_is_refused() -> None:
    train = blend(100, "real")
    with pytest.raises(DataError, match=r"make `train.sampler\(batch_size\)` first"):
        train.in_step(DataLoader(train, 2))
