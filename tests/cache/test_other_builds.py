"""A cache of one build of the package, codec pipeline and start method is read by another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nvgen_aug

PYTHON = "zarr.core.codec_pipeline.BatchedCodecPipeline"
ZARRS = "zarrs.ZarrsCodecPipeline"

# Writes volumes, or says what it reads, in a child of a start method.
PROGRAM = """
import json, multiprocessing, sys
import nvgen_aug
from nvgen_aug.cache import VolumeCache
from nvgen_aug.cache import arrays
from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.record import package_version
from nvgen_aug.spec import VolumeSpec

SIZES = ((16, 20, 24), (80, 72, 64))


def work(role, cache, pipeline, sent):
    arrays._PIPELINE = pipeline
    generator = PhantomGenerator()
    said = {"version": package_version(), "package": nvgen_aug.__file__}
    store = VolumeCache(cache, max_bytes="1 GB") if role == "write" else None
    reader = VolumeCache(cache, read_only=True)
    for seed, size in enumerate(SIZES):
        spec = generator.card.resolve(VolumeSpec("phantom", seed=seed, size=size))
        key, latent_key = generator.card.volume_key(spec), generator.card.latent_key(spec)
        if store is not None:
            made = generator.generate(spec)
            store.put_volume(key, made.volume)
            store.put_latent(latent_key, made.latent)
        volume, latent = reader.get_volume(key), reader.get_latent(latent_key)
        part = reader.get_volume(key, Crop((4, 5, 6), (8, 8, 8)))
        said[key] = [volume.digest(), part.digest(), volume.provenance.to_json()]
        said[latent_key] = [latent.tensor.tobytes().hex(), latent.provenance.to_json()]
    sent.put(said)


if __name__ == "__main__":
    role, cache, pipeline, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=work, args=(role, cache, pipeline, queue))
    child.start()
    print(json.dumps(queue.get()))
    child.join()
"""


@pytest.fixture(scope="module")
def other_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that says of itself that it is of a later version."""
    root = tmp_path_factory.mktemp("build")
    weights = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(Path(nvgen_aug.__file__).parent, root / "nvgen_aug", ignore=weights)
    record = root / "nvgen_aug" / "record.py"
    text = record.read_text()
    changed = text.replace('return metadata.version("nvgen-aug")', 'return "99.0"')
    assert changed != text
    record.write_text(changed)
    return root


def said(build: Path, program: Path, *words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-P", str(program), *words],
        env={**os.environ, "PYTHONPATH": str(build)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, object] = json.loads(done.stdout)
    assert str(values.pop("package")).startswith(str(build))
    return values


@pytest.mark.parametrize("is_ours_first", [True, False])
def test_what_one_build_wrote_another_reads_with_another_pipeline_and_start_method(
    tmp_path: Path, other_build: Path, is_ours_first: bool
) -> None:
    pytest.importorskip("zarrs")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ours, cache = Path(nvgen_aug.__file__).parents[1], str(tmp_path / "cache")
    first, second = (ours, other_build) if is_ours_first else (other_build, ours)
    one, two = (ZARRS, PYTHON) if is_ours_first else (PYTHON, ZARRS)
    written = said(first, program, "write", cache, one, "spawn")
    read = said(second, program, "read", cache, two, "fork")
    assert {written.pop("version"), read.pop("version")} == {
        nvgen_aug.record.package_version(),
        "99.0",
    }
    assert read == written
    assert len(read) == 4
