"""Cross-sequence: the stages that teach finished weights to render a brain in another contrast."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Final

from torch import nn

from ..generators.maisi.networks import build_autoencoder
from ..generators.maisi.networks import build_control
from ..generators.maisi.networks import build_flow
from ..generators.maisi.networks import build_image_control
from ..generators.maisi.releases import AUTOENCODER
from ..generators.maisi.releases import CONTROL
from ..generators.maisi.releases import FLOW
from ..generators.maisi.variants import TINY_BRAIN
from ..generators.maisi.weights import IMAGE_CONTROL_FILE
from ..generators.maisi.weights import save_image_control
from ..generators.maisi.weights import shipped_weights
from ..record import RunRecord
from .image_control import begin_as_mask_control
from .image_control import train_image_control
from .image_control import train_image_encoder
from .matched import SUBJECTS
from .matched import encode_matched
from .run import Run
from .run import StageSettings
from .stand_ins import StandIns

IMAGE_STAGES: Final = ("image_encoder", "image_control")
IMAGE_MINUTES: Final[Mapping[str, float]] = {"image_encoder": 30.0, "image_control": 60.0}
IMAGE_RECORD_FILE: Final = "image_record.json"


def train_cross_sequence(
    weights: Path,
    export: Path,
    settings_of: Callable[[str], StageSettings],
    *,
    to_the_end: bool = True,
    subjects: int | None = None,
) -> RunRecord:
    """Train an image ControlNet beside weights that stay as they are.

    Args:
        weights: Folder with the weights of `tiny-brain` that it is trained for.
        export: Where `image_control.safetensors` and `image_record.json` go.
        settings_of: What a stage is told.
        to_the_end: Whether the last stage runs too; only then are files written.
        subjects: How many brains it learns from, each in all contrasts; `SUBJECTS` when `None`.

    Returns:
        What was run and the numbers of both stages.

    Raises:
        WeightsError: There are no weights in the folder, or others.
        ImportError: The template is not installed.
    """
    variant = TINY_BRAIN
    loaded = shipped_weights(weights)
    latent = variant.autoencoder.latent
    autoencoder = build_autoencoder(variant.autoencoder)
    flow, control = build_flow(variant.flow, latent), build_control(variant.flow, latent)
    for network, name in ((autoencoder, AUTOENCODER), (flow, FLOW), (control, CONTROL)):
        loaded.fill(network, name)
    subjects = SUBJECTS if subjects is None else subjects
    first = settings_of("image_encoder")
    matched = encode_matched(
        autoencoder, StandIns("train"), first, trained=loaded.digest[:16], subjects=subjects
    )
    image_control = build_image_control(variant.flow, latent)
    begin_as_mask_control(image_control, control)
    eye, reader = control.controlnet_cond_embedding, image_control.controlnet_cond_embedding
    assert isinstance(eye, nn.Module)
    assert isinstance(reader, nn.Module)
    numbers: dict[str, Any] = {}
    run = train_image_encoder(reader, eye, matched, variant, loaded.scale_factor, first)
    run.averaged()
    _note(numbers, run)
    settings = {
        "seed": first.seed,
        "device": first.device,
        "subjects": subjects,
        "minutes": {stage: settings_of(stage).minutes for stage in IMAGE_STAGES},
    }
    name = "train tiny-brain cross-sequence"
    if not to_the_end:
        return RunRecord(name=name, settings=settings, numbers=numbers)
    second = settings_of("image_control")
    run = train_image_control(flow, image_control, matched, variant, loaded.scale_factor, second)
    _note(numbers, run)
    export.mkdir(parents=True, exist_ok=True)
    save_image_control(export / IMAGE_CONTROL_FILE, image_control.state_dict(), loaded.digest)
    numbers["parameters"] = sum(p.numel() for p in image_control.parameters())
    numbers["trained_on"] = loaded.digest
    record = RunRecord(name=name, settings=settings, numbers=numbers)
    record.write(export / IMAGE_RECORD_FILE)
    return record


def _note(numbers: dict[str, Any], run: Run) -> None:
    numbers[run.stage] = {"steps": run.step, "minutes": round(run.seconds / 60.0, 1)}
