"""Recorder: what every sample of a run was, written as events by the process that loaded it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np
import torch
from monai.data import MetaTensor
from torch.utils.data import get_worker_info

from ..errors import DataError
from ..provenance import Provenance
from ..record import RunRecord
from .events import Event
from .events import EventLog
from .guard import samples
from .plan import Plan
from .plan import SampleKey
from .progress import configuration
from .schema import IMAGE
from .schema import LABEL
from .schema import PROVENANCE
from .traces import fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .synthetic import SyntheticDataset

# What is the same for all uses of a volume, and written once; all else belongs to a sample.
_OF_AN_ITEM = (
    "variant",
    "weights_digest",
    "generator",
    "spec",
    "seed",
    "mask_source",
    "mask_parent",
    "image_source",
    "quality",
    "attempts",
    "retry_seed",
    "licence",
    "version",
)
_FEW = 24  # labels; more are counted in one pass
_FINGERPRINTS = 200  # of each kind and process: enough to tell the kinds apart


@final
@dataclass(frozen=True, slots=True)
class Loaded:
    """A sample, what errors call it, and what the record of the run says of it."""

    item: Any
    name: str
    events: Sequence[Event] = ()


@final
class Recorder:
    """Turns samples into events, and appends them to the log of a run.

    It is picklable and holds nothing open; every worker writes for itself, once a batch,
    under a lock on the file. It runs no thread.

    Args:
        folder: Folder of the run; `None` for one that is not recorded.
    """

    __slots__ = ("_fingerprints", "_known", "_log")

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._log = None if folder is None else EventLog(folder)
        self._known: set[str] = set()
        self._fingerprints = {0: 0, 1: 0}

    def __reduce__(self) -> tuple[Any, ...]:
        return Recorder, (None if self._log is None else self._log.path.parent,)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Say what is about to run: settings, code, packages and machine.

        Args:
            settings: As `run_settings` has them.

        Raises:
            DataError: if the folder holds another run, or cannot be written.
        """
        if self._log is None:
            return
        first = self._log.first()
        before = first.get("settings", {}) if first else settings
        changed = [
            f"{name}: there {before.get(name)!r}, now {value!r}"
            for name, value in settings.items()
            if before.get(name) != value
        ]
        if changed:
            msg = (
                f"{self._log.path.parent} holds the events of another run ({'; '.join(changed)}); "
                "choose a new folder, or restore these settings to go on with that run"
            )
            raise DataError(msg)
        record = asdict(RunRecord("nvgen_aug.run", settings, {}))
        record.pop("numbers")
        self._log.append([{"kind": "run", "pid": os.getpid(), **record}], durable=True)

    def lay_out(self, plan: Plan | None) -> None:
        """Say how samples are laid out in batches and ranks, if that is known."""
        if self._log is None or plan is None:
            return
        layout = {
            "ratio": str(plan.schedule),
            "epoch_length": plan.epoch_length,
            "batch_size": plan.batch_size,
            "world_size": plan.world_size,
            "samples_per_rank": plan.samples_per_rank,
            "batches": plan.batches,
        }
        self._log.append([{"kind": "plan", "pid": os.getpid(), **layout}], durable=True)

    def sample(
        self, key: SampleKey, plan: Plan, prepared: Mapping[str, Any], delivered: Any, began: float
    ) -> list[Event]:
        """The events of one sample; nothing is written yet, and nothing done for no record.

        Args:
            key: What was planned.
            plan: The plan it is part of.
            prepared: The item before augmentation.
            delivered: What is handed out, after it.
            began: `time.perf_counter()` when loading began.
        """
        if self._log is None:
            return []
        seconds = time.perf_counter() - began
        parts = samples(delivered)
        provenance = Provenance.from_json(_provenance(parts) or prepared[PROVENANCE])
        place = place_of(key, plan)
        use = {
            "kind": "sample",
            **place,
            "worker": _worker(),
            "pid": os.getpid(),
            "planned": "synthetic" if key.is_synthetic else "real",
            "index": key.index,
            "view_seed": key.view_seed,
            "asked": _asked(plan, place),
            "seconds": round(seconds, 4),
            "labels": voxels_by_id(parts),
            **{k: v for k, v in asdict(provenance).items() if k not in _OF_AN_ITEM},
        }
        return [*self._first_seen(provenance, prepared, parts), use]

    def write(self, loaded: Sequence[Loaded]) -> None:
        """Append the events of some samples, all at once.

        Raises:
            DataError: if the folder cannot be written.
        """
        if self._log is not None:
            self._log.append([event for one in loaded for event in one.events])

    def _first_seen(
        self, provenance: Provenance, prepared: Mapping[str, Any], parts: Sequence[Any]
    ) -> list[Event]:
        if provenance.uid in self._known:
            return []
        self._known.add(provenance.uid)
        event: Event = {"kind": "item", "source": provenance.source, "uid": provenance.uid}
        event |= {k: v for k in _OF_AN_ITEM if (v := getattr(provenance, k)) != ""}
        kind = int(provenance.source == "synthetic")
        if self._fingerprints[kind] < _FINGERPRINTS:
            self._fingerprints[kind] += 1
            event["prepared"] = _rounded(prepared.get(IMAGE))
            event["delivered"] = _rounded(parts[0].get(IMAGE) if parts else None)
        return [event]


def run_settings(
    plan: Plan, volumes: Mapping[str, str], synthetic: SyntheticDataset | None
) -> dict[str, Any]:
    """What a run was asked to do, and by which generator, as JSON values.

    Args:
        plan: The plan.
        volumes: What names the synthetic volumes.
        synthetic: Where they come from; `None` for a run without any.
    """
    settings = configuration(plan, volumes)
    for of_the_layout in ("global_batch", "samples_per_epoch"):
        del settings[of_the_layout]
    if synthetic is None:
        return settings
    card = synthetic.source.card
    names = card.vocabulary if synthetic.labels is None else synthetic.labels.names
    labels: dict[str, str] = {}
    for name, value in names.items():
        known = labels.get(str(value))
        labels[str(value)] = name if known is None else f"{known}, {name}"
    return {
        **settings,
        "variant": card.name,
        "weights_digest": card.weights_digest,
        "licence": card.licence,
        "intensity": card.intensity,
        "label_names": labels,
        "on_failure": synthetic.on_failure,
    }


def place_of(key: SampleKey, plan: Plan) -> dict[str, int]:
    """Epoch, position, step of the run and rank of a sample."""
    batch, within = divmod(key.position, plan.batch_size * plan.world_size)
    size = min(plan.batch_size, plan.samples_per_rank - batch * plan.batch_size)
    return {
        "epoch": key.epoch,
        "position": key.position,
        "step": key.epoch * plan.batches + batch,
        "rank": within // size,
    }


def voxels_by_id(parts: Sequence[Any]) -> dict[str, int]:
    """Voxels of each label but 0, over the samples of one item.

    About 1 ms per million voxels for a few labels. Ids fit in a byte, as those of this
    package do; larger ones are not told apart.
    """
    total: dict[str, int] = {}
    for part in parts:
        label = part.get(LABEL) if isinstance(part, Mapping) else None
        if not isinstance(label, torch.Tensor) or label.numel() == 0:
            continue
        plain = label.as_tensor() if isinstance(label, MetaTensor) else label
        ids = plain.detach().cpu().reshape(-1).to(torch.uint8).numpy()
        for value, voxels in _counted(ids):
            total[str(value)] = total.get(str(value), 0) + voxels
    return total


def _counted(ids: NDArray[np.uint8]) -> list[tuple[int, int]]:
    most = int(ids.max())
    if most <= _FEW:
        # A comparison counts 64 voxels at a time; a histogram takes them one by one.
        counts = [(value, int(np.count_nonzero(ids == value))) for value in range(1, most + 1)]
    else:
        counts = [(int(v), int(n)) for v, n in enumerate(np.bincount(ids)) if v]
    return [(value, voxels) for value, voxels in counts if voxels]


def _provenance(parts: Sequence[Any]) -> str:
    """What is handed out says itself where it is from: a coin may have been tossed on the way."""
    text = parts[0].get(PROVENANCE) if parts and isinstance(parts[0], Mapping) else None
    return text if isinstance(text, str) else ""


def _asked(plan: Plan, place: Mapping[str, int]) -> float:
    time_of_run = place["step"] if plan.schedule.unit == "steps" else place["epoch"]
    return float(plan.schedule.share_at(time_of_run))


def _worker() -> int:
    """Number of this worker; −1 in the process that trains."""
    worker = get_worker_info()
    return -1 if worker is None else int(worker.id)


def _rounded(image: Any) -> list[float]:
    if not isinstance(image, torch.Tensor) or image.ndim < 2:
        return []
    return [float(f"{value:.5g}") for value in fingerprint(image)]
