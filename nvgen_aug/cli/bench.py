"""`nvgen-aug bench`: the benchmarks of a clone, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from ..errors import did_you_mean
from .suite import FOLDER
from .suite import Suite
from .terminal import answer
from .terminal import fail
from .terminal import hint
from .terminal import say

PACKAGE = Path(__file__).parent.parent


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Which; all if none is named.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="Small runs that prove that all works, two at a time; no records.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="Print each benchmark with its question, and leave.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Where networks run, such as cuda; only what has networks is measured."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the records; benchmarks/results if not given.")
    ] = None,
) -> None:
    """Measure this package beside its peers, on this machine, in a clone of the repository.

    Each benchmark runs ours and the others in turns, prints a table, and writes a record. Set
    NV_GENERATE_CTMR to a checkout of NV-Generate-CTMR, and its own code runs beside ours.

    \b
    Example:
      nvgen-aug bench --list
      nvgen-aug bench hand_over cache_read
      nvgen-aug bench --device cuda
    """
    suite = Suite.find(PACKAGE)
    unknown = [name for name in names or () if name not in suite.questions]
    if unknown:
        msg = f"there is no benchmark `{unknown[0]}`; {did_you_mean(unknown[0], suite.questions)}"
        raise typer.BadParameter(msg, param_hint="NAME")
    if listed:
        width = max(map(len, suite.questions))
        answer([f"{name:{width}}  {question}" for name, question in suite.questions.items()])
        return
    if device is not None:
        chosen = names or suite.with_device
        without = [name for name in chosen if name not in suite.with_device]
        if without:
            msg = f"`{without[0]}` has no networks; --device is for {', '.join(suite.with_device)}"
            raise typer.BadParameter(msg, param_hint="--device")
    else:
        chosen = names or list(suite.questions)
    options = ["--quick"] if quick else []
    options += [] if device is None else ["--device", device]
    options += [] if out is None else ["--out", str(out.absolute())]
    if quick and len(chosen) > 1:
        ran = _two_at_a_time(suite, chosen, options)
    else:
        ran = [_run(suite, name, options) for name in chosen]
    failed = [name for name, is_fine in zip(chosen, ran, strict=True) if not is_fine]
    if failed:
        fail(f"these benchmarks failed: {', '.join(failed)}")
        hint(f"what went wrong stands above; once more: nvgen-aug bench {' '.join(failed)}")
        raise typer.Exit(1)


def _two_at_a_time(suite: Suite, names: Sequence[str], options: list[str]) -> list[bool]:
    """Whether each was fine; nothing is timed, so that they may disturb each other."""
    with ThreadPoolExecutor(2) as pool:
        try:
            return list(pool.map(lambda name: _run_aside(suite, name, options), names))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C begins none that wait
            raise


def _run(suite: Suite, name: str, options: list[str]) -> bool:
    say(f"{name}: {suite.questions[name]}")
    begin = monotonic()
    done = subprocess.run(_command(name, options), cwd=suite.root, check=False)
    say(f"{name}: {monotonic() - begin:.0f} s")
    return done.returncode == 0


def _run_aside(suite: Suite, name: str, options: list[str]) -> bool:
    """Run one while another runs: what it prints comes in one piece, or two would be mixed."""
    begin = monotonic()
    done = subprocess.run(
        _command(name, options),
        cwd=suite.root,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    answer([f"{name}: {suite.questions[name]}", done.stdout.rstrip()])
    say(f"{name}: {monotonic() - begin:.0f} s")
    return done.returncode == 0


def _command(name: str, options: list[str]) -> list[str]:
    # A process each: threads, pinned cores and memory of one must not reach the next.
    return [sys.executable, "-m", f"{FOLDER}.{name}", *options]
