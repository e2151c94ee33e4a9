"""`nvgen-aug train`: the small model again, from its template to its weights."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import final

import typer

from ..errors import DataError
from ..errors import SpecError
from ..errors import did_you_mean
from .terminal import answer
from .terminal import console
from .terminal import hint
from .terminal import interruptible
from .terminal import progress
from .terminal import say

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ..training import Progress

MODELS = ("tiny-brain",)


def train(
    variant: Annotated[str, typer.Argument(help="Model to train: tiny-brain.")],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints and results.")],
    stages: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE",
            help="Only this one of autoencoder, latents, flow, mask_encoder, controlnet, "
            "image_encoder and image_control.",
        ),
    ] = None,
    minutes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE=MINUTES", help="Time for a stage, such as flow=30; more is better."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Where all chance comes from.")] = 0,
    device: Annotated[str, typer.Option(help="Where it trains: cpu or cuda.")] = "cpu",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start again instead of going on from checkpoints.")
    ] = False,
) -> None:
    """Train tiny-brain on warps of a public brain template.

    A checkpoint is written every five minutes and on Ctrl-C; the same command
    goes on from there. The finished weights are in the folder export.
    Give --stages and --minutes once for each stage that is meant.

    \b
    Example:
      nvgen-aug train tiny-brain --work-dir runs/tiny-brain

    \b
    Rendering a given brain in another contrast, for the weights that came with
    this package or those in the folder export, is learnt by two stages alone:
      nvgen-aug train tiny-brain --work-dir runs/tiny-brain \\
        --stages image_encoder --stages image_control
    """
    if variant not in MODELS:
        msg = f"`{variant}` cannot be trained; {did_you_mean(variant, MODELS)}"
        raise SpecError(msg)
    from ..training import STAGES  # heavy, and --help does without it
    from ..training import train_tiny_brain

    for stage in stages or ():
        _check_stage(stage, STAGES)
    budget = dict(_minutes(text, STAGES) for text in minutes or ())
    safe = f"checkpoints are in {work_dir}; the same command goes on from them"
    with interruptible(safe), _watch() as report:
        try:
            train_tiny_brain(
                work_dir,
                stages=tuple(stages or STAGES),
                minutes=budget,
                device=device,
                seed=seed,
                resume=not fresh,
                report=report,
            )
        except (ImportError, ValueError) as error:
            raise DataError(str(error)) from error
        except OSError as error:
            msg = f"cannot write to {work_dir}: {error.strerror}; choose another --work-dir"
            raise DataError(msg) from error
    if stages and not {"controlnet", STAGES[-1]} & set(stages):
        hint(f"the weights are written after the stages controlnet and {STAGES[-1]}")
        return
    hint("measure what came out before you ship it; the model card says how")
    answer([str(path) for path in sorted((work_dir / "export").iterdir())])


def _check_stage(stage: str, known: Sequence[str]) -> None:
    if stage not in known:
        msg = f"there is no stage `{stage}`; {did_you_mean(stage, known)}"
        raise SpecError(msg)


def _minutes(text: str, known: Sequence[str]) -> tuple[str, float]:
    stage, _, number = text.partition("=")
    _check_stage(stage, known)
    try:
        minutes = float(number)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf"):
        msg = f"minutes must be STAGE=MINUTES, such as flow=30, got {text!r}"
        raise SpecError(msg)
    return stage, minutes


@contextmanager
def _watch() -> Iterator[_Watcher]:
    with progress() as bars:
        yield _Watcher(bars)


@final
class _Watcher:
    """A bar for each stage; where stderr is no terminal, a line for each twentieth of it."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}
        self._is_terminal = console().is_terminal

    def __call__(self, now: Progress) -> None:
        """Show where a stage stands."""
        if now.stage not in self._tasks:
            self._tasks[now.stage] = self._bars.add_task(now.stage, total=100)
        text = f"{now.stage}: step {now.step}, loss {now.loss:.4f}"
        self._bars.update(
            self._tasks[now.stage], completed=int(100 * now.fraction), description=text
        )
        twentieth = int(20 * now.fraction)
        if not self._is_terminal and twentieth > self._told.get(now.stage, -1):
            self._told[now.stage] = twentieth
            say(f"{text}, {now.seconds_left / 60:.0f} min left")
