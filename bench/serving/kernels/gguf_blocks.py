"""A base from a GGUF file, served from its quantised blocks and dequantised: seconds, memory and speed of one stream.

    python bench/serving/kernels/gguf_blocks.py [--shape qwen3-0.6b | llama3.2-1b | …] [--file FILE.gguf]
    [--weights auto,float16] [--tokens 48] [--threads 2]

Without `--file`, the shape's random weights are written as Q8_0 once. Each row is a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bench.serving.gguf_files import export_base
from bench.shapes import SHAPES, base_of_shape

from tunesmith.models.directory import materialise
from tunesmith.models.registry import BaseModel, GgufFile
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.settings import Settings

PROMPT = 64  # tokens


def main() -> None:
    """Prints a row for each way."""
    options = _options()
    if options.row:
        print(json.dumps(_row(options.file, options.weights, options.tokens, options.threads)))
        return
    settings = Settings()
    file = options.file or _file_of(options.shape, settings)
    directory = materialise(BaseModel(file.stem, GgufFile(file), None), settings)
    print(f"{file.name}: {file.stat().st_size / 1e9:.2f} GB, converted {_size(directory) / 1e9:.2f} GB")
    print("weights   served from  load s  peak GB  prompt tokens/s  decode tokens/s")
    for weights in options.weights.split(","):
        given = ["--row", "--file", str(file), "--weights", weights, "--tokens", str(options.tokens)]
        command = [sys.executable, "-m", "bench.serving.kernels.gguf_blocks", *given, "--threads", str(options.threads)]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(
            f"{weights:9} {row['form']:11} {row['load']:7.1f} {row['peak'] / 1e9:8.2f} {row['prompt']:16.1f}"
            f" {row['decode']:16.2f}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--weights", default="auto,float16")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _file_of(shape: str, settings: Settings) -> Path:
    target = settings.cache_dir / "bench" / "shapes" / f"{shape}-q8_0.gguf"
    if not target.is_file():
        print(f"(Writing {target.name}, once.)", flush=True)
        export_base(base_of_shape(shape, settings), target.with_suffix(".partial"), "Q8_0").rename(target)
    return target


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _row(file: Path, weights: str, tokens: int, threads: int) -> dict[str, object]:
    settings = Settings().model_copy(update={"serve_weights": weights})
    directory = materialise(BaseModel(file.stem, GgufFile(file), None), settings)
    began = time.perf_counter()
    runner, form = load_runner(directory, settings)
    load = time.perf_counter() - began
    ids = tuple(int(one) for one in np.random.default_rng(1).integers(5, 1000, PROMPT))

    def ask(start: int, given: tuple[int, ...]) -> int:
        chunk: SequenceChunk[AnyAdapter] = SequenceChunk(0, start, given, None, 1)
        return int(np.asarray(runner.forward([chunk], threads))[-1].argmax())

    ask(0, ids)  # warm
    began = time.perf_counter()
    token = ask(0, ids)
    prompt = PROMPT / (time.perf_counter() - began)
    began = time.perf_counter()
    for place in range(tokens):
        token = ask(PROMPT + place, (token,))
    decode = tokens / (time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"form": form, "load": load, "peak": peak, "prompt": prompt, "decode": decode}


if __name__ == "__main__":
    main()
