"""openai 1.x and 2.x, each in its own environment, run the tests of today's client against the same server."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.contract.conftest import GIVEN
from tests.environments import BARE_PYTEST, environment
from tests.servers import Server

HERE = Path(__file__).parent
FILES = ("test_openai_current.py", "test_openai_methods.py")
SHARED = "distro==1.9.0"  # needed by these and not by today's client


@pytest.mark.drawn(1)  # both ask alike, and each takes an environment and a pytest
@pytest.mark.parametrize(("name", "version"), [("openai1", "1.109.1"), ("openai2", "2.54.0")])
def test_earlier_client_passes_the_tests_of_todays(
    server: Server,
    training_file: str,
    finished_job: FineTuningJob,
    preference_job: FineTuningJob,
    name: str,
    version: str,
) -> None:
    python = environment(name, f"openai=={version}", SHARED, shared=True)
    shown = subprocess.run([python, "-c", "import openai; print(openai.__version__)"], capture_output=True, text=True)
    assert shown.stdout.strip() == version
    made = {"training_file": training_file, "finished_job": finished_job.id, "preference_job": preference_job.id}
    outer = {**json.loads(server.to_json()), **made}
    inner = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(HERE / file) for file in FILES)]
    command += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]  # openai 1.x leaves a file open
    done = subprocess.run(
        command,
        env={**inner, **BARE_PYTEST, GIVEN: json.dumps(outer)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 34, "tests went missing: " + done.stdout[-3000:]
