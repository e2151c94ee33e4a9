"""SyntheticRealDataset: real and synthetic items in one dataset, at an exact share."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from fractions import Fraction
from time import perf_counter
from typing import Any
from typing import final

from torch.utils.data import Dataset

from ..errors import DataError
from ..errors import GenerationError
from ..schedule import Schedule
from ..schedule import as_schedule
from ..share import Share
from .chance import Chance
from .chance import Transform
from .chance import as_transform
from .guard import Guard
from .guard import check_batch
from .in_step import InStep
from .plan import Plan
from .plan import SampleKey
from .plan import as_integer
from .plan import epoch_length_for
from .progress import Progress
from .progress import configuration
from .progress import flat
from .real_cases import RealCases
from .recorder import Loaded
from .recorder import Recorder
from .recorder import run_settings
from .report import BlendReport
from .report import blend_report
from .sampler import SyntheticRealSampler
from .split import TRAIN
from .split import check_split
from .split import refuse_synthetic
from .strata import Strata
from .stratified import Stratified
from .synthetic import SyntheticDataset


@final
class SyntheticRealDataset(Dataset[Any]):
    """Real and synthetic items, planned ahead, at an exact share of synthetic ones.

    Every item has `image` and, where the real cases have one, `label` (float32
    MetaTensors, channel first), `synthetic` (0 or 1) and `provenance` (one JSON
    string); other entries of real cases are dropped. Use it with its sampler:

        loader = DataLoader(train, batch_size=4, sampler=train.sampler(4), num_workers=8)

    Then |delivered − asked| < 1 sample at every batch boundary of the run, for
    all ranks together and for each. Order and content of all batches depend on
    seed, epoch and global batch alone, and not on workers, start method or ranks.
    An integer index `i` means position `i` of the current epoch by `plan(epoch)`,
    that is for one rank and batches of one.

    Args:
        real: The caller's dataset of real cases, with `len`: mappings with `image`
            and `label`, tensors or arrays `[C, X, Y, Z]`. Its own random transforms
            are seeded for each item, too. Not needed if `ratio` is 1.
        synthetic: Synthetic volumes. Not needed, and never touched, if `ratio` is 0.
        ratio: Share of synthetic samples in [0, 1]; 0.3 means exactly 3 of 10. Or a
            schedule of it: `Constant`, `Linear`, `Cosine` or `Piecewise`, by epochs or
            by steps, which are the global batches of the run; for instance
            `Piecewise(epochs={0: 0.3, 80: 0})` ends with 0.3 after 80 epochs.
        transform: Random augmentation of both kinds; a list becomes a `Compose`.
        epoch_length: Samples of an epoch, all ranks together. `None` is the fewest
            in which the real cases pass `real_passes` times:
            ⌈real_passes × len(real) / (1 − ratio)⌉. A schedule, and ratio 1, must give it.
        real_passes: How often an epoch shows every real case, if `epoch_length` is
            `None`; a fraction, too, where the real dataset is large.
        epochs: Epochs of the whole run, if you know them: no volume is then asked for
            ahead that would be seen only after the end.
        strata: What is to be shown how often, such as small lesions; the kinds of the
            synthetic draws follow from it. With `Strata(fill="real")` real cases are
            repeated in their place, for a control at the same exposure.
        seed: Where order and augmentation come from.
        split: `"train"`, or `"validation"` or `"test"`, which refuse any synthetic sample.
        check: Look at every voxel of real items (about 1 ms per million), at the shapes of
            each batch, and once at the first items of both kinds: another spacing,
            orientation or labels are refused, another brightness is warned of.

    Raises:
        RatioError: if `ratio` is neither a schedule nor a number in [0, 1].
        DataError: for data that cannot be used, or arguments that contradict.
    """

    def __init__(
        self,
        real: Any,
        synthetic: SyntheticDataset | None,
        *,
        ratio: Schedule | Share,
        transform: Transform = None,
        epoch_length: int | None = None,
        real_passes: Share = 1,
        epochs: int | None = None,
        strata: Strata | None = None,
        seed: int = 0,
        split: str = TRAIN,
        check: bool = True,
    ) -> None:
        self.schedule = as_schedule(ratio)
        self.split = check_split(split, self.schedule)
        self.synthetic = synthetic
        self.seed = as_integer("seed", seed, 0)
        self.check = check
        self._real = RealCases(real, self.schedule, split, check)
        self.strata = strata
        recipe = None if synthetic is None else synthetic.recipe
        self._quotas = None if strata is None else strata.quotas(recipe, cases=self._real.length)
        fills_with_real = self._quotas is not None and self._quotas.fills_with_real
        if self.schedule.most > 0 and synthetic is None and not fills_with_real:
            msg = f"ratio {ratio} needs a SyntheticDataset, got None; pass one, or ratio=0"
            raise DataError(msg)
        self.stratified: Stratified | None = None
        ids = None
        if synthetic is not None and self.schedule.most > 0 and not fills_with_real:
            self.stratified = Stratified(synthetic, strata)
            ids = synthetic.label_ids
        if epoch_length is None:
            epoch_length = epoch_length_for(self.schedule, self._real.length, real_passes)
        self.epoch_length = as_integer("epoch_length", epoch_length, 1)
        self.epochs = None if epochs is None else as_integer("epochs", epochs, 1)
        self.progress = Progress()
        self._transform = Chance(as_transform(transform))
        self._recorder = Recorder(None)
        self._guard = Guard(ids)
        self._plan = self._layout(1, 1)

    def __len__(self) -> int:
        return self.epoch_length

    def __getitem__(self, index: SampleKey | int) -> Any:
        loaded = self._load(self._key(index))
        self._recorder.write([loaded])
        return loaded.item

    def __getitems__(self, indices: Sequence[SampleKey | int]) -> list[Any]:
        """One batch; torch's loader calls this.

        All synthetic volumes are asked for first, and real cases are loaded while the
        generator works.
        """
        keys = [self._key(index) for index in indices]
        if self.stratified is not None:
            self.stratified.announce(key for key in keys if not key.is_down)
        real_first = sorted(range(len(keys)), key=lambda place: keys[place].is_synthetic)
        at = {place: self._load(keys[place]) for place in real_first}
        loaded = [at[place] for place in range(len(keys))]
        if self.check:
            check_batch([one.item for one in loaded], [one.name for one in loaded])
        self._recorder.write(loaded)
        return [one.item for one in loaded]

    @property
    def ratio(self) -> Fraction:
        """The share of synthetic samples that is asked for in the current epoch."""
        plan, epoch = self._current, self.progress.epoch
        return plan.asked_in_epoch(epoch) / (plan.samples_per_rank * plan.world_size)

    @property
    def real(self) -> Any:
        """The caller's dataset of real cases."""
        return self._real.dataset

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """The augmentation of both kinds."""
        transform: Callable[[Any], Any] | None = self._transform.root
        return transform

    def sampler(
        self,
        batch_size: int,
        num_replicas: int | None = None,
        rank: int | None = None,
        *,
        drop_last: bool = False,
    ) -> SyntheticRealSampler:
        """The sampler of one rank.

        Args:
            batch_size: Samples of a batch on one rank, the same that the loader gets.
            num_replicas: Number of ranks; `None` asks `torch.distributed`.
            rank: This rank; `None` asks likewise.
            drop_last: End an epoch with its last full batch on all ranks. What is left
                over is not thrown away; the next epoch begins with it.
        """
        return SyntheticRealSampler(self, batch_size, num_replicas, rank, drop_last=drop_last)

    def in_step(self, loader: Any) -> InStep:
        """The batches of a loader on all ranks together, which stop or go on alike."""
        can_go_on = self.synthetic is not None and self.synthetic.on_failure == "real"
        settings = flat(configuration(self._current, self.volumes))
        return InStep(loader, self.progress, settings, goes_on=can_go_on and self._real.length > 0)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; samplers of this dataset follow."""
        self.progress.set_epoch(epoch)

    def plan(
        self,
        epoch: int,
        batch_size: int = 1,
        num_replicas: int = 1,
        rank: int = 0,
        *,
        drop_last: bool = False,
    ) -> list[SampleKey]:
        """The keys of an epoch, as a sampler of this layout yields them; nothing is loaded.

        A schedule over steps counts the batches of this layout.
        """
        return list(self._layout(batch_size, num_replicas, drop_last).epoch(epoch, rank))

    def layout(self, batch_size: int, num_replicas: int, drop_last: bool = False) -> Plan:
        """The plan for these batches and ranks, which `report` and `checkpoint` then speak of."""
        plan = self._layout(batch_size, num_replicas, drop_last)
        if self.progress.pending is not None:
            self.progress.resume(self.progress.pending, configuration(plan, self.volumes))
            self.progress.pending = None
        self.progress.plan = plan
        self._recorder.lay_out(plan)
        return plan

    def record_to(self, folder: str | os.PathLike[str]) -> None:
        """Write what every sample was to `events.jsonl` in a folder, for `nvgen-aug inspect`.

        Call it before the loader is made, on every rank; a run that is resumed goes on in
        the same folder. docs/provenance.md has the format.

        Raises:
            DataError: if it cannot be written.
        """
        self._recorder = Recorder(folder)
        self._recorder.begin(
            run_settings(
                self._current, self.volumes, self.synthetic if self.schedule.most else None
            )
        )
        self._recorder.lay_out(self.progress.plan)

    def checkpoint(self, batches_done: int) -> dict[str, Any]:
        """Where the run stands after some batches of the current epoch: a small JSON value.

        Args:
            batches_done: Batches that one rank has trained on in this epoch.

        Raises:
            DataError: without a sampler, or for more batches than the epoch has.
        """
        return self.progress.checkpoint(batches_done, self.volumes)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go to the place of a checkpoint: nothing is repeated, nothing skipped.

        The next walk through the sampler begins there, in the epoch `state["epoch"]`;
        another number of ranks is fine if the global batch is the same. Without a
        sampler yet, the state waits for it, and is compared when the sampler is made.

        Raises:
            DataError: if anything that decides the order has changed; with the difference.
        """
        if self.progress.plan is None:
            self.progress.pending = state
            return
        self.progress.resume(state, configuration(self.progress.plan, self.volumes))

    def report(self) -> BlendReport:
        """Shares and reuse by plan up to the current epoch, and what the source has done.

        The plan is known even where the source is gone, which then is `None` in the report.
        """
        drawn = self.stratified
        return blend_report(
            self._current,
            self.progress.epoch + 1,
            failures=None if drawn is None else drawn.failures,
            source=None if drawn is None else drawn.stats(),
            held=None if drawn is None else drawn.held(),
        )

    @property
    def volumes(self) -> dict[str, str]:
        """What names the synthetic volumes; empty if there are none."""
        return {} if self.stratified is None else self.stratified.identity()

    @property
    def _current(self) -> Plan:
        """The plan that was laid out last, by a sampler; else that of batches of one."""
        return self.progress.plan or self._plan

    def _layout(self, batch_size: int, world_size: int, drop_last: bool = False) -> Plan:
        return Plan(
            seed=self.seed,
            ratio=self.schedule,
            epoch_length=self.epoch_length,
            real_length=self._real.length,
            volume_seed=0 if self.synthetic is None else self.synthetic.seed,
            max_reuse=1 if self.synthetic is None else self.synthetic.max_reuse,
            batch_size=batch_size,
            world_size=world_size,
            drop_last=drop_last,
            quotas=self._quotas,
        )

    def _key(self, index: SampleKey | int) -> SampleKey:
        if isinstance(index, SampleKey):
            return index
        return self._plan.key_at(self.progress.epoch, index)

    def _load(self, key: SampleKey) -> Loaded:
        began = perf_counter()
        item = self._synthetic_item(key) if key.is_synthetic else self._real.item(key)
        is_synthetic = item["synthetic"]
        name = f"synthetic volume {key.index}" if key.is_synthetic else f"real case {key.index}"
        if key.is_synthetic and not is_synthetic:
            name = f"the real case in place of {name}"
        if self.check:
            self._guard.check_prepared(item, is_synthetic, name)
        prepared = item
        if self._transform.root is not None:
            with self._transform.of(key.view_seed):
                item = self._transform.root(dict(prepared))
        if self.split != TRAIN:
            refuse_synthetic(item, name, self.split)
        if self.check:
            self._guard.check(item, is_synthetic, name, warn=key.epoch == 0)
        return Loaded(item, name, self._recorder.sample(key, self._current, prepared, item, began))

    def _synthetic_item(self, key: SampleKey) -> dict[str, Any]:
        assert self.stratified is not None
        volumes = self.stratified.of(key.stratum)
        try:
            if not key.is_down:
                return volumes.item(key.index, key.view_seed, key.reuse)
        except GenerationError:
            if volumes.on_failure != "real" or not self._real.length:
                raise
        volumes.replaced_by_real()
        return self._real.substitute(key)
