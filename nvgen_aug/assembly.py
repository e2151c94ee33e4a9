"""Assembly: names of variants and addresses to things that work; it alone knows them all."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import cache as cache_forever
from importlib import import_module
from logging import getLogger
from pathlib import Path
from typing import Any

from .cache import CachedSource
from .cache import VolumeCache
from .errors import SpecError
from .errors import did_you_mean
from .generators.base import Generator
from .generators.maisi.variants import VARIANTS
from .generators.phantom import PhantomGenerator
from .serving import Client
from .serving import Engine
from .serving import Resident
from .serving import ServedSource
from .serving import serve_here
from .serving.connection import PREFIX
from .serving.far_engine import far_engine
from .serving.lifecycle import data_home
from .serving.making import Masks
from .serving.order import CLUSTER
from .serving.order import CachePath
from .serving.order import Order
from .serving.restarts import Patience
from .source import VolumeSource

SECONDS_FOR_A_VOLUME = 600.0
FACTORY = f"{__name__}:resident_engine"
BACKENDS = ("eager", "compiled", "tensorrt", "tensorrt-rtx")


def load_generator(
    variant: str, *, device: str = "cpu", backend: str = "eager", **options: Any
) -> Generator:
    """A loaded variant.

    Args:
        variant: `"tiny-brain"`, whose weights come along; `"ddpm-ct"`, `"rflow-ct"`,
            `"rflow-mr"` or `"rflow-mr-brain"` after `nvgen-aug weights import`; or
            `"phantom"`, which needs no weights.
        device: Where its networks run, such as `"cpu"` or `"cuda:1"`.
        backend: How they run: `"eager"`, `"compiled"`, `"tensorrt"` or `"tensorrt-rtx"`; a phantom
            has none to run.
        **options: Of the variant: `seconds_per_volume` of the phantom,
            `weights` (a folder, if they are not where `import` puts them), `precision` and
            `engines` of all others, as `MaisiGenerator` has them.

    Raises:
        SpecError: for an unknown variant, with close matches, an unknown backend or option.
        WeightsError: if the weights are missing or not those of the variant.
    """
    _check_variant(variant)
    if backend not in BACKENDS:
        msg = f"backend must be one of {BACKENDS}, got {backend!r}"
        raise SpecError(msg)
    try:
        loaded = _LOADERS[variant](variant, device, backend, options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        msg = f"`{variant}` cannot be loaded with the options {sorted(options)}: {error}"
        raise SpecError(msg) from error
    _tell_licence(variant)
    return loaded


def open_source(
    name_or_address: str,
    *,
    device: str = "cpu",
    cache: CachePath = None,
    max_bytes: int | str | None = None,
    masks: str | os.PathLike[str] | None = None,
    timeout: float = SECONDS_FOR_A_VOLUME,
    **options: Any,
) -> VolumeSource:
    """A volume source in this process, or the way to a server that runs already.

    Args:
        name_or_address: A variant; the address of a server, `"unix:/run/…"`; or `"ray:"` and a
            variant, which is made by actors of a Ray cluster, as docs/cluster.md has it.
        device: For a variant: where its networks run.
        cache: Where volumes are kept: a path, or a `VolumeCache`; read only for an address.
        max_bytes: Most bytes of a cache that is given as a path.
        masks: For a variant: a bank, as `nvgen-aug masks index` made it, of which a spec without
            a mask gets one.
        timeout: For an address or a cluster: seconds to wait for one volume.
        **options: For a variant: as `load_generator` has them; for a cluster also `actors`,
            `cluster` and `threads`, as `ClusterEngine` has them.

    Raises:
        SpecError: for an unknown variant, or an argument that only a variant can heed.
        DataError: for a bank that cannot be read.
        ServerUnavailable: on first use, if nobody answers at the address.
    """
    if name_or_address.startswith(CLUSTER):
        _check_variant(name_or_address.removeprefix(CLUSTER))
        order = Order.of(
            name_or_address,
            FACTORY,
            device=device,
            cache=cache,
            max_bytes=max_bytes,
            masks=masks,
            threads=options.pop("threads", None),
            timeout=timeout,
            options=options,
        )
        return far_engine(**order.each[0])
    if not name_or_address.startswith(PREFIX):
        _check_variant(name_or_address)
        bank = _bank(masks)  # before the weights, which take longer
        generator = load_generator(name_or_address, device=device, **options)
        return Engine(generator, _opened(cache, max_bytes), masks=bank)
    given = sorted(options)
    given += ["device"] if device != "cpu" else []
    given += ["max_bytes"] if max_bytes is not None else []
    given += ["masks"] if masks is not None else []
    if given:
        msg = f"{', '.join(given)}: for a variant only; a server was told when it started"
        raise SpecError(msg)
    return _behind_cache(Client(name_or_address, timeout), cache)


def serve(
    variant: str,
    *,
    device: str | Sequence[str] = "cpu",
    cache: CachePath = None,
    max_bytes: int | str | None = None,
    masks: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    timeout: float = SECONDS_FOR_A_VOLUME,
    start_timeout: float = 600.0,
    hang_timeout: float = 600.0,
    **options: Any,
) -> ServedSource:
    """A volume source whose generator lives in a new process, for `DataLoader` workers.

    There is one such process for all processes of this user on this machine that ask for
    the very same: the ranks of a distributed run each call `serve` and find their
    machine's. It ends with the last `close`, at the end of the last `with` block, or when
    the last caller's process ends, however that happens. Copies reach the same process. A
    generator that crashes or hangs is replaced, and what was asked of it is asked again.

    Args:
        variant: As in `load_generator`, or `"ray:"` before it: the process then asks a Ray
            cluster, and `open_source` says with which options.
        device: Where its networks run. A list of GPUs puts a generator on each, all behind
            one address; a volume is always made by the same one of them.
        cache: Where volumes are kept: a path, or a `VolumeCache`. The server writes it;
            this process and its workers read what is there without asking.
        max_bytes: Most bytes of a cache that is given as a path.
        masks: A bank, as in `open_source`; the server alone reads it.
        threads: Threads of the networks on a CPU; `None` is torch's own choice.
        timeout: Seconds to wait for one volume.
        start_timeout: Seconds until the process must be ready, at the first start and at each
            that follows a crash; nothing sooner ends one that is stopped meanwhile.
        hang_timeout: Seconds that the generator may make no progress, or its process give
            no sign of life, until it is replaced; five times its longest job if that is more.
        **options: As `load_generator` has them; JSON values.

    Raises:
        SpecError: for an unknown variant or option.
        WeightsError, CacheError, DataError: as the new process met them.
        ServerDied: if it ended without a word.
        SourceError: on a system that is not Linux.
    """
    _check_variant(variant.removeprefix(CLUSTER))
    order = Order.of(
        variant,
        FACTORY,
        device=device,
        cache=cache,
        max_bytes=max_bytes,
        masks=masks,
        threads=threads,
        timeout=timeout,
        options=options,
    )
    reader = cache.reader() if isinstance(cache, VolumeCache) else cache
    patience = Patience(start=start_timeout, hang=hang_timeout)
    resident = Resident(order.factory, order.each, patience, is_shared=True)
    _tell_licence(variant.removeprefix(CLUSTER))
    try:
        return ServedSource(resident, _behind_cache(Client(resident.address, timeout), reader))
    except BaseException:
        resident.close()
        raise


def serve_forever(
    variant: str,
    *,
    address: str | None = None,
    device: str | Sequence[str] = "cpu",
    cache: str | os.PathLike[str] | None = None,
    max_bytes: int | str | None = None,
    shared: Sequence[str | os.PathLike[str]] = (),
    remote: str | None = None,
    masks: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    hang_timeout: float = 600.0,
    on_ready: Callable[[str], None] = lambda address: None,
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM, from a child of this process that is replaced if it dies.

    Args:
        variant, device, cache, max_bytes, masks, threads, hang_timeout, **options: As in
            `serve`.
        shared: Other caches to read from, as `VolumeCache` takes them.
        remote: A bucket behind the cache, likewise.
        address: `"unix:"` and a path in a directory that is private or does not exist
            yet; `None` makes a directory.
        on_ready: Called with the address once clients can connect.

    Raises:
        SourceError: if another server has that address, or its directory is not private.
    """
    _check_variant(variant.removeprefix(CLUSTER))
    order = Order.of(
        variant,
        FACTORY,
        device=device,
        cache=cache,
        max_bytes=max_bytes,
        masks=masks,
        threads=threads,
        timeout=SECONDS_FOR_A_VOLUME,
        options=options,
    )
    order = order.behind(shared, remote)
    serve_here(
        order.factory,
        order.each,
        address=address,
        patience=Patience(hang=hang_timeout),
        on_ready=on_ready,
    )


def resident_engine(
    *,
    variant: str,
    device: str,
    cache: str | None,
    max_bytes: int | str | None,
    read_only: bool,
    shared: Sequence[str | os.PathLike[str]],
    remote: tuple[str, Mapping[str, Any]] | None,
    masks: str | None,
    threads: int | None,
    options: Mapping[str, Any],
) -> Engine:
    """The engine of a resident process; `serve` names this function to it."""
    if threads is not None:
        # Voxels may depend on it in the last bit, so a resident process can be told.
        import_module("torch").set_num_threads(threads)
    opened = None
    if cache is not None:
        url, of_remote = remote or (None, {})
        opened = VolumeCache(
            cache,
            max_bytes=max_bytes,
            read_only=read_only,
            shared=shared,
            remote=url,
            remote_options=of_remote,
        )
    bank = _bank(masks)
    return Engine(load_generator(variant, device=device, **options), opened, masks=bank)


@cache_forever
def _tell_licence(variant: str) -> None:
    """Once in a process, for weights that are not this package's own."""
    known = VARIANTS.get(variant)
    if known is not None and known.release is not None:
        # Shown even where nobody has set logging up.
        getLogger(__name__).warning("weights of `%s`: %s", variant, known.licence.text())


def weights_home() -> Path:
    """Folder with a folder for each variant whose weights were imported."""
    return data_home() / "weights"


def _check_variant(variant: str) -> None:
    if variant not in _LOADERS:
        msg = f"there is no variant `{variant}`; {did_you_mean(variant, _LOADERS)}"
        raise SpecError(msg)


def _phantom(variant: str, device: str, backend: str, options: Mapping[str, Any]) -> Generator:
    return PhantomGenerator(**options)


def _maisi(variant: str, device: str, backend: str, options: Mapping[str, Any]) -> Generator:
    # By name, so that a phantom's process starts without torch and its gigabytes.
    generator = import_module(".generators.maisi.generator", __package__).MaisiGenerator
    loaded: Generator = generator.load(
        variant, device=device, backend=backend, home=weights_home(), **options
    )
    return loaded


_LOADERS: Mapping[str, Callable[[str, str, str, Mapping[str, Any]], Generator]] = {
    "phantom": _phantom,
    **dict.fromkeys(VARIANTS, _maisi),
}


def _opened(cache: CachePath, max_bytes: int | str | None) -> VolumeCache | None:
    if cache is None or isinstance(cache, VolumeCache):
        return cache
    return VolumeCache(cache, max_bytes=max_bytes)


def _behind_cache(source: VolumeSource, cache: CachePath) -> VolumeSource:
    if cache is None:
        return source
    reader = cache if isinstance(cache, VolumeCache) else VolumeCache(cache, read_only=True)
    return CachedSource(source, reader)


def _bank(path: str | os.PathLike[str] | None) -> Masks | None:
    if path is None:
        return None
    bank = import_module(".generators.maisi.masks.bank.bank", __package__).MaskBank
    opened: Masks = bank.open(path)
    return opened
