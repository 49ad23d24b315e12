"""What a trainer of this machine runs on, by name."""

import platform
from pathlib import Path

from tunesmith.system.cpu import cpu_count


def hardware_name(threads: int = 0) -> str:
    """The processor, its usable cores and the graphics cards, in the system's words."""
    cores = threads or cpu_count()
    processor = _value(Path("/proc/cpuinfo"), "model name") or platform.machine()
    return ", ".join([f"{processor} {cores} threads", *graphics_cards()])


def graphics_cards() -> list[str]:
    """The names of NVIDIA's cards, as their driver has them; others are not listed."""
    return [_value(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]


def _value(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
