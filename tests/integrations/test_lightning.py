"""Lightning: a real `Trainer.fit` walks the plan, on one process and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is missing")

from nvgen_aug.integrations.lightning import BlendCallback  # noqa: E402

pytestmark = [
    # Lightning's own advice, which these tests have no use for.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used.*"),
    pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable.*"),
    pytest.mark.filterwarnings("ignore:.*turning off the train dataloader shuffling.*"),
    pytest.mark.filterwarnings("ignore:.*directory .* exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*"),
]


class Model(pl.LightningModule):  # type: ignore[misc, name-defined]
    """Writes down which samples it was trained on."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[str]] = []
        self.stop_after = stop_after

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(list(batch["provenance"]))
        if len(self.seen) == self.stop_after:
            self.trainer.should_stop = True
        return (batch["image"].as_tensor().mean() * self.weight).abs()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def blend(seed: int = 0) -> SyntheticRealDataset:
    volumes = synthetic(max_reuse=2)
    return SyntheticRealDataset(real_cases(), volumes, ratio=0.5, epoch_length=8, seed=seed)


def trainer(where: Path, *callbacks: Any, **arguments: Any) -> Any:
    arguments = {"max_epochs": 3, **arguments}
    return pl.Trainer(
        default_root_dir=where,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **arguments,
    )


def loader(train: SyntheticRealDataset, workers: int = 0) -> Any:
    return DataLoader(train, batch_size=2, sampler=train.sampler(2), num_workers=workers)


def planned(train: SyntheticRealDataset, epochs: int) -> list[list[str]]:
    keys = [key for epoch in range(epochs) for key in train.plan(epoch, batch_size=2)]
    texts = [train[key]["provenance"] for key in keys]
    return [texts[first : first + 2] for first in range(0, len(texts), 2)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_trainer_walks_the_plan_and_sets_the_epoch_itself(tmp_path: Path, workers: int) -> None:
    train, model = blend(), Model()
    train.set_epoch(7)  # left over from something else
    trainer(tmp_path, BlendCallback(train)).fit(model, loader(train, workers))
    assert model.seen == planned(train, 3)


@pytest.mark.parametrize("stop_after", [2, 4, 5])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_checkpoint_goes_on_where_it_was_saved(
    tmp_path: Path, workers: int, stop_after: int
) -> None:
    # Batches 1, 2 and 3 end in the middle of an epoch, batch 4 ends it.
    saving = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    train, head = blend(), Model(stop_after)
    trainer(tmp_path, BlendCallback(train), saving, min_epochs=0).fit(head, loader(train, workers))
    again, tail = blend(), Model()
    trainer(tmp_path, BlendCallback(again)).fit(
        tail, loader(again, workers), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert head.seen == planned(train, 3)[: len(head.seen)]
    assert tail.seen == planned(train, 3)[len(head.seen) :]


def test_a_checkpoint_of_another_plan_is_refused_with_the_difference(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
    train = blend()
    trainer(tmp_path, BlendCallback(train), saving, max_steps=2).fit(Model(), loader(train))
    other = blend(seed=1)
    batches = loader(other)
    with pytest.raises(DataError, match=r"seed +0 +1"):
        trainer(tmp_path, BlendCallback(other)).fit(
            Model(), batches, ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )


@pytest.mark.parametrize(
    ("make", "arguments", "text"),
    [
        (lambda t: DataLoader(t, batch_size=2), {}, "SequentialSampler in place of the plan's"),
        (lambda t: DataLoader(t, batch_size=2, shuffle=True), {}, "RandomSampler in place"),
        (loader, {"overfit_batches": 2}, "SequentialSampler in place .*`overfit_batches` at 0"),
        (
            lambda t: DataLoader(t, batch_size=2, sampler=t.sampler(2, 2, 0)),
            {},
            "made for 2 ranks, but the Trainer has 1",
        ),
        (
            lambda t: DataLoader(t, batch_size=4, sampler=t.sampler(2)),
            {},
            "batches of 4, the sampler of 2",
        ),
        (lambda t: loader(blend()), {}, "no training loader of this Trainer"),
    ],
)
def test_a_loader_that_does_not_walk_the_plan_is_refused_before_the_first_batch(
    tmp_path: Path, make: Any, arguments: Any, text: str
) -> None:
    train, model = blend(), Model()
    batches = make(train)
    with pytest.raises(DataError, match=text):
        trainer(tmp_path, BlendCallback(train), **arguments).fit(model, batches)
    assert model.seen == []


SCRIPT = """
import json
import sys

import torch
from lightning import pytorch as pl
from torch.utils.data import DataLoader

import nvgen_aug as nv
from nvgen_aug.integrations.lightning import BlendCallback
from tests.data.phantoms import LABELS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import real_cases


class Model(pl.LightningModule):
    def __init__(self, train, out):
        super().__init__()
        self.blend, self.out, self.seen = train, out, []
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def train_dataloader(self):
        return DataLoader(self.blend, batch_size=2, sampler=self.blend.sampler(2))

    def training_step(self, batch, batch_idx):
        self.seen.append([self.current_epoch, list(batch["provenance"])])
        return (batch["image"].as_tensor().mean() * self.weight).abs()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_end(self):
        with open(f"{self.out}/{self.global_rank}.json", "w") as file:
            json.dump([self.trainer.world_size, self.seen], file)


if __name__ == "__main__":
    with nv.serve("phantom") as source:
        volumes = nv.SyntheticDataset(source, RECIPE, labels=LABELS, max_reuse=2)
        train = nv.SyntheticRealDataset(real_cases(), volumes, ratio=0.3, epoch_length=10)
        pl.Trainer(
            default_root_dir=sys.argv[1],
            accelerator="cpu",
            devices=2,
            strategy=sys.argv[2],
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[BlendCallback(train)],
        ).fit(Model(train, sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_share_each_global_batch_of_the_plan(tmp_path: Path, strategy: str) -> None:
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, str(script), str(tmp_path), strategy],
        check=True,
        timeout=840,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    train = SyntheticRealDataset(
        real_cases(), synthetic(max_reuse=2), ratio=0.3, epoch_length=10, seed=0
    )
    for rank in range(2):
        world, seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert world == 2
        found = [text for _, texts in seen for text in texts]
        keys = [key for epoch in range(2) for key in train.plan(epoch, 2, 2, rank)]
        assert found == [train[key]["provenance"] for key in keys]
        assert [epoch for epoch, _ in seen] == [0] * 3 + [1] * 3
