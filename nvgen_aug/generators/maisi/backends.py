"""Backends: how networks run. Each is compared with plain torch before its results are used.

`eager` is plain torch. `compiled` is torch.compile with fixed shapes, on a GPU with CUDA graphs.
`tensorrt` and `tensorrt-rtx` build an engine for every shape and keep it in an `EngineStore`.
"""

from __future__ import annotations

import copy
import logging
from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import Final
from typing import final

import torch
from torch import nn

from ...errors import BackendError
from ...errors import SpecError
from ...errors import did_you_mean
from .engines.building import build_missing
from .engines.building import engine_key
from .engines.parts import Part
from .engines.store import EngineStore
from .engines.tensorrt import EngineRun
from .engines.tensorrt import load_library
from .placement import relative_error

BACKENDS: Final = ("eager", "compiled", "tensorrt", "tensorrt-rtx")

# Of the RMS.
LIMITS: Final = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 1e-2}

Run = Callable[..., Any]

_log = logging.getLogger(__name__)


class Backend(ABC):
    """A way to run networks."""

    name: str

    @abstractmethod
    def prepare(self, part: str, network: nn.Module, inputs: Sequence[torch.Tensor]) -> Run:
        """The network, made ready for inputs of these shapes and types.

        Raises:
            BackendError: It cannot be made ready.
        """


@final
class Eager(Backend):
    """torch's own operators, one after the other."""

    name = "eager"

    def prepare(self, part: str, network: nn.Module, inputs: Sequence[torch.Tensor]) -> Run:
        return network


@final
class Compiled(Backend):
    """torch.compile with fixed shapes; on a GPU its launches are recorded and replayed.

    What Inductor makes stays in Inductor's own cache folder, keyed by itself.
    """

    name = "compiled"

    def prepare(self, part: str, network: nn.Module, inputs: Sequence[torch.Tensor]) -> Run:
        on_gpu = inputs[0].is_cuda
        run = torch.compile(
            network, fullgraph=True, dynamic=False, mode="reduce-overhead" if on_gpu else None
        )
        try:
            run(*inputs)
        except Exception as error:  # of any kind: dynamo, inductor and the compiler have their own
            what = str(error).strip().splitlines() or [type(error).__name__]
            msg = f"torch.compile cannot make `{part}` ready on {inputs[0].device}: {what[0]}"
            if not on_gpu:
                msg += " (on a processor it needs a C++ compiler such as `g++`)"
            msg += "; use backend='eager'"
            raise BackendError(msg) from error
        if not on_gpu:
            return run

        def replayed(*given: torch.Tensor) -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            found = run(*given)
            # The next replay overwrites them, and a solver keeps the velocity before.
            return (
                found.clone()
                if isinstance(found, torch.Tensor)
                else tuple(f.clone() for f in found)
            )

        return replayed


@final
class TensorRt(Backend):
    """Engines of TensorRT or TensorRT-RTX, built when a shape is first asked for, then kept.

    Args:
        name: `tensorrt` or `tensorrt-rtx`.
        device: A GPU.
        store: Where engines are kept.
        variant: Name of the member of the family.
        network: SHA-256 that names its weights.
        precision: Of weights and inputs.

    Raises:
        BackendError: The library is missing, or the device is no GPU.
    """

    def __init__(
        self,
        name: str,
        *,
        device: torch.device,
        store: EngineStore,
        variant: str,
        network: str,
        precision: str,
    ) -> None:
        self.name = name
        if device.type != "cuda":
            msg = (
                f"backend `{name}` runs on a GPU, got device {str(device)!r}; use 'eager' or "
                "'compiled' here, or build engines for another machine: nvgen-aug engines build"
            )
            raise BackendError(msg)
        self._library = load_library(name)
        self._device = device
        self._store = store
        self._variant, self._network, self._precision = variant, network, precision

    def prepare(self, part: str, network: nn.Module, inputs: Sequence[torch.Tensor]) -> Run:
        major, minor = torch.cuda.get_device_capability(self._device)
        wanted = Part(part, network, tuple(inputs))
        key = engine_key(
            self._library,
            wanted,
            variant=self._variant,
            network=self._network,
            precision=self._precision,
            target=f"SM{major}{minor}",
        )
        build_missing(
            self._library,
            self._store,
            wanted,
            [key],
            report=lambda text: _log.warning("%s of %s", text, self._variant),
        )
        content = self._store.get(key)
        assert content is not None
        return EngineRun(self._library, content, self._device)


def open_backend(
    name: str,
    *,
    device: torch.device,
    store: EngineStore,
    variant: str,
    network: str,
    precision: str,
) -> Backend:
    """The backend of a name; the arguments are those of `TensorRt`.

    Raises:
        SpecError: There is no such backend.
        BackendError: It cannot be used here.
    """
    if name == "eager":
        return Eager()
    if name == "compiled":
        return Compiled()
    if name in BACKENDS:
        return TensorRt(
            name,
            device=device,
            store=store,
            variant=variant,
            network=network,
            precision=precision,
        )
    msg = f"there is no backend `{name}`; {did_you_mean(name, BACKENDS)}"
    raise SpecError(msg)


@final
class BackedNetwork:
    """A network that a backend runs, at each shape only after its result was compared with torch's.

    The first shape decides: what fails there is an error. At a later one the network falls back to
    torch, with a warning, so that a long run goes on.

    Args:
        part: Name of the network, for messages.
        network: The network itself.
        backend: What shall run it.
        precision: Decides how far results may differ.
    """

    def __init__(self, part: str, network: nn.Module, backend: Backend, precision: str) -> None:
        self.part = part
        self._network = network
        self._backend = backend
        self._limit = LIMITS[precision]
        self._ready: dict[tuple[Any, ...], Run] = {}

    def __call__(self, *inputs: torch.Tensor) -> Any:
        if isinstance(self._backend, Eager):
            return self._network(*inputs)
        shape = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        run = self._ready.get(shape)
        if run is None:
            run = self._ready[shape] = self._prepared(inputs)
        return run(*inputs)

    def _prepared(self, inputs: Sequence[torch.Tensor]) -> Run:
        shapes = [tuple(tensor.shape) for tensor in inputs[:1]]
        _log.info("preparing %s by %s for %s", self.part, self._backend.name, shapes)
        try:
            run = self._backend.prepare(self.part, self._network, inputs)
            self._compare(run, inputs)
        except BackendError as error:
            if not self._ready:
                raise
            _log.warning("%s runs by torch's own operators for %s: %s", self.part, shapes, error)
            return self._network
        return run

    def _compare(self, run: Run, inputs: Sequence[torch.Tensor]) -> None:
        expected, found = _listed(self._network(*inputs)), _listed(run(*inputs))
        worst = _worst(found, expected)
        if not worst <= self._limit and expected[0].dtype == torch.bfloat16:
            worst = self._excess(found, expected, inputs)
        if not worst <= self._limit:
            msg = (
                f"backend `{self._backend.name}` gives another `{self.part}` than torch does: "
                f"relative error {worst:.2g}, expected at most {self._limit:g}; "
                "use backend='eager'"
            )
            raise BackendError(msg)

    def _excess(
        self,
        found: Sequence[torch.Tensor],
        expected: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
    ) -> float:
        """How much farther from float32 a result is than torch's own.

        bfloat16 keeps 8 bits. Over a hundred layers rounding alone parts two honest ways to compute
        the same by more than the limit, and brings neither nearer to what both should be.
        """
        exact_network = copy.deepcopy(self._network).float()
        exact = _listed(exact_network(*(_widened(tensor) for tensor in inputs)))
        return _worst(found, exact) - _worst(expected, exact)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _worst(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    return max(errors, key=lambda e: float("inf") if e != e else e)


def _listed(found: Any) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else list(found)
