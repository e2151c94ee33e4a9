"""Installation: a released variant on this machine, converted once and checked at every load."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Final
from typing import final

import torch
from safetensors.torch import save_file

from ...errors import WeightsError
from ...whole_file import replacing
from .checkpoint import fitted
from .checkpoint import read_checkpoint
from .checkpoint import scale_factor
from .checkpoint import state_dict
from .manifest import MANIFEST_FILE
from .manifest import Manifest
from .manifest import Part
from .manifest import file_digest
from .masks.size_table import read_size_table
from .networks import tensors_of
from .releases import CONTROL
from .releases import FLOW
from .releases import MASK_FLOW
from .releases import SIZE_TABLE
from .releases import Slot
from .sources import CheckpointSource
from .sources import Fetched
from .variants import VARIANTS
from .variants import Variant
from .weights import SCALE_FACTOR
from .weights import SIZES

DOWNLOADS: Final = ".downloads"
# What was converted so far; at the end its content becomes the manifest.
_PROGRESS: Final = ".progress.json"
_SCALED: Final = (FLOW, MASK_FLOW)


@final
@dataclass(frozen=True, slots=True)
class Step:
    """How far an import is: `done` of `total` files, and what is being done to which."""

    network: str
    doing: str
    done: int
    total: int


def import_weights(
    variant: Variant,
    source: CheckpointSource,
    folder: Path,
    *,
    without: Collection[str] = (),
    on_step: Callable[[Step], None] = lambda step: None,
) -> Manifest:
    """Convert the checkpoints of a variant to safetensors files in `folder`.

    A variant is installed once its manifest stands; until then nothing reads its files. What an
    interrupted import has converted is kept, and the next one goes on behind it. The table of sizes
    that belongs to networks which draw masks is taken along where the source has it.

    Args:
        variant: Which one.
        source: Where its checkpoints come from.
        folder: Where they go.
        without: Networks to leave out: those that draw masks.
        on_step: Told what is being done.

    Raises:
        WeightsError: A checkpoint is missing, malicious, damaged, or not that of the network, or
            the disk is too small.
    """
    if variant.release is None:
        msg = f"the weights of `{variant.name}` come with this package; there is nothing to import"
        raise WeightsError(msg)
    slots = [slot for slot in variant.release.slots if slot.network not in without]
    table = variant.release.size_table
    if table is not None and MASK_FLOW not in without and source.has(table):
        slots.append(table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        progress = _progress(folder, variant)
        for number, slot in enumerate(slots):

            def tell(doing: str, slot: Slot = slot, number: int = number) -> None:
                on_step(Step(slot.network, doing, number, len(slots)))

            part = progress.part(slot.network)
            if part is None or not _holds(folder, part, source.origin(slot)):
                _check_disk(folder, variant, slot, source.size(slot))
                tell("fetching")
                fetched = source.fetch(slot)
                tell("checking")
                digest = _checked_digest(fetched)
                if part is None or not _holds(folder, part, fetched.origin, digest):
                    tell("converting")
                    part = _convert(folder, variant, slot, fetched, digest)
                    progress = progress.with_part(part)
                    progress.write(folder / _PROGRESS)
                source.discard(fetched)
        parts = tuple(part for slot in slots if (part := progress.part(slot.network)))
        manifest = replace(progress, parts=parts, revisions=dict(source.revisions))
        manifest.write(folder / MANIFEST_FILE)
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror or error}; choose another NVGEN_AUG_HOME"
        raise WeightsError(msg) from error
    _tidy(folder, manifest)
    return manifest


def installed(home: Path) -> dict[str, Manifest | WeightsError]:
    """What is installed below a folder, by variant; an error for what cannot be read."""
    found: dict[str, Manifest | WeightsError] = {}
    for name, variant in VARIANTS.items():
        path = home / name / MANIFEST_FILE
        if variant.release is not None and path.is_file():
            try:
                found[name] = Manifest.read(path)
            except WeightsError as error:
                found[name] = error
    return found


def _progress(folder: Path, variant: Variant) -> Manifest:
    assert variant.release is not None
    fresh = Manifest(variant.name, variant.release.licence.text())
    for name in (_PROGRESS, MANIFEST_FILE):
        if (folder / name).is_file():
            try:
                found = Manifest.read(folder / name)
            except WeightsError:
                continue
            return replace(fresh, parts=found.parts)
    return fresh


def _holds(folder: Path, part: Part, origin: str, digest: str | None = None) -> bool:
    """Whether a part stands whole and was made of this checkpoint."""
    is_same = part.source_sha256 == digest if digest else bool(origin) and part.source == origin
    path = folder / part.file
    return is_same and path.is_file() and file_digest(path) == part.sha256


def _checked_digest(fetched: Fetched) -> str:
    digest = file_digest(fetched.path)
    if fetched.sha256 is not None and digest != fetched.sha256:
        msg = (
            f"{fetched.path} has the digest {digest}, but its publisher says {fetched.sha256}; "
            "delete it and import again"
        )
        raise WeightsError(msg)
    return digest


def _check_disk(folder: Path, variant: Variant, slot: Slot, download: int) -> None:
    converted = 0  # the table of sizes is nothing beside a network
    if slot.network != SIZE_TABLE:
        converted = 4 * sum(t.numel() for t in tensors_of(variant, slot.network).values())
    free = shutil.disk_usage(folder).free
    if free < download + converted:
        msg = (
            f"the {slot.network} needs {(download + converted) / 1e9:.2f} GB in {folder}, where "
            f"{free / 1e9:.2f} GB are free; make room, or choose another NVGEN_AUG_HOME"
        )
        raise WeightsError(msg)


def _convert(folder: Path, variant: Variant, slot: Slot, fetched: Fetched, digest: str) -> Part:
    if slot.network == SIZE_TABLE:
        tensors, ignored = {SIZES: torch.from_numpy(read_size_table(fetched.path))}, 0
    else:
        tensors, ignored = _tensors(variant, slot, fetched)
    # Named by its content, so that an earlier installation stays whole until the manifest changes.
    file = f"{slot.network}-{digest[:12]}.safetensors"
    with replacing(folder / file) as partial:
        save_file(tensors, partial)
    written = folder / file
    return Part(
        network=slot.network,
        file=file,
        sha256=file_digest(written),
        bytes=written.stat().st_size,
        source=fetched.origin,
        source_sha256=digest,
        ignored=ignored,
    )


def _tensors(variant: Variant, slot: Slot, fetched: Fetched) -> tuple[dict[str, torch.Tensor], int]:
    """What a checkpoint holds of its network, and how much of it is left out."""
    checkpoint = read_checkpoint(fetched.path)
    state, ignored = fitted(
        state_dict(checkpoint, fetched.path),
        tensors_of(variant, slot.network),
        slot.network,
        fetched.path,
        has_left_over=slot.network in (FLOW, CONTROL) and not variant.flow.attention_projection,
    )
    _check_values(state, slot.network, fetched.path)
    tensors = {key: value.detach().contiguous().clone() for key, value in state.items()}
    if slot.network in _SCALED:
        tensors[SCALE_FACTOR] = scale_factor(checkpoint, fetched.path)
    return tensors, ignored


def _check_values(state: Mapping[str, torch.Tensor], network: str, path: Path) -> None:
    for key, value in state.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            msg = f"{path}: `{key}` of the {network} must be finite numbers; fetch the file again"
            raise WeightsError(msg)


def _tidy(folder: Path, manifest: Manifest) -> None:
    """Take away what earlier imports left and nobody reads."""
    (folder / _PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(folder / DOWNLOADS, ignore_errors=True)
    kept = {part.file for part in manifest.parts}
    for path in folder.glob("*.safetensors"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
