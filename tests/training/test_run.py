"""A run keeps its budget, survives a stop, and holds the averaged weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nvgen_aug.training import run as module
from nvgen_aug.training.run import Progress
from nvgen_aug.training.run import Run
from nvgen_aug.training.run import StageSettings


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def network() -> nn.Linear:
    linear = nn.Linear(2, 1)
    nn.init.constant_(linear.weight, 1.0)
    nn.init.constant_(linear.bias, 0.0)
    return linear


def open_run(folder: Path, *, minutes: float = 1.0, ema: float = 0.998, **options: Any) -> Run:
    settings = StageSettings(folder, minutes=minutes, **options)
    return Run("stage", network(), settings, learning_rate=0.01, ema=ema)


def loss(run: Run) -> torch.Tensor:
    """Falls as the weights fall."""
    return run.network(torch.ones(1, 2)).sum()


def train(run: Run, clock: Clock, steps: int, seconds: float = 1.0) -> None:
    for number, _ in enumerate(run, start=1):
        run.update(loss(run))
        clock.now += seconds
        if number == steps:
            break


def test_it_goes_on_until_its_time_is_spent(tmp_path: Path, clock: Clock) -> None:
    run = open_run(tmp_path)
    fractions = []
    for fraction in run:
        fractions.append(fraction)
        run.update(loss(run))
        clock.now += 15.0
    assert fractions == [0.0, 0.25, 0.5, 0.75]
    assert (run.step, run.seconds, run.fraction) == (4, 60.0, 1.0)


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path: Path, clock: Clock) -> None:
    first = open_run(tmp_path)
    train(first, clock, steps=3, seconds=10.0)
    first.save()
    clock.now += 5000.0
    second = open_run(tmp_path)
    assert (second.step, second.seconds) == (first.step, first.seconds)
    assert second.step == 3
    assert second.seconds >= 20.0
    assert torch.equal(second.network.weight, first.network.weight)
    for key, value in first.average.items():
        assert torch.equal(second.average[key], value)
    assert second.optimizer.state_dict()["state"][0]["step"] == 3
    train(second, clock, steps=1, seconds=10.0)
    assert second.step == 4
    assert 20.0 <= second.seconds <= 40.0


def test_a_run_that_is_spent_does_nothing(tmp_path: Path, clock: Clock) -> None:
    first = open_run(tmp_path)
    train(first, clock, steps=99, seconds=20.0)
    assert list(open_run(tmp_path)) == []


def test_more_minutes_train_a_spent_run_longer(tmp_path: Path, clock: Clock) -> None:
    train(open_run(tmp_path), clock, steps=99, seconds=20.0)
    longer = open_run(tmp_path, minutes=2.0)
    assert longer.fraction == pytest.approx(0.5)
    train(longer, clock, steps=99, seconds=20.0)
    assert longer.step == 6


def test_without_resuming_it_starts_afresh(tmp_path: Path, clock: Clock) -> None:
    train(open_run(tmp_path), clock, steps=3)
    fresh = open_run(tmp_path, resume=False)
    assert (fresh.step, fresh.seconds) == (0, 0.0)
    assert fresh.network.weight.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_skipped(tmp_path: Path, clock: Clock, value: float) -> None:
    run = open_run(tmp_path)
    train(run, clock, steps=2)
    before = run.network.weight.clone()
    run.update(loss(run) * value)
    assert torch.equal(run.network.weight, before)
    assert run.step == 3
    run.update(loss(run))
    assert torch.isfinite(run.network.weight).all()
    assert not torch.equal(run.network.weight, before)


def test_only_the_finished_checkpoint_is_left_behind(tmp_path: Path) -> None:
    open_run(tmp_path).save()
    assert [p.name for p in tmp_path.iterdir()] == ["stage.checkpoint"]


def test_a_save_that_fails_leaves_the_checkpoint_before_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path)
    train(run, clock, steps=2)

    def broken(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(module.torch, "save", broken)
        with pytest.raises(OSError, match="disk full"):
            run.save()
    assert open_run(tmp_path).step == 2


def test_it_saves_every_few_minutes(tmp_path: Path, clock: Clock) -> None:
    run = open_run(tmp_path, minutes=20.0)
    steps = iter(run)
    next(steps)
    run.update(loss(run))
    assert not run.path.exists()
    clock.now += 301.0
    next(steps)
    assert open_run(tmp_path, minutes=20.0).step == 1


def test_a_resumed_run_learns_at_the_rate_of_this_call(tmp_path: Path, clock: Clock) -> None:
    run = open_run(tmp_path)
    run.update(loss(run))
    run.save()
    faster = Run("stage", network(), StageSettings(tmp_path, minutes=1.0), learning_rate=0.02)
    tops = [[group["top"] for group in r.optimizer.param_groups] for r in (run, faster)]
    assert faster.step == 1
    assert all(b == pytest.approx(2 * a) for a, b in zip(*tops, strict=True) if a == 0.01)
    assert 0.02 in tops[1]


def test_an_interrupt_from_the_keyboard_saves_first(tmp_path: Path, clock: Clock) -> None:
    run = open_run(tmp_path)

    def interrupted() -> None:
        for _ in run:
            run.update(loss(run))
            if run.step == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert open_run(tmp_path).step == 5


def test_averaged_gives_the_network_its_averaged_weights(tmp_path: Path, clock: Clock) -> None:
    run = open_run(tmp_path, ema=0.9)
    train(run, clock, steps=30)
    last = float(run.network.weight[0, 0].detach())
    averaged = run.averaged()
    assert averaged is run.network
    assert not averaged.training
    # The weight fell all the time, so its average is above the last and below the first.
    assert last < float(averaged.weight[0, 0].detach()) < 1.0
    for key, value in averaged.state_dict().items():
        assert torch.equal(value, run.average[key])


def test_weights_that_do_not_move_are_their_own_average(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    for _ in range(5):
        run.update(loss(run) * math.nan)
    torch.testing.assert_close(run.average["weight"], torch.ones(1, 2))


def test_the_learning_rate_rises_at_first_and_ends_near_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    run = open_run(tmp_path)
    rates = []
    for _ in run:
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.update(loss(run))
        clock.now += 0.5
    top = max(rates)
    assert rates[0] < 0.1 * top
    assert rates[-1] < 0.02 * top
    assert top == pytest.approx(0.01, rel=0.3)


def test_weights_that_are_fixed_are_not_trained(tmp_path: Path, clock: Clock) -> None:
    fixed = network()
    fixed.bias.requires_grad_(False)
    run = Run("stage", fixed, StageSettings(tmp_path, minutes=1.0), learning_rate=0.01)
    train(run, clock, steps=3)
    assert fixed.bias.tolist() == [0.0]
    assert fixed.weight.tolist() != [[1.0, 1.0]]


def test_it_reports_where_it_stands(tmp_path: Path, clock: Clock) -> None:
    seen: list[Progress] = []
    run = open_run(tmp_path, report=seen.append)
    train(run, clock, steps=3, seconds=15.0)
    assert [p.step for p in seen] == [1, 2]
    assert seen[0].stage == "stage"
    assert seen[0].fraction == pytest.approx(0.25)
    assert seen[0].seconds_left == pytest.approx(45.0)
    assert seen[0].steps_per_second == pytest.approx(1 / 15)
    assert seen[0].loss == pytest.approx(2.0)


def test_a_spent_run_leaves_its_checkpoint_as_it_is(tmp_path: Path, clock: Clock) -> None:
    train(open_run(tmp_path), clock, steps=99, seconds=20.0)
    spent = open_run(tmp_path)
    before = spent.path.stat().st_ino
    train(spent, clock, steps=1)
    assert spent.path.stat().st_ino == before
