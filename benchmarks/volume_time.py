"""How long does one volume take, from a spec to voxels?

    python -m benchmarks.volume_time [--quick]

Times `Generator.generate` on distinct specs, and its two halves, the flow
(`latent`) and the whole decode (`decode`), in one process after a warm-up.
"""

from __future__ import annotations

from itertools import count

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.timing import quick_parser
from nvgen_aug.assembly import load_generator
from nvgen_aug.spec import VolumeSpec

BAR_SECONDS = 3.0


def main() -> None:
    """Measure, print the table and the bar, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--variant", default="tiny-brain")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    variant = "phantom" if arguments.quick else arguments.variant
    generator = load_generator(variant)
    seeds = count(1)

    def spec() -> VolumeSpec:
        return generator.card.resolve(VolumeSpec(variant, seed=next(seeds)))

    latent = generator.generate(spec()).latent
    entrants = [
        Entrant("volume", lambda: generator.generate(spec()), is_ours=True),
        Entrant("flow", lambda: generator.latent(spec()), is_ours=True),
        Entrant("whole decode", lambda: generator.decode(latent), is_ours=True),
    ]
    size = " × ".join(map(str, generator.card.default_size))
    standing = hold(
        f"`{variant}`, {size}, {generator.card.default_solver} at {generator.card.default_steps}",
        entrants,
        rounds=1 if arguments.quick else arguments.runs,
    )
    bars = [Bar("a volume: seconds", standing.seconds("volume"), BAR_SECONDS, True)]
    settings = {
        "variant": variant,
        "size": list(generator.card.default_size),
        "solver": generator.card.default_solver,
        "steps": generator.card.default_steps,
    }
    conclude("volume_time", arguments, [standing], bars, settings)


if __name__ == "__main__":
    main()
