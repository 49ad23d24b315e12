"""What trains here: the processor, and the versions of what computes."""

import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunesmith.system.cpu import cpu_count

COMPUTE = ("tunesmith", "torch", "numpy", "numba", "llvmlite", "transformers", "tokenizers", "safetensors")
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")  # that other code is compiled for
CPU_INFO, GPUS = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


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
        name, features = _processor()
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


@cache
def _processor() -> tuple[str, tuple[str, ...]]:
    text = CPU_INFO.read_text("utf-8", errors="replace") if CPU_INFO.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    fallback = platform.processor() or sys.platform
    return name[1].strip() if name else fallback, tuple(one for one in FEATURES if one in known)


def _gpus() -> tuple[str, ...]:
    found = []
    for file in sorted(GPUS.glob("*/information")):
        model = re.search(r"^Model:\s*(.+)$", file.read_text("utf-8", errors="replace"), re.MULTILINE)
        found.append(model[1].strip() if model else "NVIDIA GPU")
    return tuple(found)
