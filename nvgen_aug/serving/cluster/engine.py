"""ClusterEngine: a volume source whose generators are actors of a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from dataclasses import replace
from threading import RLock
from time import monotonic
from time import sleep
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from typing import final

import ray
from ray.exceptions import GetTimeoutError
from ray.exceptions import RayActorError
from ray.exceptions import RayError

from ...card import VariantCard
from ...crop import Crop
from ...crop import CropRule
from ...errors import DeviceLost
from ...errors import FetchTimeout
from ...errors import GenerationError
from ...errors import ServerDied
from ...errors import SourceError
from ...errors import WrongProcess
from ...record import package_version
from ...source import SourceStats
from ...spec import VolumeSpec
from ...volume import SyntheticVolume
from .. import wire
from ..engine import checked_blob
from ..restarts import Patience
from ..retries import MOST_DEATHS
from ..servable import Servable
from ..tally import Health
from ..tally import Tally
from .joining import NAMESPACE
from .joining import connect
from .joining import makers_for
from .maker import check
from .maker import volume_of
from .pool import Pool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Requests of this process that are in the cluster at a time; more wait here.
MOST_AT_ONCE = 64
CALLS_AT_ONCE = 10_000
SECONDS_FOR_A_WORD = 60.0
SECONDS_TO_COME_AGAIN = 0.5


@final
class ClusterEngine(Servable):
    """The generators of a Ray cluster behind the seam, for the threads of this process.

    All programs that ask for the same variant, device, cache and options share one pool,
    in which each volume is made once. The pool belongs to the program that was first; when
    that ends, whoever still needs it starts it anew. Like an `Engine` it stays in its
    process, because Ray has threads there; `serve("ray:…")` is for loaders with workers.

    Ray trusts the machines of a cluster, and so does this: it unpickles what they say.

    Args:
        factory: `module:function` that returns the engine of one maker.
        arguments: Its keyword arguments, as JSON values.
        gpus: GPUs of each maker: 1, or 0 where the networks run on the CPU.
        cpus: CPU cores that are set aside for each maker.
        actors: How many makers; `None` is one for each GPU, or without GPUs for each machine.
        cluster: Address of the cluster, such as `"10.0.0.1:6379"`; `None` is the one that
            runs on this machine, or that `RAY_ADDRESS` names.
        patience: What is borne of a maker until it is replaced.
        timeout: Seconds to wait for one volume.

    Raises:
        ServerUnavailable: if no cluster can be reached.
        FetchTimeout: if no maker was ready in time.
        SourceError: if the cluster cannot hold so many makers.
        NvgenError: whatever the factory raised, in its own class.
    """

    __slots__ = (
        *("_card", "_cluster", "_in_cluster", "_is_closed", "_is_ours", "_lock", "_order"),
        *("_pid", "_pool", "_tally", "_threads", "_timeout"),
    )

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any],
        *,
        gpus: int = 0,
        cpus: int = 1,
        actors: int | None = None,
        cluster: str | None = None,
        patience: Patience | None = None,
        timeout: float = 600.0,
    ) -> None:
        patience = patience or Patience()
        self._pid = os.getpid()
        self._cluster = cluster
        self._timeout = timeout
        self._lock = RLock()
        self._in_cluster = 0
        self._is_closed = False
        self._tally = Tally()
        self._pool: Any = None
        self._is_ours = connect(cluster)
        makers = makers_for(gpus, cpus, actors)
        resources = {"num_gpus": gpus} if gpus else {"num_cpus": cpus}
        text = json.dumps(dict(arguments), sort_keys=True)
        self._order = (factory, text, makers, resources, patience.to_json())
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="nvgen-cluster")
        try:
            self._card = VariantCard.from_json(check(self._say("begin", patience.start))["card"])
        except BaseException:
            self.close(0.0)
            raise

    @property
    def card(self) -> VariantCard:
        """What is known of the variant."""
        return self._card

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults, and with a mask if the makers have a bank.

        Raises:
            SpecError: if the variant cannot make it, or no mask fits.
        """
        self._check_process()
        if not self._card.binds_mask(spec):
            return self._card.resolve(spec)
        said = check(self._say("resolve", self._timeout, spec.to_json()))
        return VolumeSpec.from_json(said["spec"])

    def submit(
        self, spec: VolumeSpec, crop: Crop | CropRule | None = None, *, client: Hashable = None
    ) -> Future[SyntheticVolume]:
        """Ask for a volume without waiting for it; those who ask are served in turn."""
        return self._threads.submit(self._volume, self.asked(spec, crop), crop, monotonic())

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it, in arrays of the caller's own."""
        return self.submit(spec, crop).result()

    def store(self, spec: VolumeSpec) -> None:
        """Have a volume made where its maker keeps it, without its voxels coming here.

        Raises:
            GenerationError, SourceError: as `fetch`.
        """
        self._made(self.resolve(spec), None, wants_voxels=False)

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Keep an array of the caller, `[X, Y, Z]`, at every maker."""
        self._check_process()
        blob = checked_blob(array, affine)
        said = check(self._say("put", self._timeout, blob.array, blob.affine.tolist()))
        digest: str = said["digest"]
        return digest

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Make these when nobody waits for anything else; the farthest are dropped if too many."""
        self._check_process()
        resolved = [self.resolve(spec) for spec in specs]
        texts = {self._card.volume_key(spec): spec.to_json() for spec in resolved}
        if texts:
            self._say("prefetch", SECONDS_FOR_A_WORD, texts)

    def stats(self) -> SourceStats:
        """What the makers that are up have done so far, for all programs."""
        known = {field.name for field in fields(SourceStats)}
        return SourceStats(**{name: n for name, n in self.figures().items() if name in known})

    def figures(self) -> dict[str, Any]:
        """The same and more: `makers` that are up, `machines` they are on, `deaths` so far."""
        self._check_process()
        said: dict[str, Any] = self._say("figures", SECONDS_FOR_A_WORD)
        return said

    @property
    def makers(self) -> int:
        """How many makers the pool was asked for."""
        return self._order[2]

    def health(self) -> Health:
        """How the cluster does, as far as this process asks it."""
        return replace(self._tally.health(), is_busy=self._in_cluster > 0)

    def prove(self) -> Future[None]:
        """Show that a maker can generate; it has made a canary before it was taken."""
        self._check_process()
        return self._threads.submit(self._proven)

    def when_device_lost(self, act: Callable[[DeviceLost], None]) -> None:
        """Never called: a maker that loses its device is replaced in the cluster."""

    def close(self, timeout: float | None = None) -> None:
        """Let the pool go; it ends if no other program uses it."""
        if os.getpid() != self._pid:
            return
        self._is_closed = True
        self._threads.shutdown(wait=timeout is None, cancel_futures=True)
        with self._lock:
            self._pool = None
            if self._is_ours:
                self._is_ours = False
                ray.shutdown()

    def __reduce__(self) -> NoReturn:
        msg = (
            "a ray: source cannot leave its process, so it cannot be sent to a DataLoader worker; "
            '`serve("ray:…")` it before the loader, or use num_workers=0'
        )
        raise WrongProcess(msg)

    def __deepcopy__(self, memo: dict[int, Any]) -> ClusterEngine:
        return self  # MONAI copies transforms, and what hangs on them, for each of its threads

    def _volume(
        self, spec: VolumeSpec, crop: Crop | CropRule | None, since: float
    ) -> SyntheticVolume:
        error = ""
        self._in_cluster += 1
        try:
            volume: SyntheticVolume = self._made(spec, crop, wants_voxels=True)
            return volume
        except (GenerationError, SourceError) as failed:
            error = str(failed)
            raise
        finally:
            self._in_cluster -= 1
            self._tally.begin()
            self._tally.end(error)
            self._tally.waited(monotonic() - since)

    def _made(self, spec: VolumeSpec, crop: Crop | CropRule | None, *, wants_voxels: bool) -> Any:
        key = self._card.volume_key(spec)
        question = (key, spec.to_json(), wire.crop_to_json(crop), wants_voxels)
        for _ in range(MOST_DEATHS):
            said, place = self._say("make", self._timeout, *question)
            check(said)
            if not wants_voxels:
                return None
            try:
                return volume_of(said, ray.get(place[0], timeout=self._timeout))
            except GetTimeoutError as error:
                raise FetchTimeout(self._late(f"volume {key[:12]}")) from error
            except RayError as error:  # its machine was lost with the voxels: they are made again
                lost = error
        msg = f"the voxels of volume {key[:12]} were lost {MOST_DEATHS} times on their way: {lost}"
        raise ServerDied(msg) from lost

    def _proven(self) -> None:
        check(self._say("begin", self._timeout))
        self._tally.begin()
        self._tally.end(is_volume=False)

    def _say(self, word: str, seconds: float, *arguments: Any) -> Any:
        """The pool's answer; a pool that is gone, with the program it belonged to, is replaced."""
        deadline = monotonic() + seconds
        for _ in range(MOST_DEATHS):
            answer = None
            try:
                answer = getattr(self._found(), word).remote(*arguments)
                return ray.get(answer, timeout=max(deadline - monotonic(), 0.001))
            except GetTimeoutError as error:
                ray.cancel(answer)
                raise FetchTimeout(self._late(f"`{word}`")) from error
            except RayActorError as error:
                gone = error
                with self._lock:
                    self._pool = None
                sleep(SECONDS_TO_COME_AGAIN)  # its name is free a little later
            except RayError as error:
                msg = f"the pool in the Ray cluster cannot answer `{word}`: {error}"
                raise SourceError(msg) from error
        msg = f"the pool in the Ray cluster died {MOST_DEATHS} times during `{word}`: {gone}"
        raise ServerDied(msg) from gone

    def _found(self) -> Any:
        with self._lock:
            if self._pool is None:
                self._is_ours |= connect(self._cluster)
                factory, arguments, *_ = self._order
                what = "\n".join((factory, arguments, package_version()))
                actor: Any = ray.remote(Pool)
                self._pool = actor.options(
                    name=f"pool-{hashlib.sha256(what.encode()).hexdigest()[:16]}",
                    namespace=NAMESPACE,
                    get_if_exists=True,
                    num_cpus=0,
                    max_concurrency=CALLS_AT_ONCE,
                ).remote(*self._order)
                self._pool.begin.remote()
            return self._pool

    def _late(self, what: str) -> str:
        return (
            f"no answer from the Ray cluster for {what} in time; see with `ray status` whether it "
            "has room for the makers, or give it more time with `timeout=`"
        )

    def _check_process(self) -> None:
        if self._is_closed:
            msg = "this ray: source is closed; open another one"
            raise SourceError(msg)
        if os.getpid() != self._pid:
            msg = (
                f"this ray: source was made in process {self._pid} and used in {os.getpid()}; "
                '`serve("ray:…")` it before the loader, or use num_workers=0'
            )
            raise WrongProcess(msg)
