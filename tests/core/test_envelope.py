"""A volume outside the training data is seen as such, and the nearest inside is named."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import pytest

from nvgen_aug.envelope import Envelope
from nvgen_aug.generators.maisi.envelope import BRAIN_ENVELOPE
from nvgen_aug.generators.maisi.envelope import CT_ENVELOPE
from nvgen_aug.generators.maisi.envelope import MR_ENVELOPE

Size = tuple[int, int, int]
Spacing = tuple[float, float, float]


@pytest.mark.parametrize(
    ("envelope", "size", "spacing", "modality"),
    [
        # What NV-Generate ships as examples and recommends in its tables.
        (CT_ENVELOPE, (256, 256, 128), (1.0, 1.0, 0.75), "ct"),
        (CT_ENVELOPE, (256, 256, 128), (1.7, 1.7, 2.0), "ct"),
        (CT_ENVELOPE, (256, 256, 256), (1.5, 1.5, 2.0), "ct"),
        (CT_ENVELOPE, (256, 256, 256), (1.5, 1.5, 1.5), "ct"),
        (CT_ENVELOPE, (512, 512, 128), (0.8, 0.8, 2.5), "ct"),
        (CT_ENVELOPE, (512, 512, 512), (1.0, 1.0, 1.0), "ct_contrast"),
        (CT_ENVELOPE, (512, 512, 768), (1.0, 1.0, 1.0), "ct"),
        (MR_ENVELOPE, (128, 256, 256), (1.25, 1.0, 1.0), "mri_t1"),
        (BRAIN_ENVELOPE, (256, 256, 128), (0.94, 0.94, 1.36), "mri_t1"),
        (BRAIN_ENVELOPE, (256, 256, 128), (0.94, 0.94, 1.36), "mri_swi_skull_stripped"),
        (BRAIN_ENVELOPE, (512, 512, 256), (0.5, 0.5, 0.7), "mri"),
    ],
)
def test_published_examples_lie_inside(
    envelope: Envelope, size: Size, spacing: Spacing, modality: str
) -> None:
    assert envelope.judge(size, spacing, modality) is None


@pytest.mark.parametrize("envelope", [CT_ENVELOPE, MR_ENVELOPE, BRAIN_ENVELOPE])
def test_every_row_has_a_legal_volume_near_it(envelope: Envelope) -> None:
    for row in envelope.rows:
        modality = row.modalities[0] if row.modalities else "ct"
        verdict = envelope.judge((32, 32, 32), (0.3, 0.3, 0.3), modality)
        assert verdict is not None
        assert verdict.size is not None
        assert verdict.spacing is not None
        assert envelope.judge(verdict.size, verdict.spacing, modality) is None


@pytest.mark.parametrize(
    ("size", "spacing", "reason"),
    [
        ((128, 128, 128), (1.0, 1.0, 1.0), r"128 × 128 × 128 mm, less than 256 mm wide"),
        ((256, 256, 160), (1.5, 1.5, 2.0), r"size \(256, 256, 160\) is none"),
        ((256, 256, 256), (4.0, 4.0, 2.0), r"spacing along x is 4, not in \[0.5, 3\] mm"),
        ((256, 256, 256), (1.5, 1.6, 2.0), r"differs along x and y, 1.5 and 1.6 mm"),
        ((256, 256, 128), (1.5, 1.5, 0.5), r"more than 2 times off along z"),
    ],
)
def test_each_way_of_being_outside_has_its_words(size: Size, spacing: Spacing, reason: str) -> None:
    verdict = CT_ENVELOPE.judge(size, spacing, "ct")
    assert verdict is not None
    assert re.search(reason, "; ".join(verdict.reasons)), verdict.reasons


def test_the_nearest_volume_keeps_what_it_can() -> None:
    verdict = CT_ENVELOPE.judge((256, 256, 160), (1.5, 1.5, 2.0), "ct")
    assert verdict is not None
    assert verdict.size == (256, 256, 128)
    assert verdict.spacing == (1.5, 1.5, 2.5)  # the same field of view


def test_a_volume_is_compared_with_the_row_of_its_contrast_that_is_nearest() -> None:
    verdict = MR_ENVELOPE.judge((128, 128, 128), (0.4, 0.4, 0.4), "mri_t2")
    assert verdict is not None
    assert verdict.row is not None
    assert verdict.row.name == "prostate T2"


def test_a_contrast_that_is_in_no_row_is_outside_whatever_its_size() -> None:
    verdict = MR_ENVELOPE.judge((128, 256, 256), (1.25, 1.0, 1.0), "mri_dwi")
    assert verdict is not None
    assert verdict.row is None
    assert verdict.reasons == (
        "no scan of `mri_dwi` is in its table, which has mri, mri_flair, mri_t1, mri_t2",
    )


@pytest.mark.parametrize("envelope", [CT_ENVELOPE, MR_ENVELOPE, BRAIN_ENVELOPE])
def test_an_envelope_survives_json(envelope: Envelope) -> None:
    assert Envelope.from_values(json.loads(json.dumps(asdict(envelope)))) == envelope
