"""TensorRT: engines built from ONNX graphs, and run on tensors of a GPU.

Two libraries have one interface. TensorRT-RTX builds for a named kind of GPU on a machine that has
none; TensorRT builds for the GPU it runs on. Networks are strongly typed in both: an engine
computes in the types of the graph, and no flag can change them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from typing import Final
from typing import final

import torch

from ....errors import BackendError

# Backend, its module, what must be imported before, its package and the extra that has it.
_LIBRARIES: Final[Mapping[str, tuple[str, tuple[str, ...], str, str]]] = {
    "tensorrt": ("tensorrt", (), "tensorrt", "gpu"),
    # The wheel with the shared libraries loads them when it is imported.
    "tensorrt-rtx": (
        "tensorrt_rtx_bindings",
        ("tensorrt_rtx_libs",),
        "tensorrt_rtx_cu13_bindings",
        "engines",
    ),
}


@final
@dataclass(frozen=True, slots=True)
class Library:
    """A TensorRT library that is loaded.

    Attributes:
        backend: `tensorrt` or `tensorrt-rtx`.
        module: Its Python module.
        version: Of the library.
        logger: The one logger that it takes in a process.
    """

    backend: str
    module: Any
    version: str
    logger: Any

    @property
    def targets(self) -> tuple[str, ...]:
        """Kinds of GPU that can be built for without having one, such as `SM89`."""
        kinds = getattr(self.module, "ComputeCapability", None)
        names = () if kinds is None else kinds.__members__
        return tuple(sorted((n for n in names if n.startswith("SM")), key=lambda n: int(n[2:])))


@final
@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of an engine: its name, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@final
@dataclass(frozen=True, slots=True)
class Built:
    """An engine fresh from the builder."""

    content: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


_loaded: dict[str, Library] = {}


def load_library(backend: str) -> Library:
    """The library of a backend, loaded once a process.

    Raises:
        BackendError: It is not installed, or its shared libraries cannot be loaded.
    """
    if backend in _loaded:
        return _loaded[backend]
    name, before, package, extra = _LIBRARIES[backend]
    try:
        for needed in before:
            importlib.import_module(needed)
        module = importlib.import_module(name)
        version = metadata.version(package)
    except (ImportError, OSError, metadata.PackageNotFoundError) as error:
        msg = (
            f"backend `{backend}` needs `{name}`, which cannot be loaded ({error}); "
            f"pip install 'nvgen-aug[{extra}]', or use backend='compiled'"
        )
        raise BackendError(msg) from error
    library = Library(backend, module, version, module.Logger(module.Logger.ERROR))
    _loaded[backend] = library
    return library


def build(library: Library, graph: Path, target: str) -> Built:
    """An engine of an ONNX graph.

    Args:
        library: What builds it.
        graph: As `onnx_file.export` wrote it.
        target: One of the library's `targets`, or the capability of the GPU here.

    Raises:
        BackendError: The library has no such target, or cannot build the graph for it.
    """
    trt = library.module
    builder = trt.Builder(library.logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(graph)):
        found = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        msg = f"{library.backend} {library.version} cannot read the network: {found}"
        raise BackendError(msg)
    config = builder.create_builder_config()
    if library.targets:
        if target not in library.targets:
            msg = (
                f"{library.backend} {library.version} builds for {', '.join(library.targets)}, got "
                f"{target}; on other GPUs use backend='compiled' or 'tensorrt'"
            )
            raise BackendError(msg)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    content = builder.build_serialized_network(network, config)
    if content is None:
        msg = (
            f"{library.backend} {library.version} cannot build the network for {target}; its own "
            "message is above; use backend='compiled', or a smaller size"
        )
        raise BackendError(msg)
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return Built(
        bytes(content),
        tuple(_port(trt, tensor) for tensor in inputs),
        tuple(_port(trt, tensor) for tensor in outputs),
    )


@final
class EngineRun:
    """An engine, called with tensors as the network was.

    Args:
        library: What built it.
        content: The engine.
        device: A GPU of the kind it was built for.

    Raises:
        BackendError: The engine cannot be loaded on this device, or an input is not what it takes.
    """

    def __init__(self, library: Library, content: bytes, device: torch.device) -> None:
        trt = library.module
        # Kept: the engine needs its runtime for as long as it lives.
        self._runtime = trt.Runtime(library.logger)
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            msg = (
                f"{library.backend} {library.version} cannot load its engine on {device}; use "
                "backend='compiled', or build it for this GPU: nvgen-aug engines build --help"
            )
            raise BackendError(msg)
        self._context = self._engine.create_execution_context()
        self._device = device
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        ports = [
            Port(
                name,
                tuple(self._engine.get_tensor_shape(name)),
                _types(trt)[self._engine.get_tensor_dtype(name)],
            )
            for name in names
        ]
        is_input = [self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names]
        self.inputs = [p for p, i in zip(ports, is_input, strict=True) if i]
        self.outputs = [p for p, i in zip(ports, is_input, strict=True) if not i]

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        given = [(tuple(tensor.shape), tensor.dtype) for tensor in inputs]
        wanted = [(port.shape, port.dtype) for port in self.inputs]
        if given != wanted:
            msg = f"the engine takes {wanted}, got {given}; build one for these shapes"
            raise BackendError(msg)
        # Engines read memory in the order of the axes, whatever torch's strides say.
        held = [tensor.contiguous() for tensor in inputs]
        results = [torch.empty(p.shape, dtype=p.dtype, device=self._device) for p in self.outputs]
        for port, tensor in zip([*self.inputs, *self.outputs], [*held, *results], strict=True):
            self._context.set_tensor_address(port.name, tensor.data_ptr())
        if not self._context.execute_async_v3(self._stream()):
            msg = "the engine stopped with an error, which stands above; use backend='compiled'"
            raise BackendError(msg)
        return results[0] if len(results) == 1 else tuple(results)

    def _stream(self) -> int:
        # Of torch, so that the inputs are ready and `held` is not given away too early.
        if self._device.type != "cuda":
            return 0
        return int(torch.cuda.current_stream(self._device).cuda_stream)


def _port(trt: Any, tensor: Any) -> Port:
    return Port(tensor.name, tuple(tensor.shape), _types(trt)[tensor.dtype])


def _types(trt: Any) -> dict[Any, torch.dtype]:
    kinds = trt.DataType
    return {kinds.FLOAT: torch.float32, kinds.HALF: torch.float16, kinds.BF16: torch.bfloat16}
