"""By hand: torchrun starts the ranks of a spec."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.train.ranks.conftest import free_port
from tests.train.test_run import final_adapter, of_type

from tunesmith.train.protocol.events import parse_events
from tunesmith.train.protocol.spec import TrainSpec


def test_torchrun_trains_a_spec(make_spec: Callable[..., TrainSpec], tmp_path: Path) -> None:
    spec = make_spec(n_epochs=1)
    spec.write(tmp_path / "spec.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--master-port", str(free_port())]
    command = [*torchrun, "--nproc-per-node", "2", "-m", "tunesmith.train", str(tmp_path / "spec.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    events = [event.to_json() for event in parse_events(done.stdout)]
    assert [step["step"] for step in of_type(events, "step")] == [1, 2, 3, 4]
    assert events[-1]["type"] == "done"
    assert len(final_adapter(spec)) > 1000
