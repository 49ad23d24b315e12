"""docs/kernels.md says what is so."""

import importlib
import pkgutil
import re
from pathlib import Path

from tests.kernels.cases import elementwise_cases
from tests.kernels.reference import CASES, SIZES

from tunesmith import kernels
from tunesmith.kernels.elementwise import silu_mul
from tunesmith.kernels.records import LAYER_MATRICES
from tunesmith.kernels.serving.step_args import CHUNK_COLUMNS, LORA_COLUMNS, SEGMENT_COLUMNS
from tunesmith.kernels.vectors import LANES, PANEL_ROW_BYTES

PAGE = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text("utf-8")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}.")
    if not module.ispkg and not module.name.endswith("__main__")
]


def test_the_page_names_every_file() -> None:
    assert set(re.findall(r"`(\w+)\.py`", PAGE.split("##")[0])) == {name.rpartition(".")[2] for name in MODULES}


def test_the_page_names_what_there_is() -> None:
    names = {name for module in MODULES for name in vars(importlib.import_module(module))}
    named = {name for name in re.findall(r"`([A-Z]\w+)`", PAGE) if name not in OTHERS}
    assert named
    assert named <= names


OTHERS = {"CompiledRunner", "CompiledLayers", "PanelAdapter", "IntEnum", "NUMBA_CACHE_DIR"}


def test_the_page_has_the_sizes_of_tables_and_panels() -> None:
    assert LANES == 16
    assert PANEL_ROW_BYTES == 64
    assert f"[chunks, {CHUNK_COLUMNS}]" in PAGE
    assert f"[segments, {SEGMENT_COLUMNS}]" in PAGE
    assert f"[{LAYER_MATRICES} * layers, {LORA_COLUMNS}]" in PAGE
    assert ", ".join(map(str, SIZES[:-1])) + f" and {SIZES[-1]}" in PAGE


def test_the_page_shows_a_case_of_the_tests() -> None:
    shown = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    lines = {
        line.strip()
        for line in (Path(__file__).parent / "cases" / "elementwise_cases.py").read_text("utf-8").splitlines()
    }
    assert {line.strip() for line in shown[1].splitlines()} <= lines
    assert CASES[silu_mul].run is elementwise_cases.silu_mul_case
