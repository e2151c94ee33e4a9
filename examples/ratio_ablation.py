"""How much synthetic data helps: one run for each share and seed, fairly compared.

    python examples/ratio_ablation.py                    # tiny-brain; minutes on a laptop
    python examples/ratio_ablation.py --quick            # rough images, a minute

What makes it fair:

- the order of the real cases depends on the seed alone, so all arms of a seed see the same ones;
- pools are nested: the volumes of a smaller share are a subset of those of a larger one;
- volumes are made once and kept, so every arm trains on the very same voxels;
- `same_steps` gives all arms equally many updates, `same_real` equally many looks at each real
  case; the table has both, because they answer different questions;
- asked and delivered share, distinct volumes and reuse stand beside every result.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import mean
from statistics import stdev

from train_segmentation import blended
from train_segmentation import fit
from train_segmentation import real_files
from train_segmentation import stand_ins

import nvgen_aug as nv

RATIOS = (0, 0.25, 0.5)


def epoch_length(budget: str, real: int) -> int | None:
    """Samples of an epoch: as many for all arms, or as many as show each real case once."""
    return 2 * real if budget == "same_steps" else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="rough images, two arms, two seeds")
    chosen = parser.parse_args()

    epochs = 1 if chosen.quick else chosen.epochs
    ratios = RATIOS[:2] if chosen.quick else RATIOS
    seeds = range(2 if chosen.quick else 3)
    budgets = ("same_steps",) if chosen.quick else ("same_steps", "same_real")
    lesions = {"lesion": nv.Lesions((1, 3), (8, 20))}
    recipe = nv.Recipe(pathology=lesions, steps=2 if chosen.quick else None)
    rows = []
    with nv.serve(
        "tiny-brain", cache=chosen.out / "pool"
    ) as source:  # made once, the same in all arms
        stand_ins(chosen.out / "stand-ins", source, recipe, 6 if chosen.quick else 12)
        files = real_files(chosen.out / "stand-ins")
        train_files, validation = files[2:], files[:2]
        for budget in budgets:
            for ratio in ratios:
                for seed in seeds:
                    train = blended(
                        train_files,
                        source,
                        recipe,
                        ratio=ratio,
                        seed=seed,
                        epoch_length=epoch_length(budget, len(train_files)),
                    )
                    train.record_to(chosen.out / budget / f"ratio-{ratio}" / f"seed-{seed}")
                    score = fit(train, validation, epochs=epochs, seed=seed)
                    report = train.report()
                    rows.append(
                        {
                            "budget": budget,
                            "asked": report.asked,
                            "delivered": report.delivered,
                            "samples": report.samples,
                            "volumes": report.distinct_volumes,
                            "used_again": report.reused,
                            "seed": seed,
                            "dice": round(score, 4),
                        }
                    )
    write(rows, chosen.out / "ratio_ablation.csv")
    print_table(rows)


def write(rows: list[dict[str, float | int | str]], path: Path) -> None:
    """One line for each run."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"written: {path}")


def print_table(rows: list[dict[str, float | int | str]]) -> None:
    """Mean and spread over seeds, and the difference to no synthetic data, paired by seed."""
    print(f"{'budget':<12}{'asked':>8}{'delivered':>11}{'volumes':>9}{'dice':>16}{'gain':>16}")
    for budget in dict.fromkeys(row["budget"] for row in rows):
        arms = [row for row in rows if row["budget"] == budget]
        base = {row["seed"]: float(row["dice"]) for row in arms if row["asked"] == 0}
        for asked in dict.fromkeys(row["asked"] for row in arms):
            runs = [row for row in arms if row["asked"] == asked]
            scores = [float(row["dice"]) for row in runs]
            gains = [float(row["dice"]) - base[row["seed"]] for row in runs]
            print(
                f"{budget:<12}{asked:>8.2f}{mean(float(r['delivered']) for r in runs):>11.2f}"
                f"{runs[0]['volumes']:>9}{spread(scores):>16}{spread(gains, sign='+'):>16}"
            )


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    return f"{mean(values):{sign}.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}"


if __name__ == "__main__":
    main()
