"""BlendCallback: the place in the plan goes into Lightning's checkpoints and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import final

from ..data.sampler import SyntheticRealSampler
from ..data.synthetic_real import SyntheticRealDataset
from ..errors import DataError

try:
    from lightning.pytorch import Callback
    from lightning.pytorch import LightningModule
    from lightning.pytorch import Trainer
except ImportError as error:
    msg = "nvgen_aug.integrations.lightning needs Lightning: pip install 'nvgen-aug[lightning]'"
    raise ImportError(msg) from error


@final
class BlendCallback(Callback):
    """Saves where the plan stands with every checkpoint, and goes on from there.

        def train_dataloader(self):  # here, because only now the ranks are known
            return DataLoader(train, batch_size=4, sampler=train.sampler(4), num_workers=8)

        trainer = Trainer(callbacks=[BlendCallback(train)])
        trainer.fit(model, ckpt_path="last.ckpt")  # nothing repeated, nothing skipped

    Lightning calls the sampler's `set_epoch` itself, and leaves the sampler in place
    on several devices because it is a `DistributedSampler`; `use_distributed_sampler`
    may be anything. When training starts, the loader is looked at: a sampler that is not
    the plan's, or was made for another number of ranks, would show the wrong samples
    without a word, and is an error here.

    Args:
        train: The dataset of the training loader.

    Raises:
        DataError: when training starts, if the loader does not walk the plan.
    """

    def __init__(self, train: SyntheticRealDataset) -> None:
        self.train = train
        self._trainer: Trainer | None = None
        self._is_resumed = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember whose progress is saved."""
        self._trainer = trainer

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at epoch 0, unless a checkpoint said otherwise."""
        # Lightning makes its first iterator before it calls `set_epoch`.
        if not self._is_resumed:
            self.train.set_epoch(0)
        self._is_resumed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loader that Lightning is about to use."""
        loaders = [
            loader
            for loader in _loaders(trainer.train_dataloader)
            if getattr(loader, "dataset", None) is self.train
        ]
        if not loaders:
            msg = (
                "no training loader of this Trainer has the dataset of the BlendCallback; give "
                "both the same SyntheticRealDataset, made once in each process"
            )
            raise DataError(msg)
        for loader in loaders:
            _check(loader, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The place in the plan, for Lightning's checkpoint."""
        if self._trainer is None or self.train.progress.plan is None:
            return {}
        current: Any = self._trainer.fit_loop.epoch_loop.batch_progress.current
        done: int = current.processed
        state = self.train.checkpoint(min(done, self.train.progress.plan.batches))
        if done >= self.train.progress.plan.batches:
            # A checkpoint from the end of an epoch begins the next one.
            state |= {"epoch": state["epoch"] + 1, "samples_done": 0}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; compared with the configuration once the sampler is made.

        Raises:
            DataError: if anything that decides the order has changed; with the difference.
        """
        if state_dict:
            self.train.resume(state_dict)
            self._is_resumed = True


def _check(loader: Any, trainer: Trainer) -> None:
    sampler = loader.sampler
    if not isinstance(sampler, SyntheticRealSampler):
        msg = (
            f"the training loader has a {type(sampler).__name__} in place of the plan's sampler, "
            "so no batch has its share; pass `sampler=train.sampler(batch_size)` to the DataLoader "
            "(not `shuffle` and not `batch_sampler`), and leave `overfit_batches` at 0"
        )
        raise DataError(msg)
    # Fewer than processes, where several hold one model.
    ranks = (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
    if sampler.num_replicas != ranks:
        msg = (
            f"the sampler was made for {sampler.num_replicas} ranks, but the Trainer has "
            f"{ranks}, so ranks would see the same samples; make it inside "
            "`train_dataloader`, where the ranks are known"
        )
        raise DataError(msg)
    if loader.batch_size != sampler.batch_size:
        msg = (
            f"the loader makes batches of {loader.batch_size}, the sampler of "
            f"{sampler.batch_size}; give both the same batch size, that of one rank"
        )
        raise DataError(msg)


def _loaders(found: Any) -> Iterator[Any]:
    """The loaders in what `train_dataloader` returned: one, or lists and mappings of them."""
    if isinstance(found, Mapping):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        for one in found:
            yield from _loaders(one)
    else:
        yield from _loaders(found.iterables) if hasattr(found, "iterables") else [found]
