"""How the machine is named."""

from tunesmith.system.cpu import cpu_count
from tunesmith.train.hardware import hardware_name


def test_hardware_says_how_many_threads_train() -> None:
    assert f"{cpu_count()} threads" in hardware_name()
    assert "7 threads" in hardware_name(7)
