"""The rectified-flow schedule, its noise and its solver."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.flow import SOLVERS
from nvgen_aug.generators.maisi.flow import Schedule
from nvgen_aug.generators.maisi.flow import draw_noise
from nvgen_aug.generators.maisi.flow import noised
from nvgen_aug.generators.maisi.flow import schedule
from nvgen_aug.generators.maisi.flow import solve
from nvgen_aug.generators.maisi.flow import warp
from nvgen_aug.generators.maisi.flow import warp_ratio
from tests.generators.schedulers import rflow_scheduler

# Of NV-Generate at 512 x 512 x 512, 30 steps.
AT_128_CUBED = [
    *(1000, 991.5, 982.5, 973, 963, 952.5, 941, 929.5, 916.5, 903, 889, 873.5, 857, 839.5, 820.5),
    *(800, 778, 753.5, 727.5, 698.5, 666.5, 631.5, 592.5, 549, 500, 444.5, 381, 307.75, 222.25),
    121.1875,
]
# Latent, ratio, the two times after 1000, the last time, the sum of the steps.
OTHERS = [
    ((64, 64, 32), 1.5874, 978.5, 957, 51.906, 1.00984),
    ((64, 64, 64), 2.0, 983, 965.5, 64.5, 1.00962),
    ((128, 128, 32), 2.5198, 986.5, 972.5, 79.938, 1.00869),
    ((128, 128, 64), 3.1748, 989.5, 978, 98.688, 1.00881),
    ((128, 128, 192), 4.5789, 992.5, 984.5, 136.375, 1.00737),
]


def test_reference_times_at_128_cubed_are_those_of_the_family() -> None:
    plan = schedule(30, 128**3, "reference")
    assert list(plan.times) == AT_128_CUBED
    assert sum(plan.steps) == pytest.approx(1.00869, abs=5e-6)


@pytest.mark.parametrize(("latent", "ratio", "second", "third", "last", "total"), OTHERS)
def test_reference_times_at_other_sizes_are_those_of_the_family(
    latent: tuple[int, ...], ratio: float, second: float, third: float, last: float, total: float
) -> None:
    voxels = int(np.prod(latent))
    plan = schedule(30, voxels, "reference")
    assert warp_ratio(voxels) == pytest.approx(ratio, abs=5e-5)
    assert plan.times[:3] == (1000.0, second, third)
    assert plan.times[-1] == pytest.approx(last, abs=1e-3)
    assert sum(plan.steps) == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 7, 30])
@pytest.mark.parametrize("voxels", [16**3, 64 * 64 * 32])
def test_reference_numerics_step_as_monais_scheduler_does(steps: int, voxels: int) -> None:
    scheduler = rflow_scheduler(steps, voxels)
    x = torch.zeros(1)
    positions = []
    following = torch.cat([scheduler.timesteps[1:], torch.zeros(1, dtype=torch.float16)])
    for time, next_time in zip(scheduler.timesteps, following, strict=True):
        x, _ = scheduler.step(torch.ones(1), time, x, next_time)
        positions.append(float(x))
    plan = schedule(steps, voxels, "reference")
    assert list(plan.times) == scheduler.timesteps.tolist()
    np.testing.assert_allclose(np.cumsum(plan.steps), positions, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 4, 5, 30])
@pytest.mark.parametrize("voxels", [16**3, 32**3, 128**3])
def test_exact_steps_go_all_the_way_and_no_further(steps: int, voxels: int, solver: str) -> None:
    plan = schedule(steps, voxels, solver=solver)
    assert sum(plan.steps) + sum(plan.carries) == pytest.approx(1.0, abs=1e-12)
    assert len(plan.times) == len(plan.steps) == len(plan.carries) == steps
    assert plan.carries[0] == 0


def endpoint_error(solver: str, evaluations: int, voxels: int = 64**3) -> float:
    """Of dx/ds = x, from 1 over the whole way: the end is e, and s runs against time."""
    plan = schedule(evaluations, voxels, solver=solver)
    found = solve(lambda x, k: x, torch.ones(1, 1, dtype=torch.float64), plan)
    return abs(float(found) - math.e)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("ab2", 2), ("heun", 2)])
def test_with_twice_the_evaluations_the_error_falls_by_the_order_of_the_solver(
    solver: str, order: int
) -> None:
    fall = endpoint_error(solver, 200) / endpoint_error(solver, 400)
    assert fall == pytest.approx(2**order, rel=0.05)


def test_the_weights_of_ab2_are_those_of_the_line_through_both_velocities() -> None:
    # A velocity that changes evenly with time is followed exactly after the first step.
    plan = schedule(5, 64**3, solver="ab2")
    left = [1 - t / 1000 for t in plan.times]
    found = solve(lambda x, k: torch.tensor([[2 * left[k]]]), torch.zeros(1, 1), plan)
    first = 1 - plan.times[1] / 1000
    assert float(found) == pytest.approx(1.0 - first**2, abs=1e-6)


def test_heun_evaluates_at_both_ends_of_a_step_and_ends_with_euler_if_one_is_left() -> None:
    even, odd = schedule(4, 32**3, solver="heun"), schedule(3, 32**3, solver="heun")
    assert even.times == pytest.approx((1000, 500, 500, 0))
    assert odd.times == pytest.approx((1000, 500, 500))
    assert (odd.steps[-1], odd.carries[-1]) == pytest.approx((0.5, 0.0))


@pytest.mark.parametrize(
    ("solver", "numerics", "text"),
    [
        ("rk4", "exact", "exact numerics have no solver 'rk4'; exact ones have .*'ab2'"),
        ("ab2", "reference", "reference numerics have no solver 'ab2'; .*reference ones `euler`"),
    ],
)
def test_a_solver_that_the_numerics_lack_is_refused(solver: str, numerics: str, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        schedule(4, 8, numerics, solver)


def test_exact_times_are_those_of_the_family_before_it_rounds() -> None:
    exact = schedule(30, 128**3).times
    np.testing.assert_array_equal(np.float16(exact), np.float16(AT_128_CUBED))


def test_a_latent_of_32_cubed_is_not_warped() -> None:
    assert warp_ratio(32**3) == pytest.approx(1.0)
    assert schedule(4, 32**3).times == pytest.approx((1000, 750, 500, 250))


def test_training_times_are_warped_as_the_schedule_is() -> None:
    even = torch.tensor([1.0, 0.75, 0.5, 0.25])
    times = torch.tensor(schedule(4, 64**3).times)
    torch.testing.assert_close(1000 * warp(even, 64**3), times)


def test_noise_depends_on_the_seed_alone() -> None:
    first = draw_noise((1, 4, 8, 8, 8), seed=11)
    torch.manual_seed(999)
    torch.testing.assert_close(draw_noise((1, 4, 8, 8, 8), seed=11), first, rtol=0, atol=0)
    assert not torch.equal(draw_noise((1, 4, 8, 8, 8), seed=12), first)


def test_noise_is_standard_normal_in_single_precision() -> None:
    noise = draw_noise((1, 4, 16, 16, 16), seed=3)
    assert noise.dtype == torch.float32
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.03)


def test_noise_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    draw_noise((1, 4, 8, 8, 8), seed=11)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_the_velocity_from_noise_to_data_leads_to_the_data(steps: int, solver: str) -> None:
    noise, data = draw_noise((2, 4, 3, 3, 3), seed=1), draw_noise((2, 4, 3, 3, 3), seed=2)
    found = solve(lambda x, k: data - noise, noise, schedule(steps, 27, solver=solver))
    torch.testing.assert_close(found, data, rtol=1e-5, atol=1e-5)


def test_reference_steps_lead_as_much_too_far_as_they_add_up_to() -> None:
    noise, data = draw_noise((1, 1, 3, 3, 3), seed=1), draw_noise((1, 1, 3, 3, 3), seed=2)
    found = solve(lambda x, k: data - noise, noise, schedule(30, 128**3, "reference"))
    torch.testing.assert_close(found, noise + 1.00869 * (data - noise), rtol=1e-4, atol=1e-4)


def test_the_solver_goes_through_the_evaluations_of_the_plan_and_carries_the_one_before() -> None:
    seen: list[int] = []

    def velocity(x: torch.Tensor, k: int) -> torch.Tensor:
        seen.append(k)
        return (10.0**k) * torch.ones_like(x)

    plan = Schedule(times=(800.0, 300.0, 9.0), steps=(0.5, 0.25, 2.0), carries=(0.0, 1.0, -0.5))
    found = solve(velocity, torch.zeros(2, 1), plan)
    assert seen == [0, 1, 2]
    assert found.tolist() == [[0.5 + 2.5 + 1.0 + 200.0 - 5.0]] * 2


def test_the_solver_leaves_the_noise_as_it_was() -> None:
    noise = draw_noise((1, 1, 2, 2, 2), seed=1)
    before = noise.clone()
    solve(lambda x, k: torch.ones_like(x), noise, schedule(3, 8))
    assert torch.equal(noise, before)


def test_the_way_runs_straight_from_data_at_0_to_noise_at_1() -> None:
    data, noise = draw_noise((3, 1, 2, 2, 2), seed=1), draw_noise((3, 1, 2, 2, 2), seed=2)
    points = noised(data, noise, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(points[0], data[0])
    torch.testing.assert_close(points[1], 0.75 * data[1] + 0.25 * noise[1])
    torch.testing.assert_close(points[2], noise[2])
