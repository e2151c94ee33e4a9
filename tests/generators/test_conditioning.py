"""What the networks are told: mask bits, spacing and modality."""

from __future__ import annotations

import pytest
import torch

from nvgen_aug.generators.maisi.conditioning import mask_bits
from nvgen_aug.generators.maisi.conditioning import modality_tensor
from nvgen_aug.generators.maisi.conditioning import spacing_tensor


@pytest.mark.parametrize(
    ("value", "set_bits"),
    [(0, []), (1, [0]), (2, [1]), (4, [2]), (23, [0, 1, 2, 4]), (128, [7]), (200, [3, 6, 7])],
)
def test_bit_planes_have_the_least_significant_bit_first(value: int, set_bits: list[int]) -> None:
    planes = mask_bits(torch.full((1, 1, 1, 1), value, dtype=torch.uint8))
    assert planes.shape == (1, 8, 1, 1, 1)
    assert planes.flatten().nonzero().flatten().tolist() == set_bits


def test_bit_planes_are_zeros_and_ones_from_which_every_id_can_be_had_back() -> None:
    label = torch.arange(256, dtype=torch.uint8).reshape(1, 4, 8, 8)
    planes = mask_bits(label)
    assert planes.dtype == torch.float32
    assert set(planes.unique().tolist()) == {0.0, 1.0}
    weights = 2.0 ** torch.arange(8)
    assert torch.equal((planes * weights[:, None, None, None]).sum(1), label.float())


def test_spacing_is_told_in_hundredths_of_a_millimetre() -> None:
    told = spacing_tensor((1.0, 1.5, 2.75), batch=2)
    assert told.tolist() == [[100.0, 150.0, 275.0]] * 2
    assert told.dtype == torch.float32


def test_a_modality_is_told_as_one_integer_for_each_sample() -> None:
    told = modality_tensor(29, batch=3)
    assert told.tolist() == [29, 29, 29]
    assert told.dtype == torch.int64
