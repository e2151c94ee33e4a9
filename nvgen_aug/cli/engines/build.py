"""`nvgen-aug engines build`: TensorRT-RTX engines of a variant, with or without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import SpecError
from ...errors import did_you_mean
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import say
from .listing import show


def build(
    variant: Annotated[str, typer.Argument(help="Model, such as `tiny-brain` or `rflow-ct`.")],
    arch: Annotated[
        list[str], typer.Option(help="Kind of GPU: SM80, SM86, SM89, SM120; may be repeated.")
    ],
    size: Annotated[
        str | None, typer.Option(help="Voxels of the image, XxYxZ; the model's default.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="control, flow or decoder; may be repeated; control and flow if none."),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp16, bf16 or fp32.")] = "fp16",
    weights: Annotated[
        Path | None, typer.Option(help="Folder with the weights; those installed if none.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Try the build with weights that mean nothing.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where engines are kept; ~/.cache/nvgen-aug/engines.")
    ] = None,
) -> None:
    """Build the engines of a model for one size of volume, and keep them.

    No GPU is needed. A generator with backend="tensorrt-rtx" on a GPU of that kind then finds
    them by weights, size, precision and versions, and starts without building.

    \b
    Example:
      nvgen-aug engines build tiny-brain --arch SM89 --arch SM120
      nvgen-aug engines build rflow-ct --size 256x256x256 --arch SM80
      nvgen-aug engines build rflow-ct --size 128x128x128 --arch SM80 --random-weights
    """
    from ...assembly import weights_home  # heavy, as all below
    from ...generators.maisi.engines.building import build_missing
    from ...generators.maisi.engines.building import engine_key
    from ...generators.maisi.engines.building import random_parts
    from ...generators.maisi.engines.parts import PARTS
    from ...generators.maisi.engines.store import DEFAULT_FOLDER
    from ...generators.maisi.engines.store import EngineStore
    from ...generators.maisi.engines.tensorrt import load_library
    from ...generators.maisi.generator import MaisiGenerator
    from ...generators.maisi.placement import PRECISIONS
    from ...generators.maisi.variants import VARIANTS

    library = load_library("tensorrt-rtx")
    _check("variant", [variant], list(VARIANTS))
    _check("arch", arch, library.targets)
    _check("part", part or [], PARTS)
    _check("precision", [precision], list(PRECISIONS))
    kind = VARIANTS[variant]
    voxels = kind.size if size is None else _voxels(size, kind.legal_sizes)
    if random_weights:
        say(f"weights of `{variant}` are random: the engines compute noise and serve as a trial")
        parts, network = random_parts(kind, voxels, precision)
    else:
        generator = MaisiGenerator.load(variant, weights=weights, home=weights_home())
        parts, network = generator.parts(voxels, precision), generator.card.weights_digest
    store = EngineStore(folder or DEFAULT_FOLDER)
    chosen = [p for p in parts if p.name in (part or ("control", "flow"))]
    made = []
    with interruptible("engines that were built are kept; the same command builds the others"):
        for each in chosen:
            keys = [
                engine_key(
                    library,
                    each,
                    variant=variant,
                    network=network,
                    precision=precision,
                    target=target,
                )
                for target in dict.fromkeys(arch)
            ]
            made += build_missing(
                library,
                store,
                each,
                keys,
                weights="random" if random_weights else "given",
                report=say,
            )
    show(made)
    say(f"{len(made)} built, {len(chosen) * len(set(arch)) - len(made)} were there already")
    hint(f"nvgen-aug engines list --folder {store.folder}")


def _check(name: str, given: list[str], known: tuple[str, ...] | list[str]) -> None:
    for value in given:
        if value not in known:
            msg = f"{name} `{value}` is unknown; {did_you_mean(value, known)}"
            raise SpecError(msg)


def _voxels(text: str, legal: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() for p in parts):
        msg = f"size must be three numbers as in 256x256x128, got {text!r}"
        raise SpecError(msg)
    voxels = tuple(int(p) for p in parts)
    if any(n not in allowed for n, allowed in zip(voxels, legal, strict=True)):
        nearest = [
            min(allowed, key=lambda m, n=n: abs(m - n))  # type: ignore[misc]
            for n, allowed in zip(voxels, legal, strict=True)
        ]
        msg = f"this model cannot make size {text}; nearest is {'x'.join(map(str, nearest))}"
        raise SpecError(msg)
    return voxels
