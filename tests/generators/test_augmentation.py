"""Tumours of stored masks: moved as the table says, inside their organ, and never without end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nvgen_aug.generators.maisi.masks import augmentation
from nvgen_aug.generators.maisi.masks.augmentation import augment
from nvgen_aug.generators.maisi.masks.motions import CT_MOTIONS as MOTIONS

BODY = 200
HOSTS = {128: 40, 26: 1, 23: 29, 24: 4, 27: 62}


def torso(*tumours: int, organ: int = 1) -> NDArray[np.uint8]:
    """A body with one organ, and cubes of tumour in it."""
    label = np.zeros((36, 36, 32), np.uint8)
    label[2:34, 2:34, 2:30] = BODY
    label[5:31, 5:31, 4:28] = organ
    for number, tumour in enumerate(tumours):
        label[14 : 14 + 6, 14 : 14 + 6, 6 + 9 * number : 12 + 9 * number] = tumour
    return label


def moved(label: NDArray[np.uint8], seed: int = 0) -> tuple[NDArray[np.uint8], int | None]:
    after, tumour = augment(torch.from_numpy(label), np.random.default_rng(seed))
    return after.numpy(), tumour


@pytest.mark.parametrize("tumour", HOSTS)
def test_a_tumour_moves_within_its_organ_and_keeps_its_size(tumour: int) -> None:
    before = torso(tumour, organ=HOSTS[tumour])
    after, said = moved(before)
    assert said == tumour
    assert (after != before).any()
    assert (after == tumour).sum() >= MOTIONS[tumour].keep[1] * (before == tumour).sum()
    assert set(np.unique(before[after == tumour])) <= {HOSTS[tumour], tumour}


@pytest.mark.parametrize(
    ("tumour", "organ", "left"),
    [(26, 1, 1), (23, 29, 29), (24, 4, 4), (27, 62, 62), (128, 40, BODY)],
)
def test_its_old_place_becomes_what_was_around_it(tumour: int, organ: int, left: int) -> None:
    before = torso(tumour, organ=organ)
    after, _ = moved(before)
    freed = (before == tumour) & (after != tumour)
    assert freed.any()
    assert set(np.unique(after[freed])) == {left}


def test_of_several_tumours_the_first_in_order_moves_and_the_others_stay() -> None:
    before = torso(26, 24)
    after, said = moved(before)
    assert said == 26
    np.testing.assert_array_equal(after == 24, before == 24)


def test_brain_tumours_are_moved_in_masks_of_more_than_eight_bits() -> None:
    before = torso(organ=22).astype(np.int16)
    before[14:22, 14:22, 10:18] = 402
    after, said = augment(torch.from_numpy(before), np.random.default_rng(0))
    assert (said, after.dtype) == (402, torch.int16)
    freed = (before == 402) & (after.numpy() != 402)
    assert set(np.unique(after.numpy()[freed])) <= {22}


def test_a_mask_without_tumours_is_zoomed_a_little() -> None:
    before = np.tile(torso(), (8, 1, 1))  # long enough for 1 % to be more than a voxel
    differs = [(moved(before, seed)[0] != before).mean() for seed in range(4)]
    assert moved(before)[1] is None
    assert 0 < max(differs) < 0.1


def test_the_draw_is_the_seeds() -> None:
    before = torso(26)
    np.testing.assert_array_equal(moved(before, 1)[0], moved(before, 1)[0])
    assert (moved(before, 1)[0] != moved(before, 2)[0]).any()


def test_the_callers_mask_stays_as_it_is() -> None:
    before = torch.from_numpy(torso(26))
    kept = before.clone()
    augment(before, np.random.default_rng(0))
    assert torch.equal(before, kept)


def test_where_no_place_is_found_it_stays_and_that_is_said(monkeypatch) -> None:
    draws = []

    class Away:
        def set_random_state(self, seed: int) -> None:
            draws.append(seed)

        def __call__(self, mask: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(mask)

    monkeypatch.setattr(augmentation, "_deformation", lambda motion: Away())
    before = torso(26)
    after, said = moved(before)
    assert said == 0
    np.testing.assert_array_equal(after, before)
    assert len(draws) == len(set(draws)) == MOTIONS[26].tries


def test_less_has_to_be_left_in_the_last_tries(monkeypatch) -> None:
    before = torso(128, organ=40)
    part = torch.from_numpy(before == 128)[None].float()
    part[:, 14:15] = 0
    part[:, 15, 14:16] = 0  # 0.78 of its voxels are left

    class Smaller:
        def set_random_state(self, seed: int) -> None:
            tries.append(seed)

        def __call__(self, mask: torch.Tensor) -> torch.Tensor:
            return part

    tries: list[int] = []
    monkeypatch.setattr(augmentation, "_deformation", lambda motion: Smaller())
    assert moved(before)[1] == 128
    assert len(tries) == 41
