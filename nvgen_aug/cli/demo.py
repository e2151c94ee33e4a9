"""`nvgen-aug demo`: a segmenter trains on real and on blended volumes, and a report says how."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from typing import final

import typer

from ..errors import DataError
from .terminal import answer
from .terminal import console
from .terminal import hint
from .terminal import interruptible
from .terminal import progress
from .terminal import say

_LINES = 4  # so many lines a bar leaves where there is no terminal


def demo(
    labels_too: Annotated[list[str] | None, typer.Argument(metavar="NAME=ID", hidden=True)] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own brain MRI in the Medical Segmentation Decathlon or nnU-Net layout: a "
            "folder with dataset.json, imagesTr and labelsTr. Without it, stand-ins warped from "
            "a public template."
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ID ...",
            help="Which of the generator's labels your ids mean, such as `lesion=1`.",
        ),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="Generator: tiny-brain, or phantom for other anatomy.")
    ] = "tiny-brain",
    ratio: Annotated[float, typer.Option(help="Share of synthetic volumes, 0 to 1.")] = 0.3,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps of each run.", show_default="240")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("demo-report"),
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps volumes between runs.", show_default="OUT/cache"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Where all chance comes from.")] = 0,
    modality: Annotated[str | None, typer.Option(help="Contrast of the synthetic volumes.")] = None,
    channel: Annotated[int, typer.Option(min=0, help="Channel of your images to use.")] = 0,
    cases: Annotated[int, typer.Option(min=2, help="Cases of your data to use at most.")] = 16,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes.")] = 1,
    device: Annotated[str, typer.Option(help="Where the models run: cpu or cuda.")] = "cpu",
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps only, to see that everything runs.")
    ] = False,
) -> None:
    """Train a segmenter twice, on real volumes only and with synthetic ones blended in.

    Writes report.html, report.json and real-and-synthetic.png. Synthetic volumes
    are kept in the cache, so a second run generates none.

    \b
    Example:
      nvgen-aug demo
      nvgen-aug demo --data Task01_BrainTumour --labels lesion=3
      nvgen-aug demo --quick --variant phantom
    """
    for word in labels_too or ():
        if "=" not in word:
            msg = (
                f"`nvgen-aug demo` takes no argument `{word}`; a generator is named with "
                "--variant, labels with --labels NAME=ID"
            )
            raise DataError(msg)
    # Heavy, and --help does without them.
    from ..demo.settings import Settings
    from ..demo.story import run_demo

    settings = Settings(
        out=out,
        variant=variant,
        ratio=ratio,
        steps=steps,
        seed=seed,
        cache=cache,
        data=data,
        labels=_labels([*(labels or ()), *(labels_too or ())]),
        channel=channel,
        cases=cases,
        modality=modality,
        workers=workers,
        device=device,
        quick=quick,
    )
    safe = f"the volumes made so far stay in {settings.cache_folder} for the next run"
    with interruptible(safe):
        outcome = run_demo(settings, TerminalTalk())
    for caveat in outcome.caveats()[1:]:
        say(caveat)
    hint(f"open {out / 'report.html'} in a browser")
    answer([str(out / name) for name in ("report.html", "report.json", "real-and-synthetic.png")])


@final
class TerminalTalk:
    """Lines and bars on stderr; where that is no terminal, a bar becomes a few lines."""

    def say(self, text: str) -> None:
        """Show one line."""
        say(text)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """A bar of `total` steps."""
        is_terminal = console().is_terminal
        done = 0
        last = ""
        with progress() as bar:
            task = bar.add_task(title, total=total)

            def advance(note: str) -> None:
                nonlocal done, last
                done, last = done + 1, note or last
                bar.update(task, advance=1, description=f"{title} {note}".strip())
                if not is_terminal and (done * _LINES) // total > ((done - 1) * _LINES) // total:
                    say(f"{title}: {done} of {total} {note}".rstrip())

            yield advance
        # The bar is gone by now; what it ended with stays.
        if is_terminal:
            say(f"{title}: {done} of {total} {last}".rstrip())


def _labels(given: list[str]) -> tuple[str, ...]:
    """`A=1 B=2`, `A=1,B=2` and repeated options come to the same."""
    return tuple(pair.strip() for text in given for pair in text.split(",") if pair.strip())
