"""A volume is compared with what its label promises, and made again if it does not keep it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.errors import QualityError
from nvgen_aug.generators.maisi.checks import CT_CHECKS
from nvgen_aug.generators.maisi.checks import Checks
from nvgen_aug.generators.maisi.checks import Contrast
from nvgen_aug.generators.maisi.checks import MedianRange
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.quality import faults_of
from nvgen_aug.generators.maisi.tries import MOST
from nvgen_aug.generators.maisi.tries import Tries
from nvgen_aug.generators.maisi.variants import RFLOW_CT
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.generators.maisi.variants import Variant
from nvgen_aug.serving.engine import Engine
from nvgen_aug.spec import VolumeSpec
from tests.generators.tiny import TINY
from tests.generators.tiny import tiny_networks
from tests.generators.tiny import write_files

Array = np.ndarray[Any, Any]
CT = VolumeSpec("rflow-ct", seed=1, modality="ct", size=(24, 24, 24), spacing=(2.0, 2.0, 2.0))
RANGES = {rule.name: rule for rule in CT_CHECKS.ranges}


def scan(label: Array, **values: float) -> Array:
    """An image in which labels have values, with a few units of noise."""
    image = np.random.default_rng(0).normal(0.0, 4.0, label.shape) - 1000.0
    for name, value in values.items():
        image[label == RFLOW_CT.labels[name.replace("_", " ")]] += 1000.0 + value
    return image.clip(-1000, 1000).astype(np.int16)


def block(name: str, low: int = 4, high: int = 20, size: int = 24) -> Array:
    label = np.zeros((size, size, size), np.uint8)
    label[low:high, low:high, low:high] = RFLOW_CT.labels[name]
    return label


def reasons(image: Array, label: Array | None, spec: VolumeSpec = CT) -> list[str]:
    return [fault.reason for fault in faults_of(image, label, spec, RFLOW_CT)]


@pytest.mark.parametrize("name", sorted(RANGES))
def test_each_organ_is_held_to_its_range(name: str) -> None:
    rule = RANGES[name]
    label = block(rule.labels[-1])  # of the lungs, the right lower lobe
    inside = max(-990.0, min(990.0, (rule.low + rule.high) / 2))
    assert reasons(scan(label, **{rule.labels[-1]: inside}), label) == []
    for value in (rule.low - 20, rule.high + 20):
        if -990 < value < 990:
            assert reasons(scan(label, **{rule.labels[-1]: value}), label) == [
                f"intensity of {name}"
            ]


def test_the_fault_names_the_organ_its_median_and_its_range() -> None:
    label = block("liver")
    (fault,) = faults_of(scan(label, liver=400.0), label, CT, RFLOW_CT)
    assert fault.text == "the median of liver is 400, expected -21.596 to 162"


def test_an_organ_of_a_few_voxels_is_not_judged() -> None:
    label = block("liver", 4, 6)
    assert reasons(scan(label, liver=400.0), label) == []


def test_labels_that_share_a_range_are_judged_together() -> None:
    label = block("right kidney")
    label[:8] = RFLOW_CT.labels["left kidney"]
    image = scan(label, right_kidney=100.0, left_kidney=700.0)
    values = image[np.isin(label, [5, 14])]
    expected = ["intensity of kidney"] if np.median(values) > RANGES["kidney"].high else []
    assert reasons(image, label) == expected


def test_a_tumour_must_differ_from_its_rim() -> None:
    label = block("liver")
    label[9:14, 9:14, 9:14] = RFLOW_CT.labels["hepatic tumor"]
    values = {"liver": 100.0}
    assert reasons(scan(label, **values, hepatic_tumor=60.0), label) == []
    assert reasons(scan(label, **values, hepatic_tumor=140.0), label) == []
    assert reasons(scan(label, **values, hepatic_tumor=100.0), label) == ["lesion contrast"]
    assert reasons(scan(label, **values, hepatic_tumor=400.0), label) == [
        "intensity of hepatic tumor"
    ]


def test_a_lung_tumour_must_be_the_brighter_one() -> None:
    label = block("right lung lower lobe")
    label[9:14, 9:14, 9:14] = RFLOW_CT.labels["lung tumor"]
    lobe = {"right_lung_lower_lobe": -600.0}
    assert reasons(scan(label, **lobe, lung_tumor=20.0), label) == []
    assert reasons(scan(label, **lobe, lung_tumor=-750.0), label) == ["lesion contrast"]


def test_labels_that_the_spec_asks_for_must_be_there() -> None:
    label = block("liver")
    spec = replace(CT, anatomy=("liver", "spleen"))
    assert reasons(scan(label, liver=100.0), label, spec) == ["label missing"]


def test_a_constant_image_is_refused_with_and_without_a_label() -> None:
    flat = np.full((24, 24, 24), -1000, np.int16)
    assert reasons(flat, None) == ["constant"]
    assert reasons(flat, block("liver")) == ["constant"]


@pytest.mark.parametrize(
    ("modality", "values", "expected"),
    [
        ("t1", (400, 750, 870, 600), []),
        ("t1", (400, 870, 750, 600), ["tissue contrast"]),
        ("t1", (400, 750, 870, 900), ["lesion contrast"]),
        ("t2", (620, 530, 410, 800), []),
        ("t2", (400, 410, 420, 800), ["tissue contrast", "tissue contrast"]),
        ("flair", (300, 450, 440, 850), []),
        ("flair", (300, 450, 440, 440), ["lesion contrast"]),
    ],
)
def test_the_tissues_of_a_brain_keep_the_order_of_its_contrast(
    modality: str, values: tuple[int, ...], expected: list[str]
) -> None:
    label = np.zeros((24, 24, 24), np.uint8)
    label[2:22, 2:22, 2:8], label[2:22, 2:22, 8:14], label[2:22, 2:22, 14:] = 1, 2, 3
    label[8:13, 8:13, 17:21] = 4
    image = np.choose(label, [0, *values]).astype(np.int16)
    spec = VolumeSpec("tiny-brain", seed=1, modality=f"mri_{modality}_skull_stripped")
    found = [fault.reason for fault in faults_of(image, label, spec, TINY_BRAIN)]
    assert found == expected


# From here on, generators of random weights: what they draw is chance, and passes or fails a range
# that is set between two of its seeds.
SPEC = VolumeSpec(TINY.name, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of these weights white matter is not black, as it is of others.
    return write_files(tmp_path_factory.mktemp("weights"), tiny_networks(seed=5))


def asked(low: float, high: float, **fields: Any) -> Variant:
    rule = MedianRange("white matter", ("white matter",), low, high, "this test")
    return replace(TINY, checks=Checks(ranges=(rule,)), **fields)


def median(folder: Path, seed: int) -> float:
    volume = MaisiGenerator(TINY, weights=folder).generate(replace(SPEC, seed=seed)).volume
    assert volume.label is not None
    values = np.sort(volume.image[volume.label == 3])
    return float(values[(values.size - 1) // 2])


def retry_seeds() -> list[int]:
    return [now.seed for now in Tries(SPEC, TINY)]


@pytest.fixture(scope="module")
def second_only(folder: Path) -> Variant:
    """A variant of which the second try of `SPEC` passes, and the first does not."""
    _, second, *_ = retry_seeds()
    first, passing = median(folder, SPEC.seed), median(folder, second)
    assert first != passing
    half = abs(first - passing) / 2
    return asked(passing - half + 0.5, passing + half - 0.5)


def test_the_seeds_of_a_volume_differ_and_begin_with_its_own() -> None:
    seeds = retry_seeds()
    assert len(seeds) == len(set(seeds)) == MOST
    assert seeds[0] == SPEC.seed
    assert seeds == retry_seeds()


def test_a_volume_that_fails_is_made_again_from_a_derived_seed(
    folder: Path, second_only: Variant
) -> None:
    made = MaisiGenerator(second_only, weights=folder).generate(SPEC)
    seed = retry_seeds()[1]
    other = MaisiGenerator(TINY, weights=folder).generate(replace(SPEC, seed=seed)).volume
    np.testing.assert_array_equal(made.volume.image, other.image)
    np.testing.assert_array_equal(made.volume.label, other.label)
    assert made.rejected == ("intensity of white matter",)
    record = made.volume.provenance
    assert (record.seed, record.attempts, record.retry_seed) == (SPEC.seed, 2, seed)
    assert VolumeSpec.from_json(record.spec).seed == SPEC.seed
    assert made.latent.provenance == record


def test_a_volume_made_again_is_the_same_cold_and_warm(
    folder: Path, second_only: Variant, tmp_path: Path
) -> None:
    spec = SPEC
    volumes = []
    with VolumeCache(tmp_path) as cache:
        for _ in range(2):
            with Engine(MaisiGenerator(second_only, weights=folder), cache=cache) as engine:
                volumes.append(engine.fetch(spec))
                stats = engine.stats()
                assert stats.rejected == ({} if stats.hits else {"intensity of white matter": 1})
    cold, warm = volumes
    np.testing.assert_array_equal(cold.image, warm.image)
    assert cold.provenance == warm.provenance
    fresh = MaisiGenerator(second_only, weights=folder).generate(spec).volume
    np.testing.assert_array_equal(fresh.image, cold.image)


def test_what_fails_every_time_is_refused_with_the_reason_and_counted(folder: Path) -> None:
    with Engine(MaisiGenerator(asked(1e6, 2e6), weights=folder)) as engine:
        with pytest.raises(
            QualityError,
            match=rf"`tiny-test` made the volume of seed 7 {MOST} times, each from another seed, "
            r"and it failed its checks: the median of white matter is \d+, expected 1e\+06 to",
        ):
            engine.fetch(SPEC)
        assert engine.stats().rejected == {"intensity of white matter": MOST}
        assert engine.stats().generated == 0


def test_a_volume_outside_the_training_data_is_marked_and_not_refused(folder: Path) -> None:
    variant = asked(1e6, 2e6)
    made = MaisiGenerator(TINY, weights=folder).generate(SPEC)
    tries = Tries(SPEC, variant, can_be_marked=True)
    judged = tries.judged(made.latent, made.volume)
    assert judged is not None
    assert judged.volume.provenance.quality.startswith("failed: the median of white matter is")


def test_a_lesion_that_cannot_be_seen_is_refused(folder: Path) -> None:
    rule = Contrast("lesion", ("white matter",), 1e6, fewest=5)
    variant = replace(TINY, checks=Checks(contrasts=(rule,)))
    spec = replace(SPEC, pathology=(("lesion", 25.0),))
    with pytest.raises(QualityError, match="`lesion` must be brighter or darker than what is"):
        MaisiGenerator(variant, weights=folder).generate(spec)
