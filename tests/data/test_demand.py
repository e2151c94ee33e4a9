"""Demand: new volumes of a plan against the rate of a generator."""

from __future__ import annotations

import pytest

from nvgen_aug.data.demand import Demand
from nvgen_aug.data.demand import demand_of
from nvgen_aug.data.plan import Plan
from nvgen_aug.errors import DataError


def test_the_demand_is_that_of_the_plan() -> None:
    run = Plan(
        seed=0, ratio=0.3, epoch_length=400, real_length=7, batch_size=4, world_size=2, max_reuse=3
    )
    keys = [k for epoch in range(2) for r in range(2) for k in run.epoch(epoch, r)]
    synthetic = [key.index for key in keys if key.is_synthetic]
    found = demand_of(run, 2)
    assert found == Demand(100, 800, len(synthetic), len(set(synthetic)))
    assert found.draws_per_step == 2.4


def test_a_generator_keeps_up_where_a_step_takes_as_long_as_its_new_volumes() -> None:
    demand = Demand(steps=100, samples=400, draws=200, volumes=50)
    assert demand.volumes_per_step == 0.5
    assert demand.seconds_generating(4) == 200
    assert demand.least_seconds_per_step(4) == 2
    # Two draws a step at 4 s each are 8 s of a step of 2 s: each volume serves 4 draws.
    assert demand.least_reuse(4, 2) == 4
    assert demand.least_reuse(0.1, 2) == 1
    assert "50 volumes for 200 synthetic samples in 100 steps: 0.5 new volumes" in str(demand)


def test_a_rate_that_is_none_is_refused() -> None:
    demand = Demand(steps=1, samples=1, draws=1, volumes=1)
    with pytest.raises(DataError, match="seconds_per_volume must be a positive number"):
        demand.seconds_generating(0)
    with pytest.raises(DataError, match="seconds_per_step must be a positive number"):
        demand.least_reuse(1, -1)
