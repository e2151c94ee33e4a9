"""`nvgen-aug serve`: a resident generator that other programs reach by its address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import answer
from .terminal import hint
from .terminal import interruptible
from .terminal import say


def serve(
    variant: Annotated[str, typer.Argument(help="Model, `phantom` among them.")],
    device: Annotated[
        str, typer.Option(help="Where the model runs: cpu, cuda:N, or several: cuda:0,cuda:1.")
    ] = "cpu",
    backend: Annotated[
        str, typer.Option(help="How networks run: eager, compiled, tensorrt or tensorrt-rtx.")
    ] = "eager",
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or bf16; fp16 on a GPU if not given.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps volumes between runs.")
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="Most that the cache may hold, such as '200 GB'.")
    ] = None,
    shared: Annotated[
        list[Path] | None,
        typer.Option(help="Cache to read from, and never to write; as often as you like."),
    ] = None,
    remote: Annotated[
        str | None, typer.Option(help="Bucket behind the cache, such as s3://BUCKET/PREFIX.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Bank from which volumes without a mask get one.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="unix:PATH of the socket; a new one if not given.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; torch decides if not given.")
    ] = None,
    hang_timeout: Annotated[
        float,
        typer.Option(min=1, help="Seconds without progress until the generator is replaced."),
    ] = 600.0,
) -> None:
    """Keep a model loaded and answer programs on this machine until Ctrl-C.

    The address goes to stdout once the model has shown that it works. It runs in a child
    process, which is replaced if it crashes or hangs; programs that wait go on waiting.

    \b
    Example:
      nvgen-aug serve tiny-brain --cache cache/ --address unix:run/tiny-brain.sock
    """
    from ..assembly import serve_forever  # heavy, and --help does without it

    def ready(where: str) -> None:
        answer([where])
        hint(f'nvgen_aug.open_source("{where}") in Python; Ctrl-C here ends it')
        hint(f"`nvgen-aug status {where}` in another terminal shows how it does")

    say(f"loading `{variant}`")
    with interruptible("nothing was served yet; the same command starts again"):
        serve_forever(
            variant,
            address=address,
            device=device.split(","),
            cache=cache,
            max_bytes=max_bytes,
            shared=shared or (),
            remote=remote,
            masks=masks,
            threads=threads,
            hang_timeout=hang_timeout,
            on_ready=ready,
            backend=backend,
            **({} if precision is None else {"precision": precision}),
        )
    say("stopped; what the cache holds is whole, and the same command goes on with it")
