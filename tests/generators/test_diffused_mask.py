"""With the mask networks installed, CT variants make a label map and an image of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.masks import diffused_mask as module
from nvgen_aug.generators.maisi.masks.diffused_mask import on_grid
from nvgen_aug.generators.maisi.masks.size_vector import size_vector
from nvgen_aug.generators.maisi.masks.warped_template import Grid
from nvgen_aug.generators.maisi.releases import MASK_NETWORKS
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.recipe import Recipe
from nvgen_aug.spec import VolumeSpec
from tests.generators.released import NARROW
from tests.generators.released import install
from tests.generators.released import write_release


@pytest.fixture(scope="module")
def rflow() -> MaisiGenerator:
    with TemporaryDirectory() as folder:
        home = install(Path(folder), NARROW["rflow-ct"])
        made = MaisiGenerator(NARROW["rflow-ct"], weights=home)
        made.generate(made.card.resolve(VolumeSpec("rflow-ct", seed=0)))  # loads the networks
        return made


@pytest.fixture(scope="module")
def without_masks() -> MaisiGenerator:
    with TemporaryDirectory() as folder:
        release = write_release(Path(folder) / "release", NARROW["rflow-ct"])
        home = Path(folder) / "home"
        import_weights(NARROW["rflow-ct"], FolderSource(release), home, without=MASK_NETWORKS)
        return MaisiGenerator(NARROW["rflow-ct"], weights=home)


def torso() -> Any:
    label = np.zeros((32, 32, 32), np.uint8)
    label[4:28, 4:28, :] = 200
    label[8:20, 8:20, 6:16] = 1
    label[10:13, 10:13, 8:11] = 26
    label[8:14, 8:14, 20:30] = 28
    return label


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """The networks' place is taken by a torso; the list gets what they were told."""
    told: list[tuple[float, ...]] = []

    def draw(self: Any, sizes: tuple[float, ...], steps: int, **seeds: int) -> Any:
        told.append(sizes)
        return torso()

    monkeypatch.setattr(module.MaskModel, "draw", draw)
    return told


@pytest.mark.parametrize("name", ["rflow-ct", "ddpm-ct"])
def test_nothing_given_gives_an_image_and_its_label(name: str) -> None:
    with TemporaryDirectory() as folder:
        made = MaisiGenerator(NARROW[name], weights=install(Path(folder), NARROW[name]))
        assert made.card.draws_labels
        spec = VolumeSpec(name, seed=1, steps=10, mask_steps=10, body_region=_region(name))
        volume = made.generate(spec).volume
    assert volume.label is not None
    assert volume.label.any()
    assert (volume.image[volume.label == 0] == -1000).all()
    assert volume.provenance.mask_source == "drawn"
    assert volume.provenance.mask_parent.startswith("mask diffusion: gallbladder 0.")


def _region(name: str) -> tuple[str, str] | None:
    # Random networks draw no organ that one could rely on.
    return ("chest", "abdomen") if name == "ddpm-ct" else None


def test_reference_numerics_draw_a_mask_too(rflow: MaisiGenerator) -> None:
    spec = VolumeSpec("rflow-ct", seed=1, numerics="reference")
    label = rflow.latent(spec).label
    assert label is not None
    assert label.any()
    other = rflow.latent(replace(spec, numerics="exact")).label
    assert other is not None
    assert (label != other).any()


def test_an_image_alone_can_still_be_had(rflow: MaisiGenerator) -> None:
    volume = rflow.generate(VolumeSpec("rflow-ct", seed=1, image_only=True)).volume
    assert volume.label is None
    assert volume.provenance.mask_source == "none"
    assert not Recipe(image_only=True).gives_labels(rflow.card)
    assert Recipe().gives_labels(rflow.card)


def test_sizes_reach_the_networks_in_their_order(
    rflow: MaisiGenerator, drawn: list[tuple[float, ...]]
) -> None:
    sizes = (("liver", 0.5), ("hepatic tumor", 0.25), ("colon", -1))
    rflow.latent(VolumeSpec("rflow-ct", seed=1, organ_sizes=sizes))
    (told,) = drawn
    assert told[1] == 0.5
    assert told[4] == -1
    assert told[5:] == (-1, -1, 0.25, -1, -1)
    assert all(0 <= told[k] <= 1 for k in (0, 2, 3))


def test_the_label_is_what_was_drawn_and_cleaned(
    rflow: MaisiGenerator, drawn: list[tuple[float, ...]]
) -> None:
    asked = VolumeSpec("rflow-ct", seed=1, organ_sizes=(("hepatic tumor", 0.25),))
    label = rflow.latent(asked).label
    assert label is not None
    np.testing.assert_array_equal(label[0], torso())
    healthy = rflow.latent(VolumeSpec("rflow-ct", seed=1)).label
    assert healthy is not None
    assert not (healthy == 26).any()


def test_anatomy_that_is_a_tumour_gets_a_size(
    rflow: MaisiGenerator, drawn: list[tuple[float, ...]]
) -> None:
    label = rflow.latent(VolumeSpec("rflow-ct", seed=1, anatomy=("hepatic tumor",))).label
    assert label is not None
    assert (label == 26).any()
    assert 0 <= drawn[0][7] <= 1


def test_what_was_asked_for_and_not_drawn_is_an_error(
    rflow: MaisiGenerator, drawn: list[tuple[float, ...]]
) -> None:
    with pytest.raises(GenerationError, match="drew no `stomach` for seed 1, which was asked for"):
        rflow.latent(VolumeSpec("rflow-ct", seed=1, organ_sizes=(("stomach", 0.5),)))


def test_what_lies_outside_the_field_of_view_is_said_to(
    rflow: MaisiGenerator, drawn: list[tuple[float, ...]]
) -> None:
    spec = VolumeSpec(
        "rflow-ct", seed=1, spacing=(0.5, 0.5, 0.5), organ_sizes=(("hepatic tumor", 0.5),)
    )
    with pytest.raises(GenerationError, match=r"but not within size .* widen the field of view"):
        rflow.latent(spec)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"organ_sizes": (("lung tumor", 0.5), ("hepatic tumor", 0.1))},
            "more than one tumour requested where one is allowed: .'hepatic tumor', 'lung tumor'.",
        ),
        (
            {"organ_sizes": (("lung tumor", 0.5),), "anatomy": ("bone lesion",)},
            "more than one tumour requested",
        ),
        ({"organ_sizes": (("livr", 0.5),)}, "knows no size of `livr`.*`liver`"),
        ({"organ_sizes": (("liver", 0.5),), "mask": "0" * 64}, "for a mask that is drawn"),
        ({"organ_sizes": (("liver", 0.5),), "image_only": True}, "draws no label map from sizes"),
        ({"mask": "0" * 64, "image_only": True}, "follows a mask"),
        ({"mask_steps": 1001}, r"mask_steps must lie in \[1, 1000\], got 1001"),
    ],
)
def test_what_cannot_be_is_refused(
    rflow: MaisiGenerator, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        rflow.card.resolve(VolumeSpec("rflow-ct", seed=1, **fields))


def test_a_tumour_of_size_minus_one_is_none(rflow: MaisiGenerator) -> None:
    sizes = (("lung tumor", 0.5), ("hepatic tumor", -1))
    resolved = rflow.card.resolve(VolumeSpec("rflow-ct", seed=1, organ_sizes=sizes))
    assert dict(resolved.organ_sizes) == dict(sizes)


def test_steps_of_a_mask_that_is_not_drawn_are_no_part_of_the_key(rflow: MaisiGenerator) -> None:
    one, two = (
        rflow.card.resolve(VolumeSpec("rflow-ct", seed=1, image_only=True, mask_steps=steps))
        for steps in (None, 7)
    )
    assert one == two
    drawn = rflow.card.resolve(VolumeSpec("rflow-ct", seed=1, mask_steps=7))
    assert drawn.mask_steps == 7
    otherwise = replace(rflow.card, default_mask_steps=None, sized_organs=(), sized_tumours=())
    assert otherwise.resolve(VolumeSpec("rflow-ct", seed=1, mask_steps=7)).mask_steps is None


def test_other_names_of_an_organ_are_the_same_volume(rflow: MaisiGenerator) -> None:
    one, two = (
        rflow.card.resolve(VolumeSpec("rflow-ct", seed=1, organ_sizes=sizes))
        for sizes in (
            (("liver tumor", 0.5), ("liver", 0.1)),
            (("liver", 0.1), ("hepatic tumor", 0.5)),
        )
    )
    assert rflow.card.volume_key(one) == rflow.card.volume_key(two)


def test_without_the_mask_networks_the_refusal_names_the_command_that_adds_them(
    without_masks: MaisiGenerator,
) -> None:
    card = without_masks.card
    assert not card.draws_labels
    with pytest.raises(SpecError, match="`nvgen-aug weights import rflow-ct` adds"):
        card.resolve(VolumeSpec("rflow-ct", seed=1, organ_sizes=(("liver", 0.5),)))
    with pytest.raises(SpecError, match="`nvgen-aug weights import rflow-ct` adds"):
        card.resolve(VolumeSpec("rflow-ct", seed=1, anatomy=("liver",)))
    alone = card.resolve(VolumeSpec("rflow-ct", seed=1, image_only=True))
    assert alone == card.resolve(VolumeSpec("rflow-ct", seed=1))
    assert without_masks.generate(alone).volume.label is None


def test_the_vector_is_the_same_draw_whatever_is_asked() -> None:
    def vector(asked: dict[str, float], present: tuple[str, ...] = ()) -> tuple[float, ...]:
        return size_vector(asked, present, np.random.default_rng(3))

    bare = vector({})
    assert bare[5:] == (-1,) * 5
    assert vector({"liver": 0.25})[2:] == bare[2:]
    assert vector({}, ("bone lesion",))[:9] == bare[:9]
    assert vector({}, ("bone lesion",))[9] >= 0
    assert len({size_vector({}, (), np.random.default_rng(k)) for k in range(20)}) == 20


def test_a_grid_of_the_same_voxels_changes_nothing() -> None:
    label = torso()
    same = on_grid(label, 1.5, Grid((32, 32, 32), (1.5, 1.5, 1.5)))
    np.testing.assert_array_equal(same, label)


def test_a_grid_around_the_same_middle_is_cut_or_padded() -> None:
    label = torso()
    larger = on_grid(label, 1.5, Grid((36, 32, 20), (1.5, 1.5, 1.5)))
    np.testing.assert_array_equal(larger[2:-2], label[:, :, 6:-6])
    assert not larger[:2].any()
    assert not larger[-2:].any()


def test_twice_the_spacing_keeps_the_place() -> None:
    label = torso()
    coarse = on_grid(label, 1.5, Grid((16, 16, 16), (3.0, 3.0, 3.0)))
    fine = on_grid(coarse, 3.0, Grid((32, 32, 32), (1.5, 1.5, 1.5)))
    assert (fine != label).mean() < 0.1
    assert abs(int((fine == 1).sum()) - int((label == 1).sum())) < 300
