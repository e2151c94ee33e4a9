"""A server and its cache in surroundings that few machines have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from nvgen_aug.assembly import serve
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.generators.phantom import PhantomGenerator

spec = VolumeSpec("phantom", seed=3, size=(64, 64, 64))
for _ in range(2):  # made, then read
    with serve("phantom", cache=sys.argv[1], max_bytes="1 GB") as source:
        volume = source.fetch(spec)
assert volume.digest() == PhantomGenerator().generate(spec).volume.digest()
print("right")
"""


def run(command: list[str], folder: Path, **environment: str | None) -> str:
    """What a program says that serves phantoms with a cache in a folder."""
    kept = {name: value for name, value in {**os.environ, **environment}.items() if value}
    done = subprocess.run(
        [*command, sys.executable, "-P", "-c", SERVE, str(folder)],
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_works_without_a_home_a_locale_or_a_mask_of_modes_and_in_a_folder_of_any_name(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "Möbius' cäche 心臓 with spaces"
    folder.parent.mkdir(exist_ok=True)
    strange = {"HOME": "/nonexistent", "LC_ALL": "C", "LANG": None}
    assert run(["sh", "-c", 'umask 000; exec "$@"', "sh"], folder, **strange) == "right"
    # Nobody else gets in, whatever zarr's own folders allow.
    assert folder.stat().st_mode & 0o077 == 0


def test_a_full_shared_memory_of_the_system_is_no_matter(tmp_path: Path) -> None:
    fill = "mount -t tmpfs -o size=4k full /dev/shm && ! head -c 8192 /dev/zero > /dev/shm/all 2>&-"
    can = (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "--mount", "sh", "-c", fill], capture_output=True, check=False
        ).returncode
    )
    if not can:
        pytest.skip("a mount namespace of its own is not allowed here")
    command = ["unshare", "--mount", "sh", "-c", f'{fill}; exec "$@"', "sh"]
    assert run(command, tmp_path / "cache") == "right"
