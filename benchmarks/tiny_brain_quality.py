"""How good are the volumes of `tiny-brain`?

    python -m benchmarks.tiny_brain_quality [--quick] [--weights DIR]

Four questions, all asked on stand-ins that no stage of its training has seen:

    autoencoder   What is lost between an image and its latent, against the best linear code
                  with as many coefficients?
    tissue        Does a segmenter that only knows stand-ins find grey and white matter in
                  images generated under a mask as well as in the mask's own stand-in?
    lesions       Does it find the lesions that the mask promises, and no others?
    variety       Do eight seeds differ as much as eight stand-ins do?

Each answer stands beside its bar. Stand-ins share one template, so these numbers tell how well the
model learned them, not how it does on patients.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.judgement import judge
from benchmarks.linear_code import LinearCode
from benchmarks.linear_code import psnr
from benchmarks.segmenter import Segmenter
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.generators.maisi.weights import load_network
from nvgen_aug.generators.maisi.weights import read_tensors
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.training.pool import Pool
from nvgen_aug.training.pool import open_pool
from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIn
from nvgen_aug.training.stand_ins import StandIns
from nvgen_aug.volume import Blob

SEEDS = 8


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        training: Stand-ins that the linear code and the segmenter learn from.
        held_out: Stand-ins that everything is measured on.
        segmenter_steps: Optimizer steps of the segmenter.
        evaluations: Of the flow, for each volume; `None` is the variant's default.
    """

    training: int = 300
    held_out: int = 24
    segmenter_steps: int = 900
    evaluations: int | None = None


def main() -> None:
    """Measure, print a table with the bars, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--weights", type=Path, default=TINY_BRAIN.folder, help="folder of weights")
    arguments = parser.parse_args()
    effort = Effort(6, 3, 4, 2) if arguments.quick else Effort()
    held_out = [StandIns("held-out").make(index) for index in range(effort.held_out)]
    with tempfile.TemporaryDirectory() as folder:
        pool = open_pool(Path(folder), effort.training)
    numbers: dict[str, Any] = {
        "autoencoder": measure_autoencoder(arguments.weights, pool, held_out)
    }
    segmenter = Segmenter()
    steps = iter(track(range(effort.segmenter_steps), "Training the segmenter"))
    segmenter.train(pool, effort.segmenter_steps, lambda step, loss: next(steps, None))
    generator = MaisiGenerator(TINY_BRAIN, weights=arguments.weights)
    generated = [
        generate_under(generator, stand_in, index, effort.evaluations)
        for index, stand_in in enumerate(track(held_out, "Generating under their masks"))
    ]
    labels = [stand_in.label for stand_in in held_out]
    real = judge(segmenter, [stand_in.image for stand_in in held_out], labels)
    synthetic = judge(segmenter, generated, labels)
    numbers["segmenter"] = {"on_stand_ins": real.to_dict(), "on_generated": synthetic.to_dict()}
    numbers["variety"] = measure_variety(generator, effort.evaluations)
    numbers["weights_digest"] = generator.card.weights_digest
    bars = compare_with_bars(numbers)
    numbers["bars"] = bars
    _print(bars)
    print(f"\nfor the model card:\n\n{card_table(numbers)}\n")
    settings = {
        "variant": TINY_BRAIN.name,
        "training_stand_ins": effort.training,
        "held_out_stand_ins": effort.held_out,
        "segmenter_steps": effort.segmenter_steps,
        "solver": TINY_BRAIN.solver,
        "evaluations": effort.evaluations or TINY_BRAIN.steps,
    }
    write_record("tiny_brain_quality", settings, numbers, arguments)


def measure_autoencoder(weights: Path, pool: Pool, held_out: Sequence[StandIn]) -> dict[str, float]:
    """Mean PSNR in dB inside the brain, of the autoencoder and of the linear code."""
    network = build_autoencoder(TINY_BRAIN.autoencoder)
    load_network(network, read_tensors(weights / WEIGHTS_FILE), "autoencoder", weights)
    network.eval()
    some = slice(0, 64)
    code = LinearCode.fit(
        pool.images[some].astype(np.float32), pool.labels[some] > 0, TINY_BRAIN.autoencoder.latent
    )
    ours, linear = [], []
    for stand_in in held_out:
        with torch.inference_mode():
            mean, _ = network.encode(torch.from_numpy(stand_in.image)[None, None])
            restored = network.decode(mean)[0, 0].numpy()
        inside = stand_in.label > 0
        ours.append(psnr(stand_in.image, restored, inside))
        linear.append(psnr(stand_in.image, code.restore(stand_in.image), inside))
    gains = np.subtract(ours, linear)
    return {
        "psnr_db": round(float(np.mean(ours)), 2),
        "linear_code_psnr_db": round(float(np.mean(linear)), 2),
        "gain_db": round(float(gains.mean()), 2),
        "least_gain_db": round(float(gains.min()), 2),
    }


def generate_under(
    generator: MaisiGenerator, stand_in: StandIn, seed: int, evaluations: int | None
) -> NDArray[np.float32]:
    """An image in network units under the mask of a stand-in, in its contrast."""
    mask = Blob(stand_in.label, stand_in.affine)
    spec = VolumeSpec(
        TINY_BRAIN.name,
        seed=seed,
        modality=stand_in.modality,
        mask=mask.digest(),
        steps=evaluations,
    )
    return _network_units(generator.generate(generator.card.resolve(spec), mask).volume.image)


def measure_variety(generator: MaisiGenerator, evaluations: int | None) -> dict[str, float]:
    """Mean voxel standard deviation over eight T1 volumes, inside any of the brains."""
    stand_ins = StandIns("held-out", modality=MODALITIES[0], lesions=False)
    real = [stand_ins.make(index).image for index in range(SEEDS)]
    made = []
    for seed in track(range(SEEDS), "Generating eight seeds"):
        spec = VolumeSpec(TINY_BRAIN.name, seed=seed, modality=MODALITIES[0], steps=evaluations)
        volume = generator.generate(generator.card.resolve(spec)).volume
        made.append(_network_units(volume.image))
    inside = np.stack([*real, *made]).max(axis=0) > 0
    of_real = float(np.std(real, axis=0)[inside].mean())
    of_made = float(np.std(made, axis=0)[inside].mean())
    return {
        "generated_deviation": round(of_made, 4),
        "stand_in_deviation": round(of_real, 4),
        "ratio": round(of_made / of_real, 3),
    }


def compare_with_bars(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each bar with what was measured and whether that is enough."""
    real = numbers["segmenter"]["on_stand_ins"]
    made = numbers["segmenter"]["on_generated"]

    def bar(name: str, value: float, limit: float, *, most: bool = False) -> dict[str, Any]:
        met = value <= limit if most else value >= limit
        return {"name": name, "value": value, "limit": limit, "most": most, "met": bool(met)}

    return [
        bar("autoencoder PSNR above the linear code, dB", numbers["autoencoder"]["gain_db"], 3.0),
        *(
            bar(
                f"{name.replace('_', ' ')} Dice, stand-ins minus generated",
                round(abs(real[name] - made[name]), 4),
                0.05,
                most=True,
            )
            for name in ("grey_matter", "white_matter")
        ),
        bar("promised lesions found in generated images", made["lesions_found"], 0.7),
        bar(
            "false lesions in a generated image, at most those in a stand-in",
            made["false_lesions"],
            real["false_lesions"],
            most=True,
        ),
        bar("deviation over 8 seeds / over 8 stand-ins", numbers["variety"]["ratio"], 0.5),
    ]


def card_table(numbers: Mapping[str, Any]) -> str:
    """The measured numbers as the table of the model card."""
    code, variety = numbers["autoencoder"], numbers["variety"]
    real, made = (numbers["segmenter"][key] for key in ("on_stand_ins", "on_generated"))
    verdicts = iter("met" if bar["met"] else "**not met**" for bar in numbers["bars"])
    rows = [
        (
            "PSNR of the autoencoder",
            f"{code['psnr_db']:.1f} dB",
            f"{code['linear_code_psnr_db']:.1f} dB (best linear code of as many coefficients)",
            f"3 dB more: {next(verdicts)}",
        ),
        *(
            (
                f"Dice of {name.replace('_', ' ')}",
                f"{made[name]:.3f}",
                f"{real[name]:.3f} (stand-ins)",
                f"within 0.05: {next(verdicts)}",
            )
            for name in ("grey_matter", "white_matter")
        ),
        (
            f"lesions found, of {made['lesions_promised']}",
            f"{made['lesions_found']:.0%}",
            f"{real['lesions_found']:.0%} (stand-ins)",
            f"at least 70 %: {next(verdicts)}",
        ),
        (
            "false lesions in a volume",
            f"{made['false_lesions']:.2f}",
            f"{real['false_lesions']:.2f} (stand-ins)",
            f"no more: {next(verdicts)}",
        ),
        (
            "standard deviation over 8 volumes",
            f"{variety['generated_deviation']:.3f}",
            f"{variety['stand_in_deviation']:.3f} (stand-ins)",
            f"at least half: {next(verdicts)}",
        ),
    ]
    head = ["| | tiny-brain | to compare with | bar |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _print(bars: Sequence[Mapping[str, Any]]) -> None:
    table = Table("what", "measured", "bar", "", title="tiny-brain on held-out stand-ins")
    for bar in bars:
        sign = "≤" if bar["most"] else "≥"
        verdict = "met" if bar["met"] else "not met"
        table.add_row(bar["name"], f"{bar['value']:.3g}", f"{sign} {bar['limit']:.3g}", verdict)
    Console().print(table)


def _network_units(image: NDArray[np.int16]) -> NDArray[np.float32]:
    rule = TINY_BRAIN.intensity
    values: NDArray[np.float32] = (image[0].astype(np.float32) - rule.shift) / rule.scale
    return values


if __name__ == "__main__":
    main()
