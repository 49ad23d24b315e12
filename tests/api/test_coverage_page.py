"""docs/api-coverage.md says what the application does now."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_coverage_page_is_up_to_date(small_base: str) -> None:
    """After a change of a route or a field: make coverage-api"""
    code = "import api_coverage; open(1, 'wb').write(api_coverage.coverage().encode())"
    environment = {**os.environ, "TUNESMITH_BASES": small_base}
    command = [sys.executable, "-c", code]
    asked = subprocess.run(command, env=environment, cwd=REPOSITORY / "scripts", capture_output=True, timeout=120)
    assert asked.returncode == 0, asked.stderr.decode()
    assert asked.stdout.decode() == (REPOSITORY / "docs" / "api-coverage.md").read_text("utf-8")
