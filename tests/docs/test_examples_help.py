"""The scripts in `examples/` say what they do, and do nothing, when they are asked for help or mistyped."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("argument", ["--help", "--no-such-option"])
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_an_option_asks_no_server(script: Path, argument: str, tmp_path: Path) -> None:
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "sk-none"}
    ran = subprocess.run(
        [sys.executable, script, argument], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == (0 if argument == "--help" else 2), ran.stderr
    assert f"examples/{script.name}" in ran.stdout if argument == "--help" else "unrecognized arguments" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_there_are_examples() -> None:
    assert {"train_and_chat.py", "train_2023.py", "export_openai.py"} <= {script.name for script in EXAMPLES}
