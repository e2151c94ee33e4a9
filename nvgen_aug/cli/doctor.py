"""`nvgen-aug doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import tempfile
from collections import Counter
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..record import PACKAGES
from ..record import package_version
from .terminal import answer
from .terminal import hint

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def doctor(
    cache: Annotated[
        Path | None, typer.Option(help="Cache folder to try; a temporary one if not given.")
    ] = None,
) -> None:
    """Print what this machine offers: versions, cores, threads, GPU, cache, process support.

    Exits with 1 if something is missing that generating or serving needs.

    \b
    Example:
      nvgen-aug doctor --cache cache/
    """
    missing: list[str] = []
    lines = [
        *_versions(missing),
        *_compute(),
        *_backends(),
        *_processes(missing),
        *_cache(cache, missing),
    ]
    lines.append(_row("licence", "code Apache-2.0; weights have their own, see the model card"))
    answer(lines)
    for step in missing:
        hint(step)
    if missing:
        raise typer.Exit(1)


def _row(name: str, value: object) -> str:
    return f"{name:<16} {value}"


def _versions(missing: list[str]) -> list[str]:
    lines = [_row("nvgen-aug", package_version()), _row("python", platform.python_version())]
    for name in PACKAGES:
        try:
            lines.append(_row(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            lines.append(_row(name, "missing"))
            missing.append(f"`{name}` is not installed: pip install nvgen-aug")
    return lines


def _compute() -> list[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    lines = [_row("cores", f"{cores} usable of {os.cpu_count()}")]
    if find_spec("torch") is None:
        return lines
    import torch  # heavy, and --help does without it

    lines.append(_row("torch threads", f"{torch.get_num_threads()} {' '.join(threads)}".strip()))
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            size = facts.total_memory / 2**30
            lines.append(_row(f"cuda:{index}", f"{facts.name}, {size:.0f} GiB"))
    else:
        lines.append(_row("gpu", "none that torch can use; models run on the CPU"))
    return lines


def _backends() -> list[str]:
    """What can run networks here, what can only be built for elsewhere, and what is built."""
    if find_spec("torch") is None:
        return []
    import torch  # heavy, as below

    from ..errors import BackendError
    from ..generators.maisi.engines.store import DEFAULT_FOLDER
    from ..generators.maisi.engines.store import EngineStore
    from ..generators.maisi.engines.tensorrt import load_library

    on_gpu = torch.cuda.is_available()
    compiler = shutil.which("g++") or shutil.which("clang++")
    lines = [_row("eager", "runs here")]
    if on_gpu:
        compiled = "runs here" if find_spec("triton") else "needs triton, which is not installed"
    else:
        compiled = f"runs here, with {compiler}" if compiler else "needs a C++ compiler, g++ or so"
    lines.append(_row("compiled", compiled))
    for backend in ("tensorrt", "tensorrt-rtx"):
        try:
            library = load_library(backend)
        except BackendError as error:
            lines.append(_row(backend, str(error).partition(";")[0]))
            continue
        targets = f"; builds for {' '.join(library.targets)}" if library.targets else ""
        runs = "does not run here: no GPU"
        if on_gpu:
            here = "SM{}{}".format(*torch.cuda.get_device_capability())
            is_target = not library.targets or here in library.targets
            runs = "runs here" if is_target else f"does not run here: {here} is not among its GPUs"
        lines.append(_row(backend, f"{library.version} {runs}{targets}"))
    store = EngineStore(DEFAULT_FOLDER)
    try:
        kinds = Counter(engine.key.target for engine in store.engines())
        built = ", ".join(f"{n} for {target}" for target, n in sorted(kinds.items())) or "none"
    except BackendError as error:
        built = str(error)
    lines.append(_row("engines", f"{built}, in {store.folder}"))
    return lines


def _processes(missing: list[str]) -> list[str]:
    default = multiprocessing.get_start_method(allow_none=True)
    default = default or multiprocessing.get_all_start_methods()[0]
    lines = [_row("start method", f"{default} of {multiprocessing.get_all_start_methods()}")]
    for name, offered in (("memfd", _has_memfd()), ("pidfd", _has_pidfd())):
        lines.append(_row(name, "yes" if offered else "no"))
        if not offered:
            missing.append(f"`serve` needs {name}, which is Linux's; use `open_source` in process")
    return lines


def _has_memfd() -> bool:
    try:
        os.close(os.memfd_create("nvgen-aug-doctor"))
    except (AttributeError, OSError):
        return False
    return True


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _cache(folder: Path | None, missing: list[str]) -> list[str]:
    place = folder or Path(tempfile.gettempdir())
    # The nearest folder that exists is the one that must let a new one be made in it.
    nearest = next(path for path in (place, *place.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        missing.append(f"choose a cache folder that can be written: {error.strerror}")
        return [_row("cache", f"{place} cannot be written")]
    facts = os.statvfs(nearest)
    free = facts.f_bavail * facts.f_frsize / 2**30
    return [_row("cache", f"{place} can be written, {free:.1f} GiB free")]
