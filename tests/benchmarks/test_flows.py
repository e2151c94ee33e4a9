"""The flow of ours and MONAI's, from the same drawn weights."""

from __future__ import annotations

import pytest
import torch

from benchmarks.flows import Flows
from benchmarks.full_width import NARROW_FLOW
from benchmarks.full_width import redrawn


@pytest.fixture(scope="module")
def flows() -> Flows:
    return Flows(NARROW_FLOW, (8, 8, 8), steps=2)


def test_one_step_is_that_of_monais_networks(flows: Flows) -> None:
    # torch's group norm in channels-last layout is no better than this on a processor.
    assert flows.difference(flows.monai_step())(flows.our_step()()) < 0.02


def test_all_steps_end_where_monais_scheduler_ends(flows: Flows) -> None:
    assert flows.difference(flows.monai_volume())(flows.our_volume()()) < 0.02


def test_no_layer_stays_at_zero_where_training_begins_with_it() -> None:
    layer = torch.nn.Conv3d(4, 8, 3)
    torch.nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    torch.nn.init.zeros_(layer.bias)
    image = redrawn(layer)(torch.randn(1, 4, 8, 8, 8))
    assert bool((layer.bias != 0).all())
    assert 0.5 < float(image.std()) < 2.0
