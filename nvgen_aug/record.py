"""RunRecord: what was run, on which code, packages and device, with which numbers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from datetime import UTC
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from typing import final

from .whole_file import replacing

PACKAGES = ("torch", "monai", "zarr", "zarrs", "numpy", "scipy", "nibabel", "safetensors")


def package_version() -> str:
    """Version of this package as installed, or `"0+unknown"` from a bare source tree."""
    try:
        return metadata.version("nvgen-aug")
    except metadata.PackageNotFoundError:
        return "0+unknown"


@final
@dataclass(frozen=True, slots=True)
class RunRecord:
    """A result that can be traced: benchmarks, training and demos write it.

    Args:
        name: What was run, such as `"benchmarks.cache_read"`.
        settings: Arguments, as JSON values.
        numbers: Results, as JSON values; units are in the names.
        when: UTC time in ISO 8601.
        revision: Git revision of the code, with `+` if the tree had changes, or `""`.
        packages: Versions of the packages that matter.
        device: The machine in words: processor, cores, memory, GPU or none.
    """

    name: str
    settings: Mapping[str, Any]
    numbers: Mapping[str, Any]
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    revision: str = field(default_factory=lambda: _revision())
    packages: Mapping[str, str] = field(default_factory=lambda: _packages())
    device: Mapping[str, Any] = field(default_factory=lambda: _device())

    def to_json(self) -> str:
        """The record as indented JSON with a final newline."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write the record beside its final place and rename it there."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(self.to_json(), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: str | Path) -> RunRecord:
        """The record that `write` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


def _revision() -> str:
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ("git", "-C", str(here), *words), capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        # An installed copy may lie inside somebody else's repository: ask for this very file.
        if not git("ls-files", "--", "record.py"):
            return ""
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except OSError:
        return ""


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version(), "nvgen_aug": package_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _device() -> dict[str, Any]:
    device: dict[str, Any] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "gpu": "none",
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        device["gpu"] = torch.cuda.get_device_name(0)
    return device


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
