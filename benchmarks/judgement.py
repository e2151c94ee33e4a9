"""Judgement: what a segmenter finds in images, against what their masks say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from benchmarks.lesion_count import LesionCount
from benchmarks.segmenter import Segmenter

GREY_MATTER, WHITE_MATTER, LESION = 2, 3, 4


@final
@dataclass(frozen=True, slots=True)
class Judgement:
    """What the segmenter found in a set of images.

    Args:
        grey_matter: Mean Dice.
        white_matter: Mean Dice.
        lesion: Mean Dice over images with lesions.
        lesions_found: Share of the promised ones.
        lesions_promised: How many there are.
        false_lesions: For each image.
    """

    grey_matter: float
    white_matter: float
    lesion: float
    lesions_found: float
    lesions_promised: int
    false_lesions: float

    def to_dict(self) -> dict[str, float]:
        """The numbers by name."""
        return asdict(self)


def judge(
    segmenter: Segmenter,
    images: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.uint8]],
) -> Judgement:
    """Compare what the segmenter finds with what the labels say."""
    found = [segmenter.segment(image) for image in images]
    pairs = list(zip(labels, found, strict=True))
    counts = [LesionCount.of(truth == LESION, guess == LESION) for truth, guess in pairs]
    promised = sum(count.promised for count in counts)

    def dice(kind: int) -> float:
        scores = [
            2.0
            * ((truth == kind) & (guess == kind)).sum()
            / ((truth == kind).sum() + (guess == kind).sum())
            for truth, guess in pairs
            if (truth == kind).any()
        ]
        return round(float(np.mean(scores)), 4) if scores else float("nan")

    return Judgement(
        grey_matter=dice(GREY_MATTER),
        white_matter=dice(WHITE_MATTER),
        lesion=dice(LESION),
        lesions_found=round(sum(count.found for count in counts) / max(1, promised), 4),
        lesions_promised=promised,
        false_lesions=round(sum(count.false for count in counts) / len(counts), 4),
    )
