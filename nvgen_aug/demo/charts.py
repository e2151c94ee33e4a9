"""Charts: loss and Dice of both runs, as SVG to stand inside a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from ..evaluation.drawing import COLOURS
from ..evaluation.drawing import drawn

if TYPE_CHECKING:
    from .fit import Arm


def loss_chart(arms: Sequence[Arm]) -> str:
    """Loss of every optimizer step, and a running mean over it, for each run."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for arm, colour in zip(arms, COLOURS, strict=False):
            steps = range(1, arm.steps + 1)
            axis.plot(steps, arm.losses, color=colour, alpha=0.25, linewidth=0.8)
            axis.plot(steps, _running_mean(arm.losses), color=colour, linewidth=2)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel("loss")

    return drawn(draw, "Loss of both runs by optimizer step", height=2.9)


def dice_chart(arms: Sequence[Arm]) -> str:
    """Dice on the validation volumes after each epoch: the mean, then each class."""
    names = list(arms[0].epochs[0].dice)

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(names) + 1, squeeze=False, sharey=True)[0]
        for place, axis in enumerate(axes):
            for arm, colour in zip(arms, COLOURS, strict=False):
                scores = [
                    epoch.mean_dice if place == 0 else epoch.dice[names[place - 1]]
                    for epoch in arm.epochs
                ]
                shown = [float("nan") if score is None else score for score in scores]
                epochs = range(1, len(shown) + 1)
                axis.plot(epochs, shown, color=colour, linewidth=2, marker="o", markersize=3.5)
            axis.set_ylim(-0.02, 1.02)
            axis.set_xlim(0.7, len(arms[0].epochs) + 0.3)
            axis.set_title("mean" if place == 0 else names[place - 1], loc="left")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[0].set_ylabel("Dice")

    return drawn(draw, "Dice of both runs by epoch, mean and by class", height=2.6)


def _running_mean(losses: Sequence[float]) -> list[float]:
    """Mean over the last twelfth of a run's length, over fewer steps at its beginning."""
    reach = max(1, len(losses) // 12)
    means = []
    for place in range(len(losses)):
        window = losses[max(0, place + 1 - reach) : place + 1]
        means.append(sum(window) / len(window))
    return means
