"""What is in the wheel: everything that the checkout's package has, and the demo's dataset."""

import email
import subprocess
import zipfile
from pathlib import Path

import pytest
from tests.wheel.conftest import ROOT

DATASET = "tunesmith/cli/commands/weather-jokes.jsonl"


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_has_every_file_of_the_package(names: set[str]) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src/tunesmith"]
    here = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    expected = {path.removeprefix("src/") for path in here if (ROOT / path).is_file()}
    assert {name for name in names if name.startswith("tunesmith/")} == expected | {DATASET}


@pytest.mark.parametrize(
    "name",
    [
        "tunesmith/py.typed",
        "tunesmith/cli/output/templates/report.html",
        "tunesmith/store/schema/migrations/env.py",
        "tunesmith/store/schema/migrations/versions/0001_initial.py",
    ],
)
def test_wheel_has_what_is_read_as_a_file(names: set[str], name: str) -> None:
    assert name in names


def test_demo_dataset_is_the_one_of_the_examples(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(DATASET) == (ROOT / "examples" / "weather-jokes.jsonl").read_bytes()


def test_metadata_refuses_a_python_that_cannot_run_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    setup = (ROOT / "scripts" / "setup").read_text("utf-8")
    assert "(3, 11) <= sys.version_info < (3, 14)" in setup  # the same limits
