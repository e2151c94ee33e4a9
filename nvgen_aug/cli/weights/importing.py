"""`nvgen-aug weights import`: the checkpoints of a variant, checked and converted once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from ...errors import SpecError
from ...errors import WeightsError
from ...errors import did_you_mean
from ..meter import in_bytes
from ..terminal import answer
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import say

if TYPE_CHECKING:
    from ...generators.maisi.installation import Step


def import_(
    variant: Annotated[str, typer.Argument(help="ddpm-ct, rflow-ct, rflow-mr or rflow-mr-brain.")],
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="Folder that NV-Generate downloaded to; else Hugging Face."),
    ] = None,
    revision: Annotated[
        list[str] | None,
        typer.Option(help="REPOSITORY@COMMIT to take; else the newest. Once for each repository."),
    ] = None,
    image_only: Annotated[
        bool, typer.Option("--image-only", help="Leave out the networks that draw masks.")
    ] = False,
) -> None:
    """Bring the released weights of a variant to this machine.

    The checkpoints are read without running anything in them, compared with the
    networks tensor by tensor, and written as safetensors with their SHA-256. What
    was done is kept if you stop it, and the same command goes on.

    From Hugging Face the newest commit is looked up once and written down; --revision
    repeats it on another machine. Some repositories ask you to accept a licence first.

    \b
    Example:
      nvgen-aug weights import rflow-ct
      nvgen-aug weights import rflow-mr --from ~/NV-Generate-CTMR
      nvgen-aug weights import rflow-ct --revision nvidia/NV-Generate-CT@COMMIT
    """
    # Heavy, and --help does without them.
    from ...assembly import weights_home
    from ...generators.maisi.installation import DOWNLOADS
    from ...generators.maisi.installation import import_weights
    from ...generators.maisi.releases import MASK_NETWORKS
    from ...generators.maisi.releases import SIZE_TABLE
    from ...generators.maisi.sources import FolderSource
    from ...generators.maisi.sources import HubSource
    from ...generators.maisi.variants import VARIANTS

    known = {name: v for name, v in VARIANTS.items() if v.release is not None}
    if variant not in known:
        if variant in VARIANTS:
            msg = f"the weights of `{variant}` come with this package; there is nothing to import"
            raise WeightsError(msg)
        msg = f"there is no variant `{variant}`; {did_you_mean(variant, known)}"
        raise SpecError(msg)
    if folder is not None and revision:
        msg = "--revision is for Hugging Face, and --from is a folder; give one of them"
        raise SpecError(msg)
    release = known[variant].release
    assert release is not None
    place = weights_home() / variant
    commits = dict(_commit(text) for text in revision or [])
    say(f"weights of `{variant}`: {release.licence.text()}")
    with interruptible(f"what is whole is kept in {place}; the same command goes on"):
        source = (
            HubSource(release, place / DOWNLOADS, commits)
            if folder is None
            else FolderSource(folder)
        )
        manifest = import_weights(
            known[variant],
            source,
            place,
            without=MASK_NETWORKS if image_only else (),
            on_step=_tell,
        )
    for repository, commit in manifest.revisions.items():
        say(f"{repository}@{commit}")
    has_table = manifest.part(SIZE_TABLE) is not None
    if release.size_table is not None and not (image_only or has_table):
        say(
            f"there was no `{release.size_table.path}`: organs without a size of their own get one "
            "drawn evenly, and not as a patient has them"
        )
    networks = len(manifest.parts) - has_table
    say(f"{networks} networks, {in_bytes(manifest.bytes)}, digest {manifest.digest}")
    hint(f"nvgen-aug generate {variant} --out volumes/")
    answer([str(place)])


def _commit(text: str) -> tuple[str, str]:
    repository, at, commit = text.partition("@")
    if not (repository and at and commit):
        msg = f"--revision must be REPOSITORY@COMMIT, got `{text}`"
        raise SpecError(msg)
    return repository, commit


def _tell(step: Step) -> None:
    say(f"{step.done + 1}/{step.total} {step.network}: {step.doing}")
