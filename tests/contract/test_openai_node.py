"""The official JavaScript client, unmodified, where there is a Node.js."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from openai.types.fine_tuning import FineTuningJob
from tests.contract.conftest import present
from tests.servers import Server

HERE = Path(__file__).parent
DIRECTORY = HERE.parents[1] / ".venvs" / "openai-node"
VERSION = "6.49.0"

pytestmark = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="no Node.js here")


@pytest.fixture(scope="module")
def script() -> Path:
    """A copy beside the installed package: Node looks for packages from the script's place upwards."""
    if not (DIRECTORY / ".complete").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(DIRECTORY), f"openai@{VERSION}"]
        subprocess.run(command, check=True, capture_output=True)
        (DIRECTORY / ".complete").touch()
    return Path(shutil.copy(HERE / "node_client.mjs", DIRECTORY))


def test_javascript_client_uploads_trains_and_chats(
    script: Path, server: Server, finished_job: FineTuningJob, training_path: Path
) -> None:
    command = [
        "node",
        str(script),
        server.base_url,
        server.key,
        present(finished_job.fine_tuned_model),
        str(training_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["file"]["filename"], result["file"]["status"]) == (training_path.name, "processed")
    assert result["same"] is True
    assert (result["job"]["model"], result["job"]["error"]) == ("smollm2-135m-instruct", None)
    assert result["events"][-1] == f"Created fine-tuning job: {result['job']['id']}"
    assert result["cancelled"] == "cancelled"
    assert result["plain"]
    assert result["streamed"] == result["plain"]
    assert finished_job.fine_tuned_model in result["names"]
    missing = result["missing"]
    assert (missing["class"], missing["status"], missing["code"]) == ("NotFoundError", 404, "model_not_found")
    assert missing["requestID"].startswith("req_")
    assert (result["refused"]["class"], result["refused"]["param"]) == ("BadRequestError", "suffix")
    assert result["deleted"]["deleted"] is True
    assert result["evals"] == {
        "same": True,
        "name": "node",
        "counts": {"total": 3, "errored": 0, "failed": 2, "passed": 1},
        "statuses": ["fail", "fail", "pass"],
        "item": "1",
        "errors": [None, None],
        "runs": True,
        "cancelled": "canceled",
        "runDeleted": True,
        "deleted": True,
    }
