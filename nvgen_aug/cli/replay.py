"""`nvgen-aug replay`: a volume made again from its record, and compared."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import numpy as np
import typer

from ..crop import Crop
from ..crop import crop_from_text
from ..errors import DataError
from ..provenance import Provenance
from ..spec import VolumeSpec
from ..volume import Blob
from .record_file import RecordFile
from .terminal import answer
from .terminal import say
from .volume_files import read_array

if TYPE_CHECKING:
    from ..cache import VolumeCache
    from ..evaluation.replayed import Replayed
    from ..volume import SyntheticVolume

DIFFERENT = 3  # exit status; 1 is an error of the caller, 2 one of the arguments


def replay(
    record: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD",
            help="NIfTI file or its sidecar, a provenance as JSON (`-` reads it from stdin), or "
            "the folder of a run with --line.",
        ),
    ],
    line: Annotated[
        int | None, typer.Option(min=1, help="Line of the run's events.jsonl, a sample or an item.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds masks and images of the caller, and voxels to compare with."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="NIfTI label map that the volume was made for, if no cache holds it."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Bank that the mask of the volume was chosen from.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="NIfTI image that the volume follows, if no cache holds it."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads.", show_default="those of the record"),
    ] = None,
) -> None:
    """Make a volume again from its record, and say whether it is the same.

    The verdict is `same`, `same within rounding` (at most 1 unit on at most 0.1 % of the
    voxels, as another machine may give) or `different`, with the number of voxels.
    Nothing is taken from a cache: the model makes it anew.

    Compared are the voxels beside the record, those in --cache, or else the SHA-256 that
    the record names, which can only say `same` or `different`. A crop whose SHA-256 is
    another one is decoded alone, too, as it may have been where the record was written.

    Ends with status 0, with 3 if it is different, and with 1 if it cannot be made, for
    instance because the weights are others.

    \b
    Example:
      nvgen-aug replay volumes/tiny-brain_seed0_0000.nii.gz
      nvgen-aug replay runs/liver-30 --line 214
    """
    found = RecordFile.read(sys.stdin.read() if str(record) == "-" else record, line)
    from ..evaluation.replayed import DIFFERENT as IS_DIFFERENT
    from ..evaluation.replayed import SAME
    from ..evaluation.replayed import compare_digest

    provenance = found.provenance
    if provenance.source != "synthetic":
        msg = f"`{provenance.uid}` is a real case, and only synthetic volumes can be made again"
        raise DataError(msg)
    spec = VolumeSpec.from_json(provenance.spec)
    given = {
        "mask": _given("mask", spec.mask, mask, masks, cache),
        "image": _given("image", spec.image, image, None, cache),
    }
    made = _made(provenance, given, device, threads)
    result = _compared(made, found, cache)
    if result.verdict == IS_DIFFERENT and result.differing < 0 and made.crop is not None:
        say("its crop is decoded alone now, as from a latent in a cache")
        alone = compare_digest(
            _crop_alone(provenance, given, made.crop, device), provenance.content
        )
        result = alone if alone.verdict == SAME else result
    answer([str(result)])
    if result.verdict == IS_DIFFERENT:
        raise typer.Exit(DIFFERENT)


def _made(
    provenance: Provenance, given: Mapping[str, Blob | None], device: str, threads: int | None
) -> SyntheticVolume:
    from ..assembly import open_source  # heavy, and --help does without it

    spec = VolumeSpec.from_json(provenance.spec)
    recorded = re.search(r"\bcpu, (\d+) threads\b", provenance.generator)
    if threads is None and recorded and device == "cpu":
        threads = int(recorded.group(1))
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with open_source(provenance.variant, device=device) as source:
        card = source.card
        if card.weights_digest != provenance.weights_digest:
            msg = (
                f"the weights of `{provenance.variant}` here are {card.weights_digest[:16]}…, the "
                f"record was made with {provenance.weights_digest[:16]}…; install that version "
                f"({provenance.version or 'unknown'}) or those weights"
            )
            raise DataError(msg)
        if card.volume_key(spec) != provenance.uid:
            say(
                f"the generator has changed since: it was {provenance.generator}, and is "
                f"{card.generator_revision}"
            )
        for blob in given.values():
            if blob is not None:
                source.put(blob.array, blob.affine)
        return source.fetch(spec, _crop(provenance))


def _crop(provenance: Provenance) -> Crop | None:
    return crop_from_text(provenance.crop) if provenance.crop else None


def _crop_alone(
    provenance: Provenance, given: Mapping[str, Blob | None], crop: Crop, device: str
) -> SyntheticVolume:
    """The crop, decoded without the rest: equal to rounding, and with another SHA-256."""
    from ..assembly import load_generator  # heavy, and --help does without it

    generator = load_generator(provenance.variant, device=device)
    try:
        spec = VolumeSpec.from_json(provenance.spec)
        return generator.decode(generator.generate(spec, **given).latent, crop)
    finally:
        generator.close()


def _given(
    what: str, digest: str | None, file: Path | None, bank: Path | None, cache: Path | None
) -> Blob | None:
    """The caller's mask or image that the volume was made for, if it was made for one."""
    if digest is None:
        return None
    if file is not None:
        blob: Blob | None = Blob(*read_array(file, "label map" if what == "mask" else what))
        assert blob is not None
        if blob.digest() != digest:
            msg = (
                f"{file} is the {what} {blob.digest()[:16]}…, and the volume was made for "
                f"{digest[:16]}…; give that file, as it was then"
            )
            raise DataError(msg)
        return blob
    blob = None
    if cache is not None:
        with _opened(cache) as folder:
            blob = folder.get_blob(digest)
    if blob is None and bank is not None:
        from ..generators.maisi.masks.bank.bank import MaskBank  # heavy, and --help does without

        blob = MaskBank.open(bank).blob(digest)
    if blob is None:
        msg = (
            f"the volume was made for the caller's {what} {digest[:16]}…, which is not here; "
            f"--cache names the folder that holds it, --{what} its file"
        )
        if what == "mask":
            msg += ", or --masks the bank it was chosen from"
        raise DataError(msg)
    return blob


def _compared(made: SyntheticVolume, found: RecordFile, cache: Path | None) -> Replayed:
    from ..evaluation.replayed import compare
    from ..evaluation.replayed import compare_digest

    if found.files is not None:
        image, label = found.files.read()
        channels = image[None] if image.ndim == 3 else np.moveaxis(image, -1, 0)
        affine = found.files.affine()
        return compare(made, channels, None if label is None else label[None], affine)
    if cache is not None:
        with _opened(cache) as folder:
            held = folder.get_volume(found.provenance.uid, _crop(found.provenance))
        if held is not None:
            return compare(made, held.image, held.label, held.affine)
        say(f"{cache} does not hold the voxels, so their SHA-256 is compared")
    if not found.provenance.content:
        msg = (
            "the record names no voxels to compare with; take the line of a sample, the NIfTI "
            "file, or --cache with the folder that holds the volume"
        )
        raise DataError(msg)
    return compare_digest(made, found.provenance.content)


def _opened(cache: Path) -> VolumeCache:
    from ..cache import VolumeCache

    return VolumeCache(cache, read_only=True)
