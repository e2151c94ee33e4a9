"""MaisiGenerator keeps the contract of generators, with a tiny network of random weights."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save_file
from torch import nn

from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SpecError
from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.networks import Autoencoder
from nvgen_aug.generators.maisi.weights import TEMPLATE_FILE
from nvgen_aug.generators.maisi.weights import WEIGHTS_FILE
from nvgen_aug.spec import MAX_SEED
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.contracts.generator import GeneratorContract
from tests.generators.tiny import TINY
from tests.generators.tiny import tiny_networks
from tests.generators.tiny import write_files

# The branch without a modality, as if it were one, so that guidance can be checked against it.
WITH_UNKNOWN = replace(TINY, modalities={**TINY.modalities, "unknown": 0})


@final
class TestTiny(GeneratorContract):
    @classmethod
    def make(cls) -> Generator:
        with TemporaryDirectory() as folder:
            return MaisiGenerator(TINY, weights=write_files(Path(folder)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def generator(folder: Path) -> MaisiGenerator:
    return MaisiGenerator(WITH_UNKNOWN, weights=folder)


def spec(seed: int = 7, **fields: object) -> VolumeSpec:
    return VolumeSpec(TINY.name, seed=seed, **fields)  # type: ignore[arg-type]


def ball(radius: int = 12, label: int = 2) -> Blob:
    x, y, z = np.indices((32, 32, 32)) - 15.5
    inside = x**2 + y**2 + z**2 < radius**2
    return Blob((label * inside).astype(np.uint8), np.diag([6.0, 6.0, 6.0, 1.0]))


def tensor(generator: MaisiGenerator, asked: VolumeSpec, mask: Blob | None = None) -> np.ndarray:
    return generator.latent(asked, mask).tensor.astype(np.float64)


def test_an_unknown_variant_is_refused_with_close_matches() -> None:
    with pytest.raises(SpecError, match=r"no variant `tiny-brian`; did you mean `tiny-brain`\?"):
        MaisiGenerator.load("tiny-brian")


def test_a_mask_with_ids_outside_the_vocabulary_is_refused_with_those_ids(
    generator: MaisiGenerator,
) -> None:
    mask = ball(label=9)
    count = int((mask.array == 9).sum())
    with pytest.raises(SpecError, match=rf"`tiny-test` lacks: 9 \({count} voxels\).*white matter"):
        generator.latent(spec(mask=mask.digest()), mask)


def test_a_mask_of_other_size_is_refused_with_both_sizes(generator: MaisiGenerator) -> None:
    mask = Blob(np.ones((16, 32, 32), np.uint8), np.diag([6.0, 6.0, 6.0, 1.0]))
    with pytest.raises(SpecError, match=r"\(16, 32, 32\) voxels .* asks size \(32, 32, 32\)"):
        generator.latent(spec(mask=mask.digest()), mask)


def test_a_mask_that_did_not_come_along_is_refused(generator: MaisiGenerator) -> None:
    with pytest.raises(SpecError, match="no mask came with it"):
        generator.latent(spec(mask=ball().digest()))


@pytest.mark.parametrize(("part", "what"), [("flow", "latent"), ("autoencoder", "image")])
def test_weights_that_are_not_finite_end_in_an_error_that_names_the_seed(
    tmp_path: Path, part: str, what: str
) -> None:
    networks = tiny_networks()
    target = networks["flow"].out[2].conv if part == "flow" else networks[part].post_quant_conv.conv
    target.bias.data.fill_(float("nan"))
    broken = MaisiGenerator(TINY, weights=write_files(tmp_path, networks))
    with pytest.raises(GenerationError, match=rf"{what} for seed 41 are not finite"):
        broken.generate(spec(seed=41))


def test_voxels_outside_the_mask_are_background(generator: MaisiGenerator) -> None:
    volume = generator.generate(spec()).volume
    assert volume.label is not None
    assert (volume.image[volume.label == 0] == 0).all()
    assert (volume.image[volume.label > 0] > 0).any()


def test_voxels_are_a_thousand_times_what_the_decoder_gives_cut_at_zero(folder: Path) -> None:
    generator = MaisiGenerator(TINY, weights=folder)
    made = generator.generate(spec())
    autoencoder = tiny_networks()["autoencoder"]
    assert isinstance(autoencoder, Autoencoder)
    with torch.inference_mode():
        decoded = autoencoder.decode(torch.from_numpy(made.latent.tensor[None]).float())
    expected = (1000 * decoded[0]).clamp(min=0).numpy()
    expected[made.latent.label == 0] = 0
    difference = expected - made.volume.image
    assert difference.min() > -0.05
    assert difference.max() < 1.05  # cut off to a whole number, not rounded


def test_a_generated_latent_brings_the_statistics_of_all_thirteen_norms(
    generator: MaisiGenerator,
) -> None:
    statistics = generator.generate(spec()).latent.statistics
    assert statistics is not None
    assert statistics.shape == (13, TINY.autoencoder.groups, 2)
    assert statistics.dtype == np.float32


def test_a_latent_is_a_quarter_of_the_edge_in_half_precision(generator: MaisiGenerator) -> None:
    latent = generator.latent(spec())
    assert latent.tensor.shape == (4, 8, 8, 8)
    assert latent.tensor.dtype == np.float16
    assert latent.statistics is None


def test_guidance_changes_the_voxels(generator: MaisiGenerator) -> None:
    plain = generator.generate(spec()).volume.image
    assert not np.array_equal(generator.generate(spec(guidance=5.0)).volume.image, plain)


def test_guidance_of_one_is_no_guidance(generator: MaisiGenerator) -> None:
    plain, one = tensor(generator, spec()), tensor(generator, spec(guidance=1.0))
    np.testing.assert_allclose(one, plain, rtol=2e-3, atol=2e-3)


def test_guidance_leads_away_from_the_branch_without_a_modality(generator: MaisiGenerator) -> None:
    asked = tensor(generator, spec(steps=1))
    unknown = tensor(generator, spec(steps=1, modality="unknown"))
    guided = tensor(generator, spec(steps=1, guidance=4.0))
    assert np.abs(asked - unknown).max() > 0.01
    np.testing.assert_allclose(guided, unknown + 4 * (asked - unknown), rtol=0.01, atol=0.02)


def test_the_number_of_steps_is_kept_and_matters(generator: MaisiGenerator) -> None:
    two, three = generator.latent(spec()), generator.latent(spec(steps=3))
    assert VolumeSpec.from_json(two.provenance.spec).steps == TINY.steps == 2
    assert VolumeSpec.from_json(three.provenance.spec).steps == three.spec.steps == 3
    assert not np.array_equal(two.tensor, three.tensor)


def test_reference_numerics_give_other_voxels(generator: MaisiGenerator) -> None:
    # Three steps: the times of two are whole numbers here, so there is nothing to round.
    exact = tensor(generator, spec(steps=3))
    assert not np.array_equal(tensor(generator, spec(steps=3, numerics="reference")), exact)


@pytest.mark.parametrize("other", ["mri_t2_skull_stripped", "mri_flair_skull_stripped"])
def test_the_modality_changes_the_image_and_leaves_the_label(
    generator: MaisiGenerator, other: str
) -> None:
    one, two = generator.latent(spec()), generator.latent(spec(modality=other))
    assert not np.array_equal(one.tensor, two.tensor)
    np.testing.assert_array_equal(one.label, two.label)


def test_the_mask_steers_the_image(generator: MaisiGenerator) -> None:
    small, large = ball(6), ball(13)
    one = tensor(generator, spec(mask=small.digest()), small)
    two = tensor(generator, spec(mask=large.digest()), large)
    assert np.abs(one - two).max() > 0.01


def test_the_drawn_label_given_as_a_mask_gives_the_same_voxels(generator: MaisiGenerator) -> None:
    drawn = generator.generate(spec()).volume
    assert drawn.label is not None
    mask = Blob(drawn.label[0], drawn.affine)
    given = generator.generate(spec(mask=mask.digest()), mask).volume
    np.testing.assert_array_equal(given.image, drawn.image)


def test_a_label_that_must_be_there_is_there(generator: MaisiGenerator) -> None:
    healthy, ill = generator.latent(spec()), generator.latent(spec(anatomy=("lesion",)))
    assert healthy.label is not None
    assert ill.label is not None
    assert not (healthy.label == 4).any()
    assert (ill.label == 4).any()


def test_a_lesion_of_the_least_diameter_is_in_the_label(generator: MaisiGenerator) -> None:
    least = TINY.pathology_range[0]
    for seed in range(4):
        label = generator.latent(spec(seed, pathology=(("lesion", least),), steps=1)).label
        assert label is not None
        assert (label == 4).any()


def test_the_greatest_seed_is_a_seed_as_any_other(generator: MaisiGenerator) -> None:
    assert np.isfinite(tensor(generator, spec(MAX_SEED, steps=1))).all()


def test_generation_leaves_the_global_generators_alone(generator: MaisiGenerator) -> None:
    def states() -> tuple[object, ...]:
        numpy_state = np.random.get_state()[1].tolist()  # type: ignore[index]
        return random.getstate(), numpy_state, torch.get_rng_state().tolist()

    before = states()
    generator.generate(spec(guidance=2.0))
    assert states() == before


def test_what_the_global_generators_hold_does_not_matter(generator: MaisiGenerator) -> None:
    before = tensor(generator, spec())
    torch.manual_seed(5)
    np.testing.assert_array_equal(tensor(generator, spec()), before)


def test_the_latent_is_divided_by_the_scale_factor(tmp_path: Path, folder: Path) -> None:
    halved = MaisiGenerator(TINY, weights=write_files(tmp_path, scale_factor=2.0))
    whole = tensor(MaisiGenerator(TINY, weights=folder), spec())
    np.testing.assert_allclose(tensor(halved, spec()), whole / 2, rtol=1e-3, atol=1e-6)


def test_other_weights_have_another_digest_and_so_another_key(tmp_path: Path, folder: Path) -> None:
    one = MaisiGenerator(TINY, weights=folder).card
    two = MaisiGenerator(TINY, weights=write_files(tmp_path, tiny_networks(seed=9))).card
    assert one.weights_digest != two.weights_digest
    resolved = one.resolve(spec())
    assert one.latent_key(resolved) != two.latent_key(resolved)


def without_scale_factor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    del tensors["scale_factor"]
    save_file(tensors, folder / WEIGHTS_FILE)


def of_a_wider_autoencoder(folder: Path) -> None:
    wider = replace(TINY, autoencoder=replace(TINY.autoencoder, widths=(8, 8, 8)))
    write_files(folder, tiny_networks(wider))


def cut(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])

    return change


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), r"no weights at .*weights\.safetensors"),
        (lambda folder: (folder / TEMPLATE_FILE).unlink(), r"template at .*template\.safetensors"),
        (cut(WEIGHTS_FILE), r"weights\.safetensors.*truncated"),
        (cut(TEMPLATE_FILE), r"template\.safetensors.*truncated"),
        (without_scale_factor, "no `scale_factor`"),
        (of_a_wider_autoencoder, r"`autoencoder`.*of other shape"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], None], text: str
) -> None:
    spoil(write_files(tmp_path))
    with pytest.raises(WeightsError, match=text):
        MaisiGenerator(TINY, weights=tmp_path)


def test_its_networks_are_not_trained(generator: MaisiGenerator) -> None:
    for network in (v for v in vars(generator).values() if isinstance(v, nn.Module)):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())


def test_every_evaluation_of_the_flow_is_a_sign_of_life(
    generator: MaisiGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: list[int] = []
    monkeypatch.setattr(generator, "on_progress", lambda: signs.append(1))
    generator.latent(spec(steps=3))
    assert len(signs) == 3


def test_a_generator_that_cannot_make_its_smallest_volume_cannot_prove_itself(
    generator: MaisiGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator.prove()
    monkeypatch.setattr(generator, "_scale_factor", float("nan"))
    with pytest.raises(GenerationError, match="seed 0"):
        generator.prove()


def test_a_whole_image_is_written_into_the_memory_that_it_is_given(
    generator: MaisiGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[np.ndarray] = []

    def new_image(shape: tuple[int, ...]) -> np.ndarray:
        given.append(np.empty(shape, np.int16))
        return given[-1]

    monkeypatch.setattr(generator, "new_image", new_image)
    made = generator.generate(spec(steps=2))
    again = generator.decode(made.latent)
    assert np.shares_memory(given[0], made.volume.image)
    assert np.shares_memory(given[1], again.image)
    np.testing.assert_array_equal(given[0], given[1])
