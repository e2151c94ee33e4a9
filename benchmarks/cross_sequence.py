"""How well does `tiny-brain` render a given brain in another contrast?

    python -m benchmarks.cross_sequence [--quick] [--weights DIR]

Asked on stand-ins that no stage of its training has seen, each in three matched contrasts that
share the anatomy and neither brightness, bias field nor noise. Every contrast is rendered from each
of the two others and compared, inside the brain, with the one that belongs to it. Beside it stand

    another brain   a volume of the wanted contrast that follows nobody: the bar to clear
    regressed       the given image, its intensities mapped to the wanted contrast's by the best
                    function of one voxel, learned on training stand-ins
    from its mask   the wanted contrast from the brain's true label, which is not known to the rest
    autoencoder     the wanted image itself, through the autoencoder: no volume is nearer
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.linear_code import psnr
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.networks import build_autoencoder
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.generators.maisi.weights import load_network
from nvgen_aug.generators.maisi.weights import read_tensors
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIn
from nvgen_aug.training.stand_ins import StandIns
from nvgen_aug.volume import Blob

Image = NDArray[np.float32]
Scores = dict[str, list[tuple[float, float]]]

RENDERED: Final = "rendered"
OTHER: Final = "another brain"
_BINS: Final = np.linspace(0.0, 1.4, 71)


def main() -> None:
    """Measure, print a table, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--weights", type=Path, default=TINY_BRAIN.folder, help="folder of weights")
    arguments = parser.parse_args()
    held_out, training = (1, 1) if arguments.quick else (3, 12)
    steps = 1 if arguments.quick else None
    generator = MaisiGenerator(TINY_BRAIN, weights=arguments.weights)
    autoencoder = build_autoencoder(TINY_BRAIN.autoencoder)
    tensors = read_tensors(arguments.weights / WEIGHTS_FILE)
    load_network(autoencoder, tensors, "autoencoder", arguments.weights)
    autoencoder.eval()
    learned = learn_maps([StandIns("train").matched(index) for index in range(training)])
    scores: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    for index in track(range(held_out), "Rendering held-out brains"):
        scans = StandIns("held-out").matched(index)
        compare(generator, autoencoder, learned, scans, index, steps, scores)
    numbers = {
        wanted: {how: _summary(values) for how, values in by_method.items()}
        for wanted, by_method in scores.items()
    }
    _print(numbers)
    settings = {
        "variant": TINY_BRAIN.name,
        "weights_digest": generator.card.weights_digest,
        "image_weights": generator.card.image_weights,
        "held_out_brains": held_out,
        "training_brains_of_the_regression": training,
        "evaluations": steps or TINY_BRAIN.steps,
    }
    write_record("cross_sequence", settings, numbers, arguments)


def compare(
    generator: MaisiGenerator,
    autoencoder: Autoencoder,
    learned: Mapping[tuple[str, str], Image],
    scans: Sequence[StandIn],
    seed: int,
    steps: int | None,
    scores: Mapping[str, Scores],
) -> None:
    """Add what one brain shows to the scores of each wanted contrast."""

    def drawn(modality: str, *, image: Blob | None = None, mask: Blob | None = None) -> Image:
        spec = VolumeSpec(
            TINY_BRAIN.name,
            seed=seed,
            modality=modality,
            steps=steps,
            image=image and image.digest(),
            mask=mask and mask.digest(),
        )
        voxels = generator.generate(spec, mask, image).volume.image[0]
        values: Image = voxels.astype(np.float32) / 1000.0
        return values

    for wanted in scans:
        inside = wanted.label > 0
        found = scores[wanted.modality]

        def note(
            how: str,
            image: Image,
            truth: Image = wanted.image,
            inside: NDArray[np.bool_] = inside,
            found: Scores = found,
        ) -> None:
            correlation = float(np.corrcoef(truth[inside], image[inside])[0, 1])
            found[how].append((psnr(truth, image, inside), correlation))

        for given in scans:
            if given is not wanted:
                blob = Blob((1000.0 * given.image).astype(np.int16), given.affine)
                note(RENDERED, drawn(wanted.modality, image=blob))
                note("regressed", mapped(given.image, learned[given.modality, wanted.modality]))
        note(OTHER, drawn(wanted.modality))
        note("from its mask", drawn(wanted.modality, mask=Blob(wanted.label, wanted.affine)))
        with torch.inference_mode():
            mean, _ = autoencoder.encode(torch.from_numpy(wanted.image)[None, None])
            note("autoencoder", autoencoder.decode(mean)[0, 0].numpy())


def learn_maps(brains: Sequence[Sequence[StandIn]]) -> dict[tuple[str, str], Image]:
    """For each pair of contrasts, the mean wanted intensity of each bin of given intensity."""
    maps = {}
    for first in range(len(MODALITIES)):
        for second in range(len(MODALITIES)):
            given = np.concatenate([b[first].image[b[first].label > 0] for b in brains])
            wanted = np.concatenate([b[second].image[b[second].label > 0] for b in brains])
            bins = np.digitize(given, _BINS)
            count = np.bincount(bins, minlength=len(_BINS) + 1)
            total = np.bincount(bins, weights=wanted, minlength=len(_BINS) + 1)
            known = np.flatnonzero(count)
            means = np.interp(np.arange(len(count)), known, total[known] / count[known])
            maps[MODALITIES[first], MODALITIES[second]] = means.astype(np.float32)
    return maps


def mapped(image: Image, means: Image) -> Image:
    """An image with each voxel replaced by what its intensity is elsewhere."""
    values: Image = means[np.digitize(image, _BINS)]
    return values


def _summary(values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    decibels, correlations = np.asarray(values).T
    return {
        "psnr_db": round(float(decibels.mean()), 2),
        "psnr_db_standard_deviation": round(float(decibels.std()), 2),
        "correlation": round(float(correlations.mean()), 4),
        "correlation_standard_deviation": round(float(correlations.std()), 4),
        "images": len(values),
    }


def _print(numbers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    table = Table("wanted", "how", "PSNR (dB)", "correlation", "images")
    for wanted, by_method in numbers.items():
        for how, found in by_method.items():
            table.add_row(
                wanted,
                how,
                f"{found['psnr_db']:.2f} ± {found['psnr_db_standard_deviation']:.2f}",
                f"{found['correlation']:.3f} ± {found['correlation_standard_deviation']:.3f}",
                str(found["images"]),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
