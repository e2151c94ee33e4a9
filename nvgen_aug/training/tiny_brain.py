"""Tiny brain: all stages of its training, in order, and the files it ships as."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file

from ..generators.maisi.networks import build_autoencoder
from ..generators.maisi.networks import build_control
from ..generators.maisi.networks import build_flow
from ..generators.maisi.variants import TINY_BRAIN
from ..generators.maisi.weights import IMAGE_CONTROL_FILE
from ..generators.maisi.weights import TEMPLATE_FILE
from ..generators.maisi.weights import WEIGHTS_FILE
from ..generators.maisi.weights import save_weights
from ..generators.maisi.weights import weights_digest
from ..record import RunRecord
from .autoencoder import train_autoencoder
from .controlnet import train_control
from .cross_sequence import IMAGE_MINUTES
from .cross_sequence import IMAGE_STAGES
from .cross_sequence import train_cross_sequence
from .flow import train_flow
from .latents import encode_pool
from .mask_encoder import train_mask_encoder
from .pool import open_pool
from .run import Progress
from .run import Run
from .run import StageSettings
from .stand_ins import icbm152

STAGES: Final = ("autoencoder", "latents", "flow", "mask_encoder", "controlnet", *IMAGE_STAGES)
DEFAULT_MINUTES: Final[Mapping[str, float]] = {
    "autoencoder": 90.0,
    "flow": 20.0,
    "mask_encoder": 5.0,
    "controlnet": 60.0,
    **IMAGE_MINUTES,
}
POOL_SIZE: Final = 1200
RECORD_FILE: Final = "record.json"


def train_tiny_brain(
    work_dir: Path,
    *,
    stages: Sequence[str] = STAGES,
    minutes: Mapping[str, float] | None = None,
    device: str = "cpu",
    seed: int = 0,
    resume: bool = True,
    pool_size: int = POOL_SIZE,
    report: Callable[[Progress], None] = lambda progress: None,
) -> RunRecord:
    """Train `tiny-brain` and write `weights.safetensors`, `template.safetensors`, `record.json`.

    The last two stages teach a ControlNet of its own to follow images; asked for alone, they take
    the weights in `work_dir/export`, or those that come with this package if there are none.

    A stage that is not asked for, or whose time is spent, contributes its checkpoint. Stop it at
    any time (Ctrl-C saves first) and call it again with the same folder to go on; give a stage more
    minutes to train it longer. The files are written once the last stage has run.

    Args:
        work_dir: Checkpoints and stand-ins live here, the finished files in `work_dir/export`.
        stages: Which of `STAGES` to run; always in their order.
        minutes: Time budget of a stage over all calls; the rest has defaults.
        device: Where to train.
        seed: Of weights, batches and noise.
        resume: Go on from checkpoints; `False` starts the stages that are asked for afresh.
        pool_size: Number of stand-ins.
        report: Called every ten seconds or so.

    Returns:
        What was run and the numbers of every stage.

    Raises:
        ValueError: There is no such stage, or one builds on a stage that has not been trained.
        ImportError: The template is not installed.
    """
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        msg = f"stages must be among {', '.join(STAGES)}, got {', '.join(unknown)}"
        raise ValueError(msg)
    export = work_dir / "export"
    own = [stage for stage in stages if stage not in IMAGE_STAGES]
    follows_images = len(own) < len(stages)
    to_the_end = IMAGE_STAGES[-1] in stages
    if follows_images:
        _check_trained(work_dir, IMAGE_STAGES[:-1] if to_the_end else (), stages)
    last = max((STAGES.index(stage) for stage in own), default=STAGES.index("controlnet"))
    if own and follows_images:
        last = STAGES.index("controlnet")  # what they build on is loaded, or trained before
    if own or not follows_images:
        _check_trained(work_dir, STAGES[:last], stages)
    budget = {**DEFAULT_MINUTES, **(minutes or {})}
    work_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)

    def settings_of(stage: str) -> StageSettings:
        # A stage that is not asked for gets no time: it loads its checkpoint and ends.
        asked = stage in stages
        time = budget.get(stage, 0.0) if asked else 0.0
        return StageSettings(work_dir, time, device, seed, resume or not asked, report)

    if follows_images and not own:
        shipped = TINY_BRAIN.folder
        assert shipped is not None
        weights = export if (export / WEIGHTS_FILE).exists() else shipped
        return train_cross_sequence(weights, export, settings_of, to_the_end=to_the_end)
    pool = open_pool(work_dir, pool_size)
    variant = TINY_BRAIN
    autoencoder = build_autoencoder(variant.autoencoder)
    flow = build_flow(variant.flow, variant.autoencoder.latent)
    control = build_control(variant.flow, variant.autoencoder.latent)
    numbers: dict[str, Any] = {}

    run = train_autoencoder(autoencoder, pool, settings_of("autoencoder"))
    run.averaged()
    _note(numbers, run)
    if last >= STAGES.index("latents"):
        latents = encode_pool(autoencoder, pool, settings_of("latents"), trained=run.step)
        numbers["scale_factor"] = latents.scale_factor
    if last >= STAGES.index("flow"):
        run = train_flow(flow, pool, latents, variant, settings_of("flow"))
        run.averaged()
        _note(numbers, run)
    if last >= STAGES.index("mask_encoder"):
        eye = control.controlnet_cond_embedding
        assert isinstance(eye, torch.nn.Module)
        run = train_mask_encoder(eye, pool, latents, variant, settings_of("mask_encoder"))
        run.averaged()
        _note(numbers, run)
    settings = {"seed": seed, "device": device, "stand_ins": pool_size, "minutes": budget}
    if last < STAGES.index("controlnet"):
        return RunRecord(name="train tiny-brain", settings=settings, numbers=numbers)
    run = train_control(flow, control, pool, latents, variant, settings_of("controlnet"))
    _note(numbers, run)

    export.mkdir(exist_ok=True)
    networks = {
        "autoencoder": autoencoder.state_dict(),
        "flow": flow.state_dict(),
        "control": control.state_dict(),
    }
    save_weights(export / WEIGHTS_FILE, networks, latents.scale_factor)
    write_template(export / TEMPLATE_FILE)
    # An image ControlNet belongs to the weights that it was trained beside; others refuse it.
    (export / IMAGE_CONTROL_FILE).unlink(missing_ok=True)
    numbers["weights_digest"] = weights_digest([export / WEIGHTS_FILE, export / TEMPLATE_FILE])
    numbers["parameters"] = {k: sum(v.numel() for v in s.values()) for k, s in networks.items()}
    record = RunRecord(name="train tiny-brain", settings=settings, numbers=numbers)
    record.write(export / RECORD_FILE)
    if follows_images:
        train_cross_sequence(export, export, settings_of, to_the_end=to_the_end)
    return record


def _check_trained(work_dir: Path, before: Sequence[str], stages: Sequence[str]) -> None:
    for stage in before:
        path = work_dir / f"{stage}.checkpoint"
        if stage not in (*stages, "latents") and not path.exists():
            msg = f"stage {stage} has not been trained in {work_dir}; ask for it too"
            raise ValueError(msg)


def write_template(path: Path) -> None:
    """Store the template's tissue maps, without its image, so that masks need no nilearn."""
    template = icbm152()
    tissue = np.rint(template.maps[:3] * 255.0).clip(0, 255).astype(np.uint8)
    spacing = np.asarray([template.spacing], np.float32)
    save_file({"tissue": np.ascontiguousarray(tissue), "spacing": spacing}, path)


def _note(numbers: dict[str, Any], run: Run) -> None:
    numbers[run.stage] = {"steps": run.step, "minutes": round(run.seconds / 60.0, 1)}
