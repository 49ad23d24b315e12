"""The cookbook way and `tunesmith check` in turn on the same file: MB/s and peak memory.

    python bench/check.py --megabytes 50 500 --peer PYTHON_WITH_TIKTOKEN

Each run is a process of its own; the file is in the page cache for both. For ours, the memory is the parent's peak
plus that of the largest worker times the number of workers: never less than what was used at once.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check_data import write_rows

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50])
    parser.add_argument("--peer", default=sys.executable, help="a Python that has tiktoken (and litellm, if offline)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--analysers", nargs="*", default=None)
    parser.add_argument("--ours", metavar="FILE", help="check FILE in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(ours(Path(arguments.ours), arguments.analysers)))
        return
    print(f"{'file':>8} {'way':<10} {'seconds':>8} {'MB/s':>8} {'peak MB':>8} {'tokens':>12} {'errors':>7}")
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            write_rows(path, megabytes * 1_000_000)
            measure(path, arguments)


def measure(path: Path, arguments: argparse.Namespace) -> None:
    size = path.stat().st_size
    mine = [sys.executable, str(Path(__file__)), "--ours", str(path)]
    if arguments.analysers is not None:
        mine += ["--analysers", *arguments.analysers]
    ways = (
        {"ours": mine}
        if arguments.no_peer
        else {"cookbook": [arguments.peer, str(HERE / "cookbook_way.py"), str(path)], "ours": mine}
    )
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for way, command in ways.items():
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if way not in best or result["seconds"] < best[way]["seconds"]:
                best[way] = result
    for way, result in best.items():
        rate, peak = size / result["seconds"] / 1e6, result["peak_bytes"] / 1e6
        print(
            f"{size / 1e6:7.0f}M {way:<10} {result['seconds']:8.2f} {rate:8.1f} {peak:8.0f} {result['tokens']:12.0f} {result['errors']:7.0f}"
        )
    if len(best) == 2:
        print(
            f"{'':8} ratio {best['cookbook']['seconds'] / best['ours']['seconds']:.1f}x (best of {arguments.rounds} rounds each)"
        )


def ours(path: Path, analysers: list[str] | None) -> dict[str, float]:
    from tunesmith.data.analysers import DEFAULT_ANALYSERS
    from tunesmith.data.check import check_file, cores

    started = time.perf_counter()
    report = check_file(path, analysers=DEFAULT_ANALYSERS if analysers is None else analysers)
    seconds = time.perf_counter() - started
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = (own + worker * cores()) * 1024
    return {"seconds": seconds, "peak_bytes": peak, "tokens": report.openai_tokens, "errors": report.error_count}


if __name__ == "__main__":
    main()
