"""Engines are built on machines without a GPU, and take and give what the networks do."""

from __future__ import annotations

import ctypes
import sys
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import final

import pytest
import torch
from torch import nn

from nvgen_aug.errors import BackendError
from nvgen_aug.generators.maisi.engines import tensorrt
from nvgen_aug.generators.maisi.engines.building import build_missing
from nvgen_aug.generators.maisi.engines.building import engine_key
from nvgen_aug.generators.maisi.engines.building import random_parts
from nvgen_aug.generators.maisi.engines.onnx_file import export
from nvgen_aug.generators.maisi.engines.parts import Part
from nvgen_aug.generators.maisi.engines.store import EngineKey
from nvgen_aug.generators.maisi.engines.store import EngineStore
from nvgen_aug.generators.maisi.engines.tensorrt import EngineRun
from nvgen_aug.generators.maisi.engines.tensorrt import Library
from nvgen_aug.generators.maisi.engines.tensorrt import build
from nvgen_aug.generators.maisi.engines.tensorrt import load_library
from tests.generators.tiny import TINY

TARGETS = ("SM80", "SM86", "SM89", "SM120")


@pytest.fixture(scope="module")
def rtx() -> Library:
    for needed in ("onnx", "onnxscript", "tensorrt_rtx_bindings"):
        pytest.importorskip(needed)
    return load_library("tensorrt-rtx")


def small_part(dtype: torch.dtype = torch.float16) -> Part:
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU())
    return Part("flow", network.eval().to(dtype), (torch.randn(1, 2, 4, 4, 4, dtype=dtype),))


def keys(library: Library, part: Part, targets: tuple[str, ...] = TARGETS) -> list[EngineKey]:
    return [
        engine_key(
            library,
            part,
            variant="tiny-test",
            network=64 * "0",
            precision="fp16",
            target=target,
        )
        for target in targets
    ]


def test_the_targets_are_kinds_of_gpu_without_hopper(rtx: Library) -> None:
    assert set(TARGETS) <= set(rtx.targets)
    assert "SM90" not in rtx.targets


def test_an_engine_is_built_for_each_kind_of_gpu_and_then_kept(
    rtx: Library, tmp_path: Path
) -> None:
    store, part, said = EngineStore(tmp_path), small_part(), []
    made = build_missing(rtx, store, part, keys(rtx, part), report=said.append)
    assert [engine.key.target for engine in made] == list(TARGETS)
    assert len({store.get(key) for key in keys(rtx, part)}) == len(TARGETS)
    assert said[0] == "exporting flow"
    assert build_missing(rtx, store, part, keys(rtx, part)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_engine_takes_and_gives_the_types_of_the_network(
    rtx: Library, dtype: torch.dtype, tmp_path: Path
) -> None:
    part = small_part(dtype)
    built = build(rtx, export(part.network, part.inputs, tmp_path), "SM89")
    assert [(p.shape, p.dtype) for p in built.inputs] == [((1, 2, 4, 4, 4), dtype)]
    assert [(p.shape, p.dtype) for p in built.outputs] == [((1, 4, 4, 4, 4), dtype)]


def test_a_kind_of_gpu_that_the_library_lacks_is_refused(rtx: Library, tmp_path: Path) -> None:
    part = small_part()
    graph = export(part.network, part.inputs, tmp_path)
    with pytest.raises(BackendError, match=r"builds for SM75, .*got SM90; .*backend='compiled'"):
        build(rtx, graph, "SM90")


def test_a_file_that_is_no_graph_is_refused(rtx: Library, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="cannot read the network"):
        build(rtx, tmp_path / "network.onnx", "SM89")


def test_what_the_exporter_cannot_express_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(
        BackendError, match=r"Branching cannot be exported for inputs of \[\(2,\)\]"
    ):
        export(Branching(), [torch.ones(2)], tmp_path)


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [("tensorrt", "tensorrt", "gpu"), ("tensorrt-rtx", "tensorrt_rtx_bindings", "engines")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    backend: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "_loaded", {})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=rf"needs `{module}`.*nvgen-aug\[{extra}\]"):
        load_library(backend)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", ["control", "flow", "decoder"])
def test_the_narrow_networks_build_for_every_kind_of_gpu(
    rtx: Library, part: str, tmp_path: Path
) -> None:
    parts, _ = random_parts(TINY, TINY.size, "fp16")
    [chosen] = [p for p in parts if p.name == part]
    graph = export(chosen.network, chosen.inputs, tmp_path)
    with torch.no_grad():
        given = chosen.network.float()(*(tensor.float() for tensor in chosen.inputs))
    wanted = [tuple(t.shape) for t in ([given] if isinstance(given, torch.Tensor) else given)]
    for target in TARGETS:
        built = build(rtx, graph, target)
        assert [p.shape for p in built.inputs] == list(chosen.shapes)
        assert {p.dtype for p in built.inputs} == {torch.float16}
        assert [p.shape for p in built.outputs] == wanted
        assert len(built.content) > 100_000


# What follows stands in for a GPU: an engine that doubles its input and adds one, in host memory.
class Kind(Enum):
    FLOAT = 0
    HALF = 1
    BF16 = 2


class Mode(Enum):
    INPUT = 0
    OUTPUT = 1


@final
class FakeContext:
    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        read = (ctypes.c_float * 6).from_address(self.addresses["x"])
        for name, factor in (("twice", 2), ("thrice", 3)):
            write = (ctypes.c_float * 6).from_address(self.addresses[name])
            for i in range(6):
                write[i] = factor * read[i]
        return True


def fake_library(*, loads: bool = True) -> Library:
    names = ["x", "twice", "thrice"]
    engine = SimpleNamespace(
        num_io_tensors=3,
        get_tensor_name=lambda i: names[i],
        get_tensor_shape=lambda name: (2, 3),
        get_tensor_dtype=lambda name: Kind.FLOAT,
        get_tensor_mode=lambda name: Mode.INPUT if name == "x" else Mode.OUTPUT,
        create_execution_context=FakeContext,
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine if loads else None)
    module: Any = SimpleNamespace(Runtime=lambda logger: runtime, TensorIOMode=Mode, DataType=Kind)
    return Library("tensorrt-rtx", module, "0", None)


def test_an_engine_reads_its_inputs_in_the_order_of_the_axes_and_gives_all_outputs() -> None:
    run = EngineRun(fake_library(), b"", torch.device("cpu"))
    x = torch.arange(6.0).reshape(3, 2).T  # strides that are not those of the axes
    twice, thrice = run(x)
    torch.testing.assert_close(twice, 2 * x)
    torch.testing.assert_close(thrice, 3 * x)


@pytest.mark.parametrize("given", [torch.zeros(3, 2), torch.zeros(2, 3).half()])
def test_an_input_of_another_shape_or_type_is_refused(given: torch.Tensor) -> None:
    run = EngineRun(fake_library(), b"", torch.device("cpu"))
    with pytest.raises(
        BackendError, match=r"the engine takes \[\(\(2, 3\), torch.float32\)\], got"
    ):
        run(given)


def test_an_engine_that_this_device_cannot_load_is_refused() -> None:
    with pytest.raises(BackendError, match=r"cannot load its engine on cpu.*engines build"):
        EngineRun(fake_library(loads=False), b"", torch.device("cpu"))
