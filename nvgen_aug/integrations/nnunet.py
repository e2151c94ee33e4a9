"""BlendMixin and PlannedCases: nnU-Net v2 trains on real and synthetic cases, by a plan."""

from __future__ import annotations

import multiprocessing
from collections import deque
from typing import Any
from typing import final

import numpy as np

from ..data.plan import Plan
from ..data.plan import SampleKey
from ..data.schema import IMAGE
from ..data.schema import LABEL
from ..data.seeds import derived_seed
from ..data.synthetic import SyntheticDataset
from ..errors import DataError
from ..errors import GenerationError
from ..schedule import Schedule
from ..share import Share

try:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
except ImportError as error:
    msg = "nvgen_aug.integrations.nnunet needs nnU-Net: pip install 'nvgen-aug[nnunet]'"
    raise ImportError(msg) from error

# What nnU-Net asks of a case: image, segmentation, that of the stage before, properties.
Case = tuple[Any, Any, Any, dict[str, Any]]


class BlendMixin(nnUNetTrainer):  # type: ignore[misc]
    """A trainer whose batches hold synthetic cases, at an exact share.

        class nnUNetTrainerBlend(BlendMixin):
            ratio = 0.3

            def make_synthetic(self):
                return nv.SyntheticDataset(nv.open_source("unix:/run/…"), nv.Recipe(…), labels=…)

    nnU-Net finds trainers by name: put the class into a file of a folder that the
    environment variable `nnUNet_extTrainer` names, and give `-tr nnUNetTrainerBlend` to
    `nnUNetv2_train`.

    Synthetic volumes go through nnU-Net's own preprocessing, with the plans of the real
    cases: give `make_synthetic` no transform and no crop, and make volumes at the spacing
    of the plans, or they are resampled each time. Validation sees real cases only.

    nnU-Net's worker processes draw batches of the plan as each gets to it, so batches may
    come in another order than planned; the first n that are drawn are those of the plan.

    The generator must be one that other processes reach: `serve` it, or `open_source` an
    address.
    """

    ratio: Schedule | Share = 0.3
    blend_seed: int = 0

    def make_synthetic(self) -> SyntheticDataset:
        """The synthetic volumes, with the label ids of this nnU-Net dataset; write this one."""
        msg = f"{type(self).__name__} must have a method make_synthetic() -> SyntheticDataset"
        raise NotImplementedError(msg)

    def get_tr_and_val_datasets(self) -> tuple[PlannedCases, Any]:
        """Planned training cases, and nnU-Net's own validation cases."""
        real, valid = super().get_tr_and_val_datasets()
        if self.num_input_channels != 1:
            msg = f"synthetic images have one channel, this dataset has {self.num_input_channels}"
            raise DataError(msg)
        if self.is_cascaded:
            msg = "synthetic cases have no earlier stage; blend into `3d_fullres`, not a cascade"
            raise DataError(msg)
        cases = PlannedCases(
            real,
            self.make_synthetic(),
            Preparation(self.plans_manager, self.configuration_manager, self.dataset_json),
            ratio=self.ratio,
            batch_size=self.batch_size,
            batches_per_epoch=self.num_iterations_per_epoch,
            # Each rank draws by a plan of its own, as nnU-Net's do.
            seed=derived_seed("nnunet rank", self.blend_seed, self.local_rank),
            first_batch=self.current_epoch * self.num_iterations_per_epoch,
        )
        return cases, valid


@final
class Preparation:
    """nnU-Net's preprocessing of one synthetic item, in memory.

    Args:
        plans: The `PlansManager` of the real cases.
        configuration: The `ConfigurationManager`.
        dataset_json: What nnU-Net knows of labels and channels.
    """

    def __init__(self, plans: Any, configuration: Any, dataset_json: Any) -> None:
        self.plans = plans
        self.configuration = configuration
        self.dataset_json = dataset_json

    def __call__(self, item: dict[str, Any]) -> Case:
        """The item as a preprocessed case, with `class_locations` in its properties."""
        if LABEL not in item:
            msg = "nnU-Net needs labels, but the synthetic volumes have none; use another variant"
            raise DataError(msg)
        # nnU-Net's readers give [C, Z, Y, X].
        image, label = (item[key].numpy().transpose(0, 3, 2, 1) for key in (IMAGE, LABEL))
        spacing = np.linalg.norm(item[IMAGE].affine.numpy()[:3, :3], axis=0)[::-1]
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        data, segmentation, properties = preprocessor.run_case_npy(
            image,
            label.astype(np.int16),
            {"spacing": [float(mm) for mm in spacing]},
            self.plans,
            self.configuration,
            self.dataset_json,
        )
        return data, segmentation, None, properties


@final
class PlannedCases(nnUNetBaseDataset):  # type: ignore[misc]
    """Cases for nnU-Net's loader, in the order of a plan.

    nnU-Net's loader draws identifiers with replacement and asks for one after another.
    What it drew is set aside: the n-th batch that is begun, in whatever process, is the
    n-th of the plan, so that each has its share of synthetic cases and every real case
    comes once before any comes twice.

    Args:
        real: nnU-Net's dataset of preprocessed real cases.
        synthetic: The synthetic volumes.
        prepare: nnU-Net's preprocessing of a synthetic item.
        ratio: Share of synthetic cases, or a schedule of it.
        batch_size: Cases of a batch.
        batches_per_epoch: What a schedule by epochs counts.
        seed: Where the order comes from.
        first_batch: Where a resumed training goes on.
    """

    def __init__(
        self,
        real: Any,
        synthetic: SyntheticDataset,
        prepare: Preparation,
        *,
        ratio: Schedule | Share,
        batch_size: int,
        batches_per_epoch: int = 250,
        seed: int = 0,
        first_batch: int = 0,
    ) -> None:
        folder = real.folder_with_segs_from_previous_stage
        super().__init__(real.source_folder, list(real.identifiers), folder)
        self.real = real
        self.synthetic = synthetic
        self.prepare = prepare
        self.plan = Plan(
            seed=seed,
            ratio=ratio,
            epoch_length=batch_size * batches_per_epoch,
            real_length=len(self.identifiers),
            volume_seed=synthetic.seed,
            max_reuse=synthetic.max_reuse,
            batch_size=batch_size,
        )
        # Shared with the worker processes that nnU-Net starts later.
        self._next_batch = multiprocessing.Value("q", first_batch)
        self._waiting: deque[SampleKey] = deque()

    def load_case(self, identifier: str) -> Case:
        """The case that the plan has at this place.

        Raises:
            GenerationError, SourceError: as `SyntheticDataset.item` does.
        """
        if not self._waiting:
            self._waiting.extend(self._begin_batch())
        key = self._waiting.popleft()
        if not key.is_synthetic:
            return self._real(key.index)
        try:
            item = self.synthetic.item(key.index, key.view_seed, key.reuse)
        except GenerationError:
            if self.synthetic.on_failure != "real":
                raise
            self.synthetic.replaced_by_real()
            return self._real(derived_seed("substitute", key.view_seed) % len(self.identifiers))
        return self.prepare(item)

    @staticmethod
    def save_case(*arguments: Any, **named: Any) -> None:
        """Not for cases that are made anew each time."""
        msg = "planned cases are not saved; save real ones with nnU-Net's own dataset class"
        raise DataError(msg)

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """Not known from a folder alone."""
        msg = f"planned cases are given their real cases, not found in {folder}"
        raise DataError(msg)

    def _real(self, number: int) -> Case:
        case: Case = self.real.load_case(self.identifiers[number])
        return case

    def _begin_batch(self) -> list[SampleKey]:
        with self._next_batch.get_lock():
            number = self._next_batch.value
            self._next_batch.value = number + 1
        keys = self.plan.keys(*divmod(number, self.plan.batches))
        # All are asked for before the first is waited for.
        self.synthetic.prefetch([key.index for key in keys if key.is_synthetic])
        return keys
