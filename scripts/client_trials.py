"""Tries other programs with a tuned model: `scripts/client_trials.py [NAME ...]`.

Creates an environment under .venvs for each program, starts a server on the demo's data (and trains the demo's model
first if there is none), and runs examples/clients/with_NAME. docs/clients.md shows what they print. The exit code is 1
if one of them fails. With `--base-url`, and a key in OPENAI_API_KEY, it uses a server that is already running.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "langchain": ["langchain-openai==1.7.3", "langchain-core==1.7.2"],
    "llamaindex": ["llama-index-llms-openai-like==0.8.1", "llama-index-embeddings-openai==0.7.0"],
    "litellm": ["litellm==1.106.2", "mcp==2.3.0"],  # imports mcp for any call with tools, but does not require it
    "llm": ["llm==0.36"],
}


def main() -> None:
    """Runs the trials named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PACKAGES)} (default: all)")
    parser.add_argument("--data-dir", type=Path, default=ROOT / ".cache" / "demo", help="data of the server to start")
    parser.add_argument("--base-url", help="address, with /v1, of a running server whose key is in OPENAI_API_KEY")
    parser.add_argument("--model", help="use this model instead of the newest tuned one")
    options = parser.parse_args()
    if unknown := set(options.names) - PACKAGES.keys():
        parser.error(f"no trial of {', '.join(sorted(unknown))}; there are: {', '.join(PACKAGES)}")
    names = options.names or list(PACKAGES)
    for name in names:
        make_environment(name)
    if options.base_url:
        failed = trials(names, options.base_url, os.environ["OPENAI_API_KEY"], options.model)
    else:
        tune_where_missing(options.data_dir)
        with server(options.data_dir) as (base_url, key):
            failed = trials(names, base_url, key, options.model)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


def make_environment(name: str) -> None:
    """Makes the environment with exactly these versions; fetches only what is missing."""
    directory = ROOT / ".venvs" / name
    if not (directory / "bin" / "python").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    if versions(directory / "bin", name) == PACKAGES[name]:
        return
    subprocess.run([directory / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)


def tune_where_missing(data_dir: Path) -> None:
    """Runs the demo (about a minute and a half) unless the data directory has a model."""
    if not any((data_dir / "jobs").glob("*/output/adapter/adapter_model.safetensors")):
        subprocess.run([sys.executable, "-m", "tunesmith.cli", "demo", "--data-dir", str(data_dir)], check=True)


@contextmanager
def server(data_dir: Path) -> Iterator[tuple[str, str]]:
    """Runs a server until the block ends; gives its address and a key."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log_file = Path(folder) / "ready.json", Path(folder) / "server.log"
        command = [sys.executable, "-m", "tunesmith.cli", "serve", "--no-worker", "--port", "0"]
        environment = {**os.environ, "TUNESMITH_DATA_DIR": str(data_dir.resolve())}
        with log_file.open("wb") as log:
            process = subprocess.Popen([*command, "--ready-file", str(ready)], env=environment, stdout=log, stderr=log)
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise SystemExit(log_file.read_text(encoding="utf-8"))
                time.sleep(0.1)
            base_url = str(json.loads(ready.read_text(encoding="utf-8"))["base_url"])
            key = (data_dir / "api-key").read_text(encoding="utf-8").strip()
            yield base_url, key
        finally:
            process.terminate()
            process.wait()


def trials(names: list[str], base_url: str, key: str, model: str | None) -> list[str]:
    """Runs the trials; returns the names of those that failed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_BASE": base_url,
            "OPENAI_API_KEY": key,
            "MODEL": model or newest_model(base_url, key),
            "LLM_USER_PATH": folder,
            "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        }
        return [name for name in names if not trial(name, environment)]


def newest_model(base_url: str, key: str) -> str:
    """The newest tuned model of the server; exits if there is none."""
    request = urllib.request.Request(f"{base_url}/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as answer:
        names = [str(model["id"]) for model in json.load(answer)["data"]]
    tuned = [name for name in names if name.startswith("ft:") and ":ckpt-step-" not in name]
    if not tuned:
        raise SystemExit("There is no tuned model on this server: name one with --model.")
    return tuned[-1]


def trial(name: str, environment: dict[str, str]) -> bool:
    """Runs one example in its environment; returns whether it succeeded."""
    binaries = ROOT / ".venvs" / name / "bin"
    [script] = (ROOT / "examples" / "clients").glob(f"with_{name}.*")
    command = ["bash", str(script)] if script.suffix == ".sh" else [str(binaries / "python"), str(script)]
    print(f"== {', '.join(versions(binaries, name))}", flush=True)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, env={**clean, **environment, "PATH": path}, check=False).returncode == 0


def versions(binaries: Path, name: str) -> list[str]:
    """The installed versions, written as in PACKAGES; empty if one is missing."""
    wanted = [package.partition("==")[0] for package in PACKAGES[name]]
    code = f"from importlib.metadata import version\nfor name in {wanted!r}: print(name, version(name), sep='==')"
    return subprocess.run([binaries / "python", "-c", code], capture_output=True, text=True, check=False).stdout.split()


if __name__ == "__main__":
    main()
