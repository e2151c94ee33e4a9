"""How long does it take from the start of a program to its first synthetic sample?

    python -m benchmarks.first_sample [--quick]

Each run is a fresh interpreter, timed until it has the voxels and has ended. `imports` is what any
program with torch and MONAI pays before it does anything.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.timing import quick_parser
from nvgen_aug.assembly import serve
from nvgen_aug.spec import VolumeSpec

IMPORTS = "import torch, monai.transforms"
IN_PROCESS = """
import nvgen_aug as nv, sys
with nv.open_source(sys.argv[1]) as source:
    source.fetch(nv.VolumeSpec(sys.argv[1], seed=1))
"""
SERVED = """
import nvgen_aug as nv, sys
with nv.serve(sys.argv[1]) as source:
    source.fetch(nv.VolumeSpec(sys.argv[1], seed=1))
"""
CACHED = """
import nvgen_aug as nv, sys
with nv.serve(sys.argv[1], cache=sys.argv[2]) as source:
    source.fetch(nv.VolumeSpec(sys.argv[1], seed=1))
"""
ATTACHED = """
import nvgen_aug as nv, sys
with nv.open_source(sys.argv[3]) as source:
    source.fetch(nv.VolumeSpec(sys.argv[1], seed=1))
"""
PROGRAMS = {
    "imports": IMPORTS,
    "in process": IN_PROCESS,
    "a server of its own": SERVED,
    "a server of its own, volume cached": CACHED,
    "a server that runs, volume in its memory": ATTACHED,
}


def main() -> None:
    """Measure, print the table, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--variant", default="tiny-brain")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    variant = "phantom" if arguments.quick else arguments.variant
    with (
        TemporaryDirectory(prefix="first-sample-") as folder,
        serve(variant, cache=Path(folder) / "cache") as source,
    ):
        source.fetch(VolumeSpec(variant, seed=1))
        words = [variant, f"{folder}/cache", source.address]
        entrants = [
            Entrant(
                name,
                lambda program=program: _run(program, words),  # type: ignore[misc]
                is_ours=name != "imports",
            )
            for name, program in PROGRAMS.items()
        ]
        standing = hold(
            f"`{variant}`, from nothing to one volume",
            entrants,
            rounds=1 if arguments.quick else arguments.rounds,
            memory=False,
        )
    conclude("first_sample", arguments, [standing], settings={"variant": variant})


def _run(program: str, words: list[str]) -> None:
    subprocess.run([sys.executable, "-c", program, *words], check=True)


if __name__ == "__main__":
    main()
