"""Staged: parts of a benchmark in processes of their own, whose greatest memory is told.

With `--quick` they share this process, because its imports take longer than they do.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from argparse import ArgumentParser
from argparse import Namespace
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

# What a stage found, from its name and the folder that all stages share.
Stage = Callable[[str, Path], dict[str, Any]]


def add_arguments(parser: ArgumentParser) -> None:
    """`--threads`, and what a process of one stage is told."""
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--stage", help=SUPPRESS)
    parser.add_argument("--folder", type=Path, help=SUPPRESS)


def is_stage(arguments: Namespace, stage: Stage) -> bool:
    """Whether this process is for one stage, which has then been run and its numbers printed."""
    torch.set_num_threads(arguments.threads)
    if not arguments.stage:
        return False
    print(json.dumps(_measured(stage, arguments.stage, arguments.folder)))
    return True


def run_stages(
    module: str, stage: Stage, told: Sequence[str], arguments: Namespace
) -> dict[str, dict[str, Any]]:
    """The numbers of stages that run one after another in a folder of their own.

    Args:
        module: The benchmark.
        stage: What runs in each.
        told: What each is told.
        arguments: Those of this process, which the others get too.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="staged-") as folder:
        for name in told:
            if arguments.quick:
                found[name] = _measured(stage, name, Path(folder))
            else:
                found[name] = _in_a_process(module, name, folder, arguments.threads)
            print(name, found[name], flush=True)
    return found


def settings(arguments: Namespace) -> dict[str, Any]:
    """What a record says of how the stages ran."""
    return {"threads": arguments.threads, "load_average": list(os.getloadavg())}


def _in_a_process(module: str, name: str, folder: str, threads: int) -> dict[str, Any]:
    words = ["--stage", name, "--folder", folder, "--threads", str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measured(stage: Stage, name: str, folder: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    found = stage(name, folder)
    found["seconds"] = round(time.perf_counter() - begin, 2)
    # Linux tells it in KiB.
    found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return found
