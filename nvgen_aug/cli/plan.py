"""`nvgen-aug plan`: which samples a run will see, and how many volumes that takes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from ..data.demand import Demand
from ..data.demand import demand_of
from ..data.plan import Plan
from ..data.plan import SampleKey
from ..data.plan import epoch_length_for
from ..data.report import BlendReport
from ..data.report import EpochShare
from ..data.report import blend_report
from ..data.strata import Strata
from ..errors import DataError
from ..schedule import Schedule
from ..schedule_text import schedule_from_text
from .goal import CensusFile
from .goal import Goal
from .goal import strata_of
from .terminal import answer
from .terminal import hint
from .terminal import say


def plan(
    ratio: Annotated[
        str, typer.Option(help="Share of synthetic samples, or a schedule of it; see above.")
    ],
    real: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many real cases there are.", show_default="those of --census"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of a batch on one rank.")] = 1,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs to print.", show_default="to the end of the schedule"),
    ] = None,
    epoch_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples of an epoch, all ranks together; a schedule and ratio 1 need it.",
            show_default="every real case once",
        ),
    ] = None,
    max_reuse: Annotated[int, typer.Option(min=1, help="Uses of each volume.")] = 1,
    world_size: Annotated[int, typer.Option(min=1, help="Number of ranks.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Where the order comes from.")] = 0,
    show: Annotated[
        int, typer.Option(min=0, metavar="N", help="List the first N samples of the run, too.")
    ] = 0,
    seconds_per_volume: Annotated[
        float | None, typer.Option(help="Time of one generation, to compare with the demand.")
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Measure that time: a model, which makes two volumes, or the address of a "
            "server, which says what its volumes took so far.",
        ),
    ] = None,
    seconds_per_step: Annotated[
        float | None, typer.Option(help="Time of one training step, to say who waits for whom.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where a measured model runs: cpu or cuda.")] = "cpu",
    census: CensusFile = None,
    goal: Goal = None,
    control: Annotated[
        bool, typer.Option("--control", help="Repeat real cases where draws would stand.")
    ] = False,
) -> None:
    """Print what a training run will see, epoch by epoch, without data, model or GPU.

    For each epoch: its samples, the synthetic ones that the share asks for and
    those that the plan delivers (never a whole sample apart, summed over the run),
    new volumes, volumes used again, and new volumes per step. SyntheticRealDataset
    with the same arguments walks exactly this plan.

    A ratio is a number or a fraction, 0.3 or 3/10, or changes over epochs or steps
    (a step is one batch on every rank):

    \b
      linear:0:0.5:epochs=10               0 in epoch 0, 0.5 in epoch 10 and after
      cosine:0.5:0:steps=2000              half a cosine from 0.5 down to 0
      piecewise:epochs:0=0.5,50=0.25,80=0  one share after another
      piecewise:epochs:0=linear:0:0.5:epochs=10,80=cosine:0.5:0:epochs=20

    \b
    Example:
      nvgen-aug plan --real 50 --ratio 0.3 --batch-size 4 --epochs 3 --show 8
      nvgen-aug plan --census census.json --ratio 0.3 --batch-size 4 --epochs 10 \\
          --goal "lesion=0.4" --goal "lesion < 10 mm=0.2"
      nvgen-aug plan --real 50 --epoch-length 80 --ratio linear:0:0.5:epochs=10 \\
          --batch-size 4 --max-reuse 8 --seconds-per-volume 5 --seconds-per-step 0.4
    """
    schedule = schedule_from_text(ratio)
    strata = strata_of(census, goal or [], control)
    real = _real(real, strata)
    if real == 0 and schedule.least < 1:
        msg = f"--real 0 leaves no real case for --ratio {ratio}; only a ratio of 1 needs none"
        raise DataError(msg)
    if measure is not None and seconds_per_volume is not None:
        msg = "--seconds-per-volume and --measure both say the time of a volume; give one of them"
        raise DataError(msg)
    if epoch_length is None:
        epoch_length = epoch_length_for(schedule, real)
    run = Plan(
        seed=seed,
        ratio=schedule,
        epoch_length=epoch_length,
        real_length=real,
        max_reuse=max_reuse,
        batch_size=batch_size,
        world_size=world_size,
        quotas=None if strata is None else strata.quotas(cases=real),
    )
    if epochs is None:
        epochs = 1 + _epochs_of(schedule, run)
    demand = demand_of(run, epochs)
    answer(_table(_shares(run, epochs)))
    if strata is not None:
        answer(["", *_table(_goal(run, epochs))])
        for row in blend_report(run, epochs).strata:
            if row.unmet:
                hint(f"`{row.condition}` is not met: {row.unmet}")
    answer(["", str(demand)])
    if measure is not None and demand.volumes:
        seconds_per_volume = _measured(measure, device)
    if seconds_per_volume is not None and demand.volumes:
        answer(_supply(demand, run, seconds_per_volume, seconds_per_step))
    elif demand.volumes:
        hint("--seconds-per-volume, or --measure MODEL, says whether a generator keeps up")
    if show:
        answer(["", *_table(_samples(run, show))])


def _epochs_of(schedule: Schedule, run: Plan) -> int:
    """Epochs until the share stays as it is."""
    return schedule.duration // (run.batches if schedule.unit == "steps" else 1)


def _shares(run: Plan, epochs: int) -> Iterator[tuple[str, ...]]:
    yield (
        "epoch", "samples", "asked", "delivered", "share", "new volumes", "used again", "new/step"
    )  # fmt: skip
    whole = blend_report(run, epochs)
    for part in whole.epochs:
        yield _share(str(part.epoch), part, run.batches)
    if epochs > 1:
        yield _share("all", whole, epochs * run.batches)


def _share(name: str, part: EpochShare | BlendReport, steps: int) -> tuple[str, ...]:
    return (
        name,
        str(part.samples),
        f"{part.asked * part.samples:.2f}",
        str(part.synthetic),
        f"{part.delivered:.2%}",
        str(part.distinct_volumes),
        str(part.reused),
        f"{part.distinct_volumes / steps:.3g}",
    )


def _goal(run: Plan, epochs: int) -> Iterator[tuple[str, ...]]:
    draws = "repeated" if run.fills_with_real else "synthetic"
    yield "goal", "asked", "shown", "real", draws, "share"
    for row in blend_report(run, epochs).strata:
        yield (
            row.condition,
            f"{row.asked * row.samples:.2f}",
            str(row.real + row.drawn),
            str(row.real),
            str(row.drawn),
            f"{row.delivered:.2%}",
        )


def _real(real: int | None, strata: Strata | None) -> int:
    if real is not None:
        return real
    if strata is None:
        msg = "--real says how many real cases there are, or --census and --goal; got neither"
        raise DataError(msg)
    return len(strata.census)


def _samples(run: Plan, number: int) -> Iterator[tuple[str, ...]]:
    stratum = () if run.quotas is None else ("stratum",)
    yield "epoch", "batch", "rank", "position", "kind", "number", "use", *stratum
    for batch, rank, key in islice(_walk(run), number):
        kind = "synthetic" if key.is_synthetic else "repeated" if key.stratum else "real"
        use = str(key.reuse + 1) if key.is_synthetic else "-"
        yield (
            str(key.epoch), str(batch), str(rank), str(key.position), kind, str(key.index), use,
            *((key.stratum or "-",) if stratum else ()),
        )  # fmt: skip


def _walk(run: Plan) -> Iterator[tuple[int, int, SampleKey]]:
    """All samples of the run with batch and rank, global batch by global batch."""
    epoch = 0
    while True:
        for batch in range(run.batches):
            for rank in range(run.world_size):
                for key in run.keys(epoch, batch, rank):
                    yield batch, rank, key
        epoch += 1


def _table(rows: Iterator[tuple[str, ...]]) -> list[str]:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True))
        for line in lines
    ]


def _supply(
    demand: Demand, run: Plan, seconds_per_volume: float, seconds_per_step: float | None
) -> list[str]:
    busy = demand.seconds_generating(seconds_per_volume)
    least = demand.least_seconds_per_step(seconds_per_volume)
    lines = [
        f"supply: {1 / seconds_per_volume:.3g} volumes/s of one generator: {busy:.3g} s for all; "
        f"it keeps up where a step takes {least:.3g} s or longer"
    ]
    if seconds_per_step is None:
        return lines
    reuse = demand.least_reuse(seconds_per_volume, seconds_per_step)
    needed = demand.volumes_per_step / seconds_per_step
    compared = f"at {seconds_per_step:g} s per step training takes {needed:.3g} new volumes/s"
    if least <= seconds_per_step:
        return [*lines, f"{compared}: the generator keeps up"]
    if reuse <= run.max_reuse:
        text = "training waits for these first volumes, and not in a longer run"
        return [*lines, f"{compared}: {text}"]
    share = demand.draws / demand.samples * run.max_reuse / reuse
    return [
        *lines,
        f"{compared}: training waits; --max-reuse {reuse} in a long run, or a ratio of about "
        f"{share:.2g} at --max-reuse {run.max_reuse}, would do without waiting",
    ]


def _measured(name: str, device: str) -> float:
    """Seconds of one generation; of the second one, because the first also warms up."""
    from ..assembly import open_source  # heavy, and a plan without a measured rate does without
    from ..spec import VolumeSpec

    with open_source(name, device=device) as source:
        before = source.stats()
        if name.startswith("unix:"):
            if not before.generated:
                msg = f"the server at {name} has made no volume yet; pass --seconds-per-volume"
                raise DataError(msg)
            return before.seconds_per_volume
        say(f"`{name}` makes two volumes")
        for seed in range(2):
            before = source.stats()
            source.fetch(VolumeSpec(source.card.name, seed=seed))
        return source.stats().seconds_generating - before.seconds_generating
