"""The key of an engine that nobody built, for tests of the store and its command."""

from nvgen_aug.generators.maisi.engines.store import EngineKey

KEY = EngineKey(
    backend="tensorrt-rtx",
    variant="tiny-brain",
    part="flow",
    network=64 * "a",
    shapes=((1, 4, 16, 16, 16), (1, 256)),
    precision="fp16",
    target="SM89",
    libraries={"tensorrt-rtx": "1.7"},
)
