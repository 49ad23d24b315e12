"""Tries `serve_remote` against vLLM itself, its CPU build: `make trial-vllm`.

    python bench/remote/trial.py [--environment DIR] [--prompts 50] [--only NAME ...] [--output docs/vllm.md]

Makes the environment (3.5 GB) unless it is there, starts two vLLM servers of the default base on this machine, and
compares what they answer through Tunesmith with the in-process engine in float32. Prints a table, and writes it to
--output. Takes about ten minutes on two cores. The exit code is 1 if a check fails.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from tunesmith import __version__
from tunesmith.models.adapters import CONFIG_FILE, MANIFEST_FILE

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.remote import checks
from bench.remote.asking import Sides, make_prompts
from bench.remote.vllm_server import VERSION, VllmServer, make_environment, servers
from bench.serving.texts import random_adapter, tune
from bench.training.rows import joke_rows

ROOT = Path(__file__).resolve().parents[2]
BASE = "smollm2-135m-instruct"
Check = Callable[[], str]
Pair = tuple[VllmServer, VllmServer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=ROOT / ".venvs" / "vllm")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="some of the checks, by the table's first words")
    parser.add_argument("--output", type=Path, help="write the page here as well")
    options = parser.parse_args()
    make_environment(options.environment)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base_dir = Sides.open(BASE, ["http://127.0.0.1:1"]).base_dir
        with servers(options.environment, BASE, base_dir, folder) as pair:
            found = run(pair, folder, options.prompts, options.only)
    page = table(found)
    print(page)
    if options.output:
        options.output.write_text(page, encoding="utf-8")
    raise SystemExit(any(result.startswith("**failed**") for _, result in found))


def run(pair: Pair, folder: Path, prompts: int, only: list[str] | None) -> list[tuple[str, str]]:
    trial = Trial(pair, folder, prompts)
    try:
        return [(name, _tried(name, check)) for name, check in trial.checks().items() if not only or name in only]
    finally:
        trial.sides.close()
        trial.narrow.close()


class Trial:
    """What the checks share; adapters are made when the first check needs them."""

    def __init__(self, pair: Pair, folder: Path, prompts: int) -> None:
        self.pair, self.folder = pair, folder
        urls = [server.url for server in pair]
        self.sides, self.narrow = Sides.open(BASE, urls), Sides.open(BASE, urls, adapters=2)
        self.prompts = make_prompts(self.sides.models()[0], prompts)

    @cached_property
    def tuned(self) -> Path:
        rows = self.folder / "rows.jsonl"
        rows.write_text("\n".join(joke_rows()) + "\n", encoding="utf-8")
        return tune(self.sides.base_dir, rows, self.folder / "tuned", epochs=2)

    @cached_property
    def checkpoint(self) -> Path:
        """The first of the same job."""
        return min(self.tuned.parent.glob("checkpoints/step-*"))

    @cached_property
    def others(self) -> list[Path]:
        """Adapters of random values."""
        renderer = self.sides.models()[0].renderer
        return [random_adapter(self.sides.base_dir, self.folder / str(seed), renderer, seed) for seed in (1, 2)]

    def checks(self) -> dict[str, Check]:
        """By name, in their order: the last ones end servers."""
        sides, prompts, pair = self.sides, self.prompts, self.pair
        return {
            "base": lambda: checks.greedy(sides, prompts),
            "tuned model": lambda: checks.greedy(sides, prompts, self.tuned),
            "checkpoint": lambda: checks.greedy(sides, prompts, self.checkpoint),
            "another adapter": lambda: checks.greedy(sides, prompts, self.others[0]),
            "log-probabilities": lambda: checks.log_probabilities(sides, prompts[:10]),
            "`echo` with `logprobs`": lambda: checks.scored_prompts(sides, prompts[:5]),
            "stream": lambda: checks.streams(sides),
            "`response_format`": lambda: checks.schemas(sides),
            "tools": lambda: checks.tools(sides),
            "rank too high": lambda: checks.rank(sides, _with_rank(self.tuned, self.folder / "high", 64)),
            "hang-up": lambda: checks.hang_up(sides, prompts, pair),
            "least loaded": lambda: checks.spread(sides, prompts, pair),
            "eviction": lambda: checks.eviction(
                self.narrow, prompts, [self.tuned, self.checkpoint, *self.others], pair
            ),
            "killed in mid-stream": lambda: checks.killed(sides, prompts, pair),
            "restart": lambda: checks.restart(sides, prompts, self.tuned, pair),
            "both killed": lambda: checks.all_gone(sides, prompts, pair),
        }


def _with_rank(adapter: Path, directory: Path, rank: int) -> Path:
    """A copy that says it has another rank, also in its manifest."""
    shutil.copytree(adapter, directory)
    config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    text = json.dumps({**config, "r": rank}).encode()
    (directory / CONFIG_FILE).write_bytes(text)
    manifest = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))
    changed = {**manifest, "rank": rank, "config_sha256": sha256(text).hexdigest()}
    (directory / MANIFEST_FILE).write_text(json.dumps(changed), encoding="utf-8")
    return directory


def _tried(name: str, check: Check) -> str:
    started = time.monotonic()
    try:
        result = check()
    except Exception as error:
        traceback.print_exc()
        result = f"**failed**: {type(error).__name__}: {error}"
    print(f"{name} ({time.monotonic() - started:.0f} s): {result}", file=sys.stderr, flush=True)
    return result


def table(found: list[tuple[str, str]]) -> str:
    versions = f"Tunesmith {__version__}, vLLM {VERSION} (CPU build, float32)"
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {versions}, {BASE}, {platform.machine()}, {os.cpu_count()} cores:",
        "",
        "| tried | found |",
        "| --- | --- |",
        *(f"| {name} | {result} |" for name, result in found),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
