"""Victims: what the soak kills, stops and starves: a training, and a client that looks on.

Each is a process that is started anew whenever it dies. What they did stands in files that
outlive them, and neither knows of the chaos around it: whatever goes wrong reaches them as
it reaches any training, as an error or not at all.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import hashlib
import json
import os
import select
import signal
import sys
import traceback
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any
from typing import NoReturn
from typing import final

import numpy as np
import torch
from monai.data import DataLoader
from monai.data import Dataset

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import ServerDied
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SourceError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.recipe import Recipe
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume
from tests.leftovers import our_descriptors

EDGE = 32
BATCH = 4
WORKERS = 2
EPOCH = 60
RATIO = 0.5
REAL_CASES = 9
# Room for about thirty volumes of this size, so that some are always evicted.
CACHE_BYTES = "3 MB"
SECONDS_PER_VOLUME = 0.02
# A generator that was stopped is replaced after so long.
SECONDS_TO_HANG = 10.0
SECONDS_TO_START = 60.0  # who is stopped before it is ready shows no other sign
SECONDS_FOR_A_BATCH = 60.0
LOOKED_AT = 40  # volumes that the client asks for again and again

RIGHT, WRONG, TURNED_AWAY = b".", b"x", b"-"


@final
class Scene:
    """The files of a soak.

    Args:
        root: The folder that they lie in.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = root / "disk"
        self.cache = self.disk / "cache"
        self.run = root / "run"
        self.temporary = root / "tmp"
        self.events = root / "events"
        self.ledger = root / "ledger.jsonl"
        self.descriptors = root / "descriptors.jsonl"
        self.mishaps = root / "mishaps.jsonl"
        self.address = root / "address"
        self.end = root / "end"
        self.looks = root / "looks"

    def log(self, who: str) -> Path:
        """What a process says before it dies."""
        return self.ledger.with_name(f"{who}.log")


def blend(source: VolumeSource, seed: int) -> SyntheticRealDataset:
    """The data of the training: half of it synthetic, each volume used twice."""
    recipe = Recipe(size=(EDGE, EDGE, EDGE), pathology={"lesion": {"count": [0, 2]}})
    return SyntheticRealDataset(
        Dataset([real_case(number) for number in range(REAL_CASES)]),
        SyntheticDataset(source, recipe, max_reuse=2, on_failure="raise", seed=seed),
        ratio=RATIO,
        epoch_length=EPOCH,
        seed=seed,
    )


def real_case(number: int) -> dict[str, torch.Tensor]:
    """A case that is never generated, with an image and a label."""
    rng = np.random.default_rng([number, 77])
    label = (rng.random((1, EDGE, EDGE, EDGE)) < 0.2).astype(np.float32)
    image = (1000 * label + rng.integers(0, 50, label.shape)).astype(np.float32)
    return {"image": torch.from_numpy(image), "label": torch.from_numpy(label)}


def digest(image: Any, label: Any) -> str:
    """What names the voxels of a sample, as float32."""
    sha = hashlib.sha256()
    for array in (image, label):
        sha.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return sha.hexdigest()


def train(scene: Scene, seed: int) -> None:
    """Train, that is load and note every sample, until told to end after an epoch."""
    while True:
        try:
            source = serve(
                "phantom",
                cache=scene.cache,
                max_bytes=CACHE_BYTES,
                hang_timeout=SECONDS_TO_HANG,
                start_timeout=SECONDS_TO_START,
                seconds_per_volume=SECONDS_PER_VOLUME,
            )
        except SourceError as error:  # struck before it could begin, and says so
            _note(scene, "new start", error)
            continue
        try:
            with closing(source):
                _publish(scene.address, source.address)
                while not _epochs(scene, source, seed):
                    pass
            return
        except (ServerDied, ServerUnavailable) as error:
            _note(scene, "new server", error)
        _note_descriptors(scene)


def _epochs(scene: Scene, source: VolumeSource, seed: int) -> bool:
    """Go on where the ledger ends; whether all is done, or a worker was lost on the way."""
    dataset = blend(source, seed)
    dataset.record_to(scene.events)
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=dataset.sampler(BATCH),
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="fork",
        timeout=SECONDS_FOR_A_BATCH,
    )
    state = last_state(scene.ledger)
    if state is not None:
        dataset.resume(state)
    epoch = dataset.progress.epoch
    done = 0 if state is None else int(state["samples_done"]) // BATCH
    try:
        while True:
            dataset.set_epoch(epoch)
            for batch in loader:
                done += 1
                _commit(scene, dataset, done, batch)
            if scene.end.exists():
                return True
            epoch, done = epoch + 1, 0
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, SourceError) or not _is_of_a_lost_worker(error):
            raise
        _note(scene, "new loader", error)
        return False


def _is_of_a_lost_worker(error: Exception) -> bool:
    """What torch says when a worker was killed, or when the pipe to it broke on the way."""
    return isinstance(error, (OSError, EOFError)) or "DataLoader" in str(error)


def _commit(scene: Scene, dataset: SyntheticRealDataset, done: int, batch: Any) -> None:
    """One step of training: the samples and the place after them, in one line or not at all."""
    samples = [
        [int(synthetic), digest(image, label)]
        for synthetic, image, label in zip(
            batch["synthetic"], batch["image"], batch["label"], strict=True
        )
    ]
    _append(scene.ledger, {"samples": samples, "state": dataset.checkpoint(done)})


def last_state(ledger: Path) -> dict[str, Any] | None:
    """Where the training stands by its last step."""
    lines = read_lines(ledger)
    return lines[-1]["state"] if lines else None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON values."""
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def _note(scene: Scene, what: str, error: Exception) -> None:
    text = str(error).strip().splitlines()
    last = text[-1] if text else ""
    _append(scene.mishaps, {"what": what, "error": type(error).__name__, "text": last[:300]})


def _note_descriptors(scene: Scene) -> None:
    """With source and loader closed, neither socket nor ring is open any more."""
    gc.collect()  # an error holds the frames that it came through
    for left in sorted(our_descriptors()):
        _append(scene.descriptors, {"what": f"{left} left open"})


def _append(path: Path, value: Any) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(value).encode() + b"\n")  # one write: a kill leaves all or nothing


def _publish(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def look_on(scene: Scene, seed: int) -> None:
    """Fetch volumes and parts of them without end, and compare each with the generator's own."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rng = np.random.default_rng([seed, os.getpid()])
    generator = PhantomGenerator()
    with scene.looks.open("ab", buffering=0) as looks:
        while not stop.wait(0.2):
            try:
                address = scene.address.read_text(encoding="utf-8")
                with open_source(address, cache=scene.cache, timeout=30.0) as source:
                    while not stop.wait(0.05):
                        looks.write(RIGHT if _is_right(source, generator, rng) else WRONG)
            except (ServerDied, ServerUnavailable, FileNotFoundError):
                looks.write(TURNED_AWAY)
            _note_descriptors(scene)


def _is_right(source: VolumeSource, generator: PhantomGenerator, rng: np.random.Generator) -> bool:
    seed, lesion = int(rng.integers(LOOKED_AT)), (("lesion", 12.0),)
    spec = VolumeSpec("phantom", seed=seed, size=(EDGE, EDGE, EDGE), pathology=lesion)
    whole = generator.generate(source.resolve(spec)).volume
    start = rng.integers(0, EDGE // 2, 3).tolist()
    rule = CropRule((8, 8, 8), centre=(("lesion", 1.0),), seed=int(rng.integers(1 << 30)))
    asked: Crop | CropRule | None = [None, Crop(tuple(start), (EDGE // 2,) * 3), rule][
        int(rng.integers(3))
    ]
    found = source.fetch(spec, asked)
    crop = asked
    if isinstance(asked, CropRule):
        crop = asked.resolve(whole.shape, whole.label, generator.card.vocabulary)
    assert not isinstance(crop, CropRule)
    expected = whole.cropped(crop)
    return _same(found, expected)


def _same(found: SyntheticVolume, expected: SyntheticVolume) -> bool:
    return found.digest() == expected.digest() and found.provenance == expected.provenance


def nursery(scene: Scene, seed: int) -> None:
    """Start a training or an onlooker for each line of stdin, and say on stdout how it ended.

    They are forked from here, where all libraries are loaded, so that whoever was killed is
    back within moments. This process runs no thread.
    """
    roles: dict[int, str] = {}
    told = b""
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    while True:
        if waiting.poll(50):
            # Not by a file of Python's: a second line would wait in its buffer, where nobody polls.
            more = os.read(0, 4096)
            if not more:
                return
            *lines, told = (told + more).split(b"\n")
            for role in (line.decode() for line in lines):
                pid = os.fork()
                if pid == 0:
                    _grow_up(scene, seed, role)
                roles[pid] = role
                print("started", role, pid, flush=True)
        while roles:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            print("ended", roles.pop(pid), os.waitstatus_to_exitcode(status), flush=True)


def _grow_up(scene: Scene, seed: int, role: str) -> NoReturn:
    code = 1
    try:
        log = os.open(scene.log(role), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for theirs, ours in ((null, 0), (log, 1), (log, 2)):
            os.dup2(theirs, ours)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        {"train": train, "look": look_on}[role](scene, seed)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # What Python does at the end of a process, a loader's last files among it.
        atexit._run_exitfuncs()
        os._exit(code)


def main() -> None:
    """What `python -m benchmarks.victims` does; only the soak starts it."""
    torch.set_num_threads(1)
    nursery(Scene(Path(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    main()
