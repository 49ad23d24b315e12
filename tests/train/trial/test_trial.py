"""The trial of a device, on the processor with a tiny shape: what a GPU machine runs, with what it has installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tunesmith.train.core.device import Device
from tunesmith.train.trial.results import Found, table
from tunesmith.train.trial.run import Trial
from tunesmith.train.trial.shapes import SHAPES, batch, build

BENCH = Path(__file__).parents[3] / "bench" / "gpu.py"
# Of a GPU machine that has torch and transformers, and nothing of what a server needs or what we are compared with.
ABSENT = ("orjson", "platformdirs", "pydantic_settings", "jinja2", "jsonschema_rs", "numba", "trl", "vllm", "structlog")
BARE = f"""
import runpy, sys
from importlib.machinery import PathFinder
class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.partition(".")[0] in {ABSENT!r} else PathFinder.find_spec(name, *rest)
sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_bench_runs_with_nothing_but_torch_and_transformers(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(BARE)
    asked = [str(BENCH), "--device", "cpu", "--shape", "tiny", "--json", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "bare.py"), *asked],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text())
    found = {one["what"]: one for one in result["found"]}
    assert result["device"] == "cpu"
    assert {one["outcome"] for one in found.values()} == {"ok"}
    assert found["LoRA, token tree"]["measures"]["tokens/s"] > 0
    assert found["resume"]["measures"]["equal bits resumed"] is True
    assert found["resume"]["measures"]["largest difference"] == 0
    beside = found["loss beside float32"]["measures"]
    assert beside["loss"] == pytest.approx(4.85, abs=0.4)  # log 128, of random weights
    assert abs(beside["tree - float32"]) < 0.02
    assert found["TRL"]["measures"] == {"": "not installed: trl"}
    assert found["vLLM, two adapters"]["measures"] == {"": "not installed: vllm"}
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| shape | what |")
    assert json.loads(lines[-1]) == result


def test_a_line_that_fails_or_does_not_fit_is_a_finding_and_the_rest_goes_on() -> None:
    said: list[str] = []
    trial = Trial(Device("cpu", torch.float32), 60.0, said.append)

    def full() -> dict[str, float | bool | str]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def broken() -> dict[str, float | bool | str]:
        raise KeyError("scale")

    trial.line("8B", "one", full)
    trial.line("8B", "two", broken)
    trial.line("8B", "three", lambda: {"tokens/s": 12345.6, "equal bits": False})
    trial.seconds = 0
    trial.line("8B", "four", lambda: {})
    outcomes = [one.outcome for one in trial.found]
    assert outcomes == ["does not fit", "failed: KeyError: 'scale'", "ok", "no time left"]
    lines = table(trial.found).splitlines()
    assert lines[4].startswith("| 8B | three | ok | tokens/s 12,346, equal bits NO | ")
    assert len(said) == 4


def test_shapes_have_the_sizes_of_their_names_and_a_batch_shares_its_beginning() -> None:
    millions = {name: shape.parameters / 1e6 for name, shape in SHAPES.items()}
    assert 700 < millions["0.6B"] < 800  # Qwen3-0.6B ties its embeddings, which are 156 of them
    assert 1900 < millions["1.7B"] < 2100
    assert 7900 < millions["8B"] < 8100
    shape = SHAPES["tiny"]
    counted = sum(one.numel() for one in build(shape, Device("cpu", torch.float32)).parameters() if one.dim() > 1)
    assert counted == shape.parameters
    rows = [example.rows[0] for example in batch(shape, 128).examples]
    assert len({row.ids[: shape.shared] for row in rows}) == 1
    assert batch(shape, 128) == batch(shape, 128)
    assert batch(shape, 128) != batch(shape, 128, step=2)
    assert Found("a", "b", "ok").to_json()["measures"] == {}
