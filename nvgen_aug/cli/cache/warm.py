"""`nvgen-aug cache warm`: the volumes that a training run will ask for, made ahead of it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any
from typing import final

import typer

from ...errors import CacheError
from ...errors import GenerationError
from ...errors import SpecError
from ...recipe import Recipe
from ..meter import Meter
from ..meter import in_bytes
from ..terminal import hint
from ..terminal import interruptible
from ..terminal import say

if TYPE_CHECKING:
    from ...cache import VolumeCache
    from ...data.synthetic import SyntheticDataset
    from ...source import VolumeSource
    from ...spec import VolumeSpec


def warm(
    folder: Annotated[Path, typer.Argument(help="The cache folder; made if it is not there.")],
    num: Annotated[int, typer.Option(min=1, help="How many volumes, numbered from 0.")],
    variant: Annotated[
        str | None, typer.Option(help="Model; if not given, the one that the recipe names.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML or YAML file with the arguments of a Recipe.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed= of the SyntheticDataset.")] = 0,
    max_bytes: Annotated[
        str | None,
        typer.Option(help="Most that the cache may hold, such as '200 GB'; half of what is free."),
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Keep these volumes from being evicted, until `nvgen-aug cache unpin`.",
        ),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(help="Bucket to fill as well, and to take from: s3://BUCKET/PREFIX."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu or cuda:N.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; torch decides if not given.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Make them on all machines of a Ray cluster at once.")
    ] = False,
    actors: Annotated[
        int | None,
        typer.Option(min=1, help="With --ray: how many make volumes; one for each GPU or machine."),
    ] = None,
) -> None:
    """Make volumes ahead of training, so that it finds them on the disk.

    They are volumes 0 to N-1 of SyntheticDataset(source, recipe, seed=SEED), which a
    RandSyntheticVolumed with pool=N draws from. A SyntheticRealDataset takes them in
    windows of 64, or of two batches' synthetic share if that is more: round N up to
    whole windows.

    What is there is not made again, so a run that was stopped goes on. Where the cache
    is too small for all voxels, latents are kept, of which voxels are decoded on use.

    With --ray the folder has to be one that all machines reach by the same path.

    \b
    Example:
      nvgen-aug cache warm cache/ --variant tiny-brain --num 128 --recipe recipe.toml
      nvgen-aug cache warm /shared/cache --variant rflow-ct --num 9600 --ray --device cuda
    """
    wanted = Recipe.load(recipe) if recipe else Recipe()
    name = variant or wanted.variant
    if name is None:
        msg = "no model was named; add --variant tiny-brain, or a recipe that has a `variant`"
        raise SpecError(msg)
    if name.startswith("unix:"):
        msg = (
            f"a cache is warmed by a model of its own, got the address {name}; name its variant, "
            "and the folder that the server has as --cache"
        )
        raise SpecError(msg)
    if actors is not None and not ray:
        msg = f"--actors {actors} is for a cluster; add --ray, or leave it out"
        raise SpecError(msg)
    where = _Where(device, threads, ray, actors)
    with interruptible(f"what {folder} holds is whole, and the same command makes the rest"):
        _warm(folder, name, wanted, num, seed, max_bytes, pin, remote, where)


@final
@dataclass(frozen=True, slots=True)
class _Where:
    """On which device and machines volumes are made."""

    device: str
    threads: int | None
    ray: bool
    actors: int | None


@final
@dataclass(slots=True)
class Warming:
    """The volumes of a dataset on their way into a cache.

    Args:
        dataset: Whose volumes; its source keeps what it makes in the cache.
        cache: Where they are looked for.
        make: Has a volume made.
        hands: How many are made at a time.
        made: Volumes that the source was asked for.
        there: Volumes that were there, or whose latent was and no room for more.
    """

    dataset: SyntheticDataset
    cache: VolumeCache
    make: Callable[[VolumeSpec], object]
    hands: int = 1
    made: int = 0
    there: int = 0
    _is_full: bool | None = field(default=None, repr=False)

    def pin(self, name: str, num: int) -> None:
        """Keep the first `num` volumes and their latents from being evicted."""
        card = self.dataset.source.card
        specs = [self.dataset.spec(number) for number in range(num)]
        self.cache.pin(name, map(card.volume_key, specs), map(card.latent_key, specs))

    def outcomes(self, num: int) -> Iterator[bool | GenerationError]:
        """See to the first `num` volumes; for each whether it was made, or why it cannot be.

        Raises:
            CacheError: if the cache keeps neither its voxels nor its latent.
        """
        pool = ThreadPoolExecutor(self.hands)
        try:
            for done in as_completed([pool.submit(self._step, number) for number in range(num)]):
                try:
                    is_made = done.result()
                except GenerationError as error:
                    yield error
                    continue
                self.made += is_made
                self.there += not is_made
                yield is_made
        finally:
            pool.shutdown(cancel_futures=True)

    def _step(self, number: int) -> bool:
        """See to one volume; whether it had to be made or decoded.

        Raises:
            CacheError: if the cache keeps neither its voxels nor its latent.
        """
        spec = self.dataset.spec(number)
        if self.has_voxels(spec) or (self.has_latent(spec) and self._has_no_room()):
            return False
        self.make(spec)
        self._is_full = None
        if not self.has_voxels(spec):
            self._check_latents(spec, number)
        return True

    def has_voxels(self, spec: VolumeSpec) -> bool:
        """Whether the decoded volume is stored."""
        return self.cache.has_volume(self.dataset.source.card.volume_key(spec))

    def has_latent(self, spec: VolumeSpec) -> bool:
        """Whether the latent is stored, from which the volume can be decoded."""
        return self.cache.has_latent(self.dataset.source.card.latent_key(spec))

    def voxels(self, num: int) -> int:
        """How many of the first volumes are stored decoded."""
        return sum(self.has_voxels(self.dataset.spec(number)) for number in range(num))

    def _has_no_room(self) -> bool:
        """Whether one more volume would push another one out; looked up again after a change."""
        if self._is_full is None:
            stats = self.cache.stats()
            volumes = stats.by_kind["volumes"]
            each = volumes.bytes / volumes.entries if volumes.entries else 0
            assert stats.bound is not None
            self._is_full = stats.bytes + each > stats.bound
        return self._is_full

    def _check_latents(self, spec: VolumeSpec, number: int) -> None:
        """Stop where no voxels find room any more and latents would push out one another."""
        stats = self.cache.stats()
        latents = stats.by_kind["latents"]
        held = latents.bytes + stats.by_kind["blobs"].bytes
        each = latents.bytes / max(1, latents.entries)
        assert stats.bound is not None
        if not self.has_latent(spec) and self.hands > 1 and not stats.entries:
            msg = (
                f"volume {number} was made, and {self.cache.path} does not have it here; name a "
                "folder that every machine of the cluster reaches by the same path"
            )
            raise CacheError(msg)
        if not self.has_latent(spec) or held + each > stats.bound:
            msg = (
                f"cache {self.cache.path} is full with volume {number}: it may hold "
                f"{in_bytes(stats.bound)}, of which latents and uploads take {in_bytes(held)}; "
                "raise --max-bytes, free its disk, or ask for fewer with --num"
            )
            raise CacheError(msg)


def _warm(
    folder: Path,
    variant: str,
    recipe: Recipe,
    num: int,
    seed: int,
    max_bytes: str | None,
    pin: str | None,
    remote: str | None,
    where: _Where,
) -> None:
    # Heavy, and --help does without them.
    from ...assembly import load_generator
    from ...assembly import open_source
    from ...cache import VolumeCache
    from ...data.synthetic import SyntheticDataset
    from ...serving import Engine

    if where.threads is not None and not where.ray:
        import torch

        torch.set_num_threads(where.threads)
    with ExitStack() as stack:
        generator = None if where.ray else load_generator(variant, device=where.device)
        if generator is not None:
            recipe.check(generator.card)  # before a folder is made for what cannot be
        cache = stack.enter_context(VolumeCache(folder, max_bytes=max_bytes, remote=remote))
        source: VolumeSource
        if generator is None:
            of_cluster: dict[str, Any] = {"threads": where.threads, "actors": where.actors}
            far: Any = open_source(f"ray:{variant}", device=where.device, cache=cache, **of_cluster)
            stack.callback(far.close, 0.0)
            source, make, hands = far, far.store, 2 * far.makers
            say(f"{far.makers} actors make volumes")
        else:
            source = stack.enter_context(Engine(generator, cache))
            make, hands = source.fetch, 1
        dataset = SyntheticDataset(source, recipe, seed=seed)
        warming = Warming(dataset, cache, make, hands)
        bound = cache.stats().bound
        assert bound is not None
        say(f"{folder} may hold {in_bytes(bound)}")
        if pin is not None:
            warming.pin(pin, num)
        failures: list[GenerationError] = []
        with Meter(f"warming {folder}", num, "volume") as meter:
            for outcome in warming.outcomes(num):
                (meter.advance if outcome is True else meter.skip)()
                if isinstance(outcome, GenerationError):
                    failures.append(outcome)
        if len(failures) == num:
            raise failures[0]
        say(f"{_made(warming, where, remote)}; {folder} holds {in_bytes(cache.stats().bytes)}")
        if failures:
            say(f"{len(failures)} failed, where training uses a neighbour; first: {failures[0]}")
        latents = num - len(failures) - warming.voxels(num)
        if latents:
            hint(f"{latents} are kept as latents alone; with more --max-bytes voxels stay too")


def _made(warming: Warming, where: _Where, remote: str | None) -> str:
    if where.ray:  # the pool may work for others, too, so its figures say nothing of this run
        return f"{warming.made} made or decoded in the cluster, {warming.there} were there"
    stats = warming.dataset.source.stats()
    fetched = warming.made - stats.generated - stats.decoded
    return (
        f"{stats.generated} made, {stats.decoded} decoded from latents, "
        + (f"{fetched} fetched from {remote}, " if remote else "")
        + f"{warming.there} were there"
    )
