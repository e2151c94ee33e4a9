"""Which solver reaches the end of the flow with the fewest evaluations?

    python -m benchmarks.solvers [--quick] [--seeds N] [--reference N]

For each seed the flow is solved once with very many evaluations of `ab2`, and then
with few by every solver. The error is the distance between the latents relative to
the reference, as root mean squares. A solver's evaluations all cost the same, so
their number stands for time. The default should be the cheapest solver whose error
is no larger than that of `euler` at 30, for every seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.maisi.flow import SOLVERS
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.whole_file import replacing

VARIANT = "tiny-brain"
EVALUATIONS = (4, 6, 8, 9, 10, 11, 12, 14, 16, 20, 24, 30)
TODAY = ("euler", 30)

Errors = Mapping[str, Mapping[int, Sequence[float]]]


def main() -> None:
    """Solve, print a table, write record, table and plot."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reference", type=int, default=1000, help="evaluations of the reference")
    arguments = parser.parse_args()
    seeds, reference = arguments.seeds, arguments.reference
    counts: Sequence[int] = EVALUATIONS
    today = TODAY
    if arguments.quick:
        seeds, reference, counts = 1, 12, (2, 4, 6)
        today = TODAY[0], counts[-1]
    generator = MaisiGenerator.load(VARIANT)
    errors = endpoint_errors(generator, seeds, reference, counts)
    best = cheapest(errors, today)
    table = as_markdown(errors, seeds, reference)
    print(table)
    print(f"\ncheapest that is no worse than {today[0]} at {today[1]}: {best[0]} at {best[1]}")
    settings = {
        "variant": VARIANT,
        "seeds": seeds,
        "reference": {"solver": "ab2", "evaluations": reference},
        "error": "relative RMS of the latent, stored in half precision",
    }
    numbers: dict[str, Any] = {
        solver: {
            str(count): {"mean": float(np.mean(of_seeds)), "of_seeds": list(of_seeds)}
            for count, of_seeds in by_count.items()
        }
        for solver, by_count in errors.items()
    }
    numbers["cheapest"] = {"solver": best[0], "evaluations": best[1]}
    numbers["weights_digest"] = generator.card.weights_digest
    record = write_record("solvers", settings, numbers, arguments)
    with replacing(record.with_suffix(".md")) as partial:
        partial.write_text(table + "\n", encoding="utf-8")
    draw(errors, record.with_suffix(".png"), today)


def endpoint_errors(
    generator: Generator, seeds: int, reference: int, counts: Sequence[int]
) -> Errors:
    """Relative RMS distance to the reference, by solver and number of evaluations, per seed."""
    modalities = sorted(generator.card.modalities)
    errors: dict[str, dict[int, list[float]]] = {s: {n: [] for n in counts} for s in SOLVERS}
    for seed in range(seeds):

        def solved(solver: str, steps: int, seed: int = seed) -> NDArray[np.float64]:
            spec = VolumeSpec(
                generator.card.name,
                seed=seed,
                modality=modalities[seed % len(modalities)],
                solver=solver,
                steps=steps,
            )
            return generator.latent(spec).tensor.astype(np.float64)

        print(f"seed {seed}: the reference of {reference} evaluations")
        goal = solved("ab2", reference)
        runs = list(product(SOLVERS, counts))
        for solver, count in track(runs, f"Solving seed {seed}"):
            away = solved(solver, count) - goal
            errors[solver][count].append(float(np.linalg.norm(away) / np.linalg.norm(goal)))
    return errors


def cheapest(errors: Errors, today: tuple[str, int] = TODAY) -> tuple[str, int]:
    """Solver and evaluations that are no worse than those of today for any seed.

    The smaller mean error decides between equal numbers of evaluations.
    """
    solver, count = today
    limits = errors[solver][count]
    good = [
        (n, float(np.mean(of_seeds)), name)
        for name, by_count in errors.items()
        for n, of_seeds in by_count.items()
        if all(e <= limit for e, limit in zip(of_seeds, limits, strict=True))
    ]
    n, _, name = min(good)
    return name, n


def as_markdown(errors: Errors, seeds: int, reference: int) -> str:
    """Mean, least and greatest of the seeds, one row for each number of evaluations."""
    lines = [
        f"Relative RMS error of the latent in percent, mean (least to greatest) of {seeds} seeds,",
        f"against `ab2` with {reference} evaluations.",
        "",
        f"| evaluations | {' | '.join(errors)} |",
        "|--:|" + "--:|" * len(errors),
    ]
    for count in next(iter(errors.values())):
        percent = [100 * np.asarray(by_count[count]) for by_count in errors.values()]
        cells = [f"{p.mean():.2f} ({p.min():.2f} to {p.max():.2f})" for p in percent]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(errors: Errors, path: Path, today: tuple[str, int] = TODAY) -> None:
    """Error against evaluations, both logarithmic, with the bar as a line."""
    matplotlib.use("agg")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for solver, by_count in errors.items():
        counts = list(by_count)
        means = [100 * float(np.mean(by_count[n])) for n in counts]
        axes.loglog(counts, means, marker="o", markersize=4, label=solver)
    bar = 100 * float(np.mean(errors[today[0]][today[1]]))
    axes.axhline(bar, color="grey", linestyle=":", label=f"{today[0]} at {today[1]}")
    shown = next(iter(errors.values()))
    axes.set_xticks(list(shown), [str(n) for n in shown])
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the networks")
    axes.set_ylabel("relative RMS error of the latent, %")
    axes.set_title(f"{VARIANT}: error at the end of the flow")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


if __name__ == "__main__":
    main()
