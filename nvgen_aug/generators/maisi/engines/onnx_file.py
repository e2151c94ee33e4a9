"""ONNX file: a network as a graph in a file, for builders that know nothing of torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import nn

from ....errors import BackendError

# torch's exporter needs both, and says so only deep inside.
_NEEDED: Final = ("onnx", "onnxscript")


def export(network: nn.Module, inputs: Sequence[torch.Tensor], folder: Path) -> Path:
    """Write a network with fixed shapes, in the types that its weights and inputs have.

    Args:
        network: In evaluation mode.
        inputs: Tensors as it will be given; only shapes and types count.
        folder: Where the graph and the file with the weights go.

    Returns:
        Path of the graph.

    Raises:
        BackendError: The exporter is not installed, or cannot express the network.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        msg = (
            f"exporting a network needs {' and '.join(missing)}, not installed here; "
            "pip install 'nvgen-aug[engines]'"
        )
        raise BackendError(msg)
    path = folder / "network.onnx"
    try:
        with warnings.catch_warnings(), _quiet_exporter(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(network, tuple(inputs), dynamo=True, verbose=False)
        assert program is not None
        program.save(path)
    except torch.onnx.OnnxExporterError as error:
        msg = (
            f"{type(network).__name__} cannot be exported for inputs of "
            f"{[tuple(i.shape) for i in inputs]}: {error}; use backend='eager' or 'compiled'"
        )
        raise BackendError(msg) from error
    return path


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """What the exporter says of itself is for its makers; a failure comes as an exception."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
