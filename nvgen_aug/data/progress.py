"""Progress: where a run stands, shared by a dataset and its samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from typing import final

from ..errors import DataError
from .plan import Plan

VERSION = 2
# Characters of a setting in a table.
WIDTH = 48


@final
class Progress:
    """Epoch, layout of batches, and the place to go on from.

    Dataset and sampler both hold this cell, so that the dataset need not hold
    the sampler: MONAI walks every `__dict__` and would go round in a circle.
    """

    __slots__ = ("epoch", "is_down", "pending", "plan", "resume_epoch", "resume_samples")

    def __init__(self) -> None:
        self.epoch = 0
        # Whether samplers hand out real cases in place of synthetic volumes.
        self.is_down = False
        # A state that waits for the layout of batches it speaks of.
        self.pending: Mapping[str, Any] | None = None
        self.plan: Plan | None = None
        self.resume_epoch = -1
        self.resume_samples = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of an epoch, or to the place a state was resumed at in it."""
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__") or epoch < 0:
            msg = f"epoch must be an integer ≥ 0, got {epoch!r}"
            raise DataError(msg)
        self.epoch = int(epoch)
        if self.epoch != self.resume_epoch:
            self.resume_epoch, self.resume_samples = -1, 0

    def batches_resumed(self, plan: Plan) -> int:
        """Batches of this epoch that the next walk leaves out, on each rank."""
        samples = self.resume_samples if self.epoch == self.resume_epoch else 0
        return samples // plan.global_batch

    def begin_again(self, batch: int, plan: Plan) -> None:
        """Have the next walk begin at a batch of this epoch."""
        self.resume_epoch = self.epoch
        self.resume_samples = batch * plan.global_batch

    def take_resume(self) -> int:
        """Samples of this epoch that are done, all ranks together; once, then 0."""
        samples = self.resume_samples if self.epoch == self.resume_epoch else 0
        self.resume_epoch, self.resume_samples = -1, 0
        return samples

    def resume(self, state: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
        """Go to the place in a state that was made with this very configuration.

        Raises:
            DataError: if the state is of another kind, or another configuration; with
                every field that differs.
        """
        needed = {"version", "configuration", "epoch", "samples_done"}
        if not isinstance(state, Mapping) or not needed <= set(state):
            found = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            msg = f"a state must come from `checkpoint` and have {sorted(needed)}, got {found}"
            raise DataError(msg)
        if state["version"] != VERSION:
            msg = f"state version must be {VERSION}, got {state['version']!r}"
            raise DataError(msg)
        difference = _difference(flat(state["configuration"]), flat(configuration))
        if difference:
            msg = (
                f"the state is of another run:\n{difference}\n"
                "restore these settings, or start anew without the state"
            )
            raise DataError(msg)
        epoch, samples = int(state["epoch"]), int(state["samples_done"])
        if self.epoch > epoch and samples >= configuration["samples_per_epoch"]:
            # A loader may hand over its state late, when the caller has begun the next epoch.
            self.resume_epoch, self.resume_samples = -1, 0
            return
        self.epoch = self.resume_epoch = epoch
        self.resume_samples = samples

    def checkpoint(self, batches_done: int, volumes: Mapping[str, Any]) -> dict[str, Any]:
        """The place after some batches of one rank in this epoch: JSON.

        Raises:
            DataError: without a layout of batches, or for more than the epoch has.
        """
        plan = self.plan
        if plan is None:
            msg = "a checkpoint counts batches, so it needs `train.sampler(batch_size)` first"
            raise DataError(msg)
        if not 0 <= batches_done <= plan.batches:
            msg = f"batches_done must lie in [0, {plan.batches}], got {batches_done}"
            raise DataError(msg)
        samples = min(batches_done * plan.batch_size, plan.samples_per_rank) * plan.world_size
        return self.state(samples, configuration(plan, volumes))

    def state(self, samples_done: int, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """The place after `samples_done` samples of this epoch, all ranks together: JSON."""
        return {
            "version": VERSION,
            "configuration": dict(configuration),
            "epoch": self.epoch,
            "samples_done": samples_done,
        }


def configuration(plan: Plan, volumes: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides the order of samples, as JSON values.

    The number of ranks is not among them: another number with the same global
    batch and the same samples per epoch has the same plan.
    """
    return {
        "seed": plan.seed,
        "ratio": str(plan.schedule),
        "epoch_length": plan.epoch_length,
        "real_length": plan.real_length,
        "max_reuse": plan.max_reuse,
        "volumes": dict(volumes),
        "global_batch": plan.batch_size * plan.world_size,
        "strata": "" if plan.quotas is None else plan.quotas.digest(),
        "samples_per_epoch": plan.samples_per_rank * plan.world_size,
    }


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Each setting as a text; what belongs to the volumes under a name of its own."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": str(text) for inner, text in value.items()}
        else:
            found[name] = str(value)
    return found


def _difference(saved: Mapping[str, str], now: Mapping[str, str]) -> str:
    """A table of the settings that differ, or nothing."""
    rows = [("setting", "saved", "now")]
    for name in dict.fromkeys((*now, *saved)):
        pair = saved.get(name, "(none)"), now.get(name, "(none)")
        if pair[0] != pair[1]:
            rows.append((name, *_around_the_difference(*pair)))
    if len(rows) == 1:
        return ""
    wide, tall = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"  {name:<{wide}}  {was:<{tall}}  {now}" for name, was, now in rows)


def _around_the_difference(one: str, other: str) -> tuple[str, str]:
    """Long texts, cut to what surrounds the first place where they differ."""
    if max(len(one), len(other)) <= WIDTH:
        return one, other
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(0, same - WIDTH // 3)

    def cut(text: str) -> str:
        part = text[begin : begin + WIDTH]
        return "…" * (begin > 0) + part + "…" * (begin + WIDTH < len(text))

    return cut(one), cut(other)
