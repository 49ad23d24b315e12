"""What trains here: the processor, and the versions of what computes."""

import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunesmith.system.cpu import cpu_count, processor

COMPUTE = ("tunesmith", "torch", "numpy", "numba", "llvmlite", "transformers", "tokenizers", "safetensors")
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")  # that other code is compiled for
GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a machine can change the bits of a training."""

    system: str
    processor: str
    features: tuple[str, ...]
    threads: int  # that trained
    gpus: tuple[str, ...] = ()

    @classmethod
    def this(cls, threads: int = 0) -> "Machine":
        """This machine; 0 threads: one for each processor."""
        name, flags = processor()
        features = tuple(feature for feature in FEATURES if feature in flags)
        return cls(f"{platform.system()} {platform.machine()}", name, features, threads or cpu_count(), _gpus())


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in COMPUTE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed
            found[name] = "unknown"
    return found


def _gpus() -> tuple[str, ...]:
    found = []
    for file in sorted(GPUS.glob("*/information")):
        model = re.search(r"^Model:\s*(.+)$", file.read_text("utf-8", errors="replace"), re.MULTILINE)
        found.append(model[1].strip() if model else "NVIDIA GPU")
    return tuple(found)
