"""The example of the Evals API in docs/evaluation.md runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_example_of_the_page_runs(server: Server) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    given = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.key}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("completed ResultCounts(errored=0, ")
    assert "total=5" in first
