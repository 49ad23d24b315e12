"""Training on a GPU, tried and measured in one command of at most eight minutes. Not run on a GPU yet.

    python bench/gpu.py                               # 0.6B, 1.7B and 8B with random weights, as memory allows
    python bench/gpu.py --base DIRECTORY --json gpu.json
    python bench/gpu.py --device cpu --shape tiny     # what the tests do

It prints a table and a JSON: tokens/s, share of the peak, peak memory, the loss beside float32, whether a resumed run
has the same bits, and TRL and vLLM beside them where they are installed. Nothing is downloaded. From a clone it needs
torch >= 2.11, transformers >= 5.17, tokenizers, safetensors, numpy and pydantic only: what else Tunesmith imports is
not touched by training, and gets a stand-in where it is missing.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pydantic

SERVER_ONLY = ("orjson", "platformdirs", "pydantic_settings")
SOURCES = ("EnvSettingsSource", "PydanticBaseSettingsSource", "TomlConfigSettingsSource")


class StandIn(ModuleType):
    """A module of which only names are asked, such as an exception's."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class StandIns(MetaPathFinder, Loader):
    """Finds a stand-in for each module of `SERVER_ONLY` that is not installed; asked after all other finders."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """See `MetaPathFinder`."""
        known = name.partition(".")[0] in SERVER_ONLY
        return ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See `Loader`."""
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """See `Loader`."""
        if module.__name__ == "pydantic_settings":
            base = type("BaseSettings", (pydantic.BaseModel,), {"__module__": module.__name__})
            vars(module).update(BaseSettings=base, SettingsConfigDict=dict, NoDecode=object())
            vars(module).update(dict.fromkeys(SOURCES, object))


def main() -> None:
    """Runs `tunesmith.train.trial`."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    sys.meta_path.append(StandIns())
    from tunesmith.train.trial.__main__ import main as trial

    sys.exit(trial(sys.argv[1:]))


if __name__ == "__main__":
    main()
