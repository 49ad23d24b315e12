"""Python environments of what cannot share ours: other versions of a client, plugins of another project's tests.

They stand under `.venvs`, are made by the first test that needs one (seconds, and PyPI), and are kept between runs.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

# For a pytest within a test: the plugins of packages that it has no use for (schemathesis and hypothesis) take 3 s.
BARE_PYTEST = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
VENVS = Path(__file__).resolve().parents[1] / ".venvs"


def environment(name: str, *packages: str, shared: bool) -> Path:
    """The Python of `.venvs/NAME`, which has `packages` and the pip of its making.

    `shared`: no dependencies are installed with them; everything else is seen in the environment of the tests, so that
    the second and the third version of a client cost a second each.
    """
    directory = VENVS / name
    python, done, wanted = directory / "bin" / "python", directory / ".packages", "\n".join(packages) + "\n"
    if done.exists() and done.read_text("utf-8") == wanted:
        return python
    _run("-m", "venv", "--clear", "--without-pip", str(directory))
    _run("-m", "pip", "--python", str(python), "install", "--quiet", *(["--no-deps"] if shared else []), *packages)
    if shared:
        ours = sysconfig.get_path("purelib")
        own = sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)})
        (Path(own) / "beside.pth").write_text(f"import site; site.addsitedir({ours!r})\n", "utf-8")
    done.write_text(wanted, "utf-8")
    return python


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"An environment of the tests could not be made; it needs PyPI once.\n{' '.join(arguments)}\n{done.stderr}"
        )
