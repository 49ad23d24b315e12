"""The cookbook way and `tunesmith check` in turn on the same file: MB/s, processor time and peak memory.

    python bench/check.py --megabytes 50 500 --peer PYTHON_WITH_TIKTOKEN --everything

Each run is a process of its own; the file is in the page cache and the encoding is loaded for both when the clock
starts. Our worker processes start inside the time. `--everything` adds the slower looks, once each: `near` for
near-duplicates, `judge` for moderation by the offline word rules. For ours, the memory is the parent's peak
plus that of its workers: never less than what was used at once.

The rows are the same for the same seed and size, on any machine. Their prose is Python's own language reference, which
every installation carries, so that nothing is downloaded and the words are real. The mix: 56 % one turn under a short
system message, 20 % several turns, 8 % under one long system message, 8 % tool calls with declarations, 8 % not
English. Nine tenths of the rows have their non-ASCII text escaped, as `json.dumps` does.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics

HERE = Path(__file__).parent
SYSTEMS = [
    "You are a helpful assistant.",
    "You answer questions about Python.",
    "Be brief.",
    "You are a code reviewer.",
]
FOREIGN = [
    "今天北京的天气晴朗,适合出门散步。请记得多喝水,并且带上一把伞,因为晚上可能会下雨。",
    "Die Prüfung der Daten ist wichtiger als das Modell; wer das übersieht, zahlt zweimal.",
    "Le modèle apprend ce que vous lui montrez, ni plus ni moins, même vos fautes.",
    "Завтра ожидается дождь, поэтому возьмите зонт и не опаздывайте на поезд.",
    "データが正しければ、学習はほとんど自動的に進みます。",
    "Los datos malos cuestan más que una máquina lenta, y nadie los revisa.",
]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place on a day.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "day": {"type": "string"}, "celsius": {"type": "boolean"}},
            "required": ["place"],
        },
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[50])
    parser.add_argument("--peer", default=sys.executable, help="a Python that has tiktoken (and litellm, if offline)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--analysers", nargs="*", default=None)
    parser.add_argument("--everything", action="store_true", help="also with near-duplicates, moderation, and both")
    parser.add_argument("--short", action="store_true", help="rows of about 80 bytes instead of the mix")
    parser.add_argument("--judged", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ours", metavar="FILE", help="check FILE in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(ours(Path(arguments.ours), arguments.analysers, judged=arguments.judged)))
        return
    print(
        f"{'file':>8} {'way':<10} {'seconds':>8} {'cpu s':>7} {'MB/s':>7} {'peak MB':>8} {'tokens':>12} {'errors':>7}"
    )
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            write_rows(path, megabytes * 1_000_000, short=arguments.short)
            measure(path, arguments)


def measure(path: Path, arguments: argparse.Namespace) -> None:
    size = path.stat().st_size
    mine = [sys.executable, str(Path(__file__)), "--ours", str(path)]
    if arguments.analysers is not None:
        mine += ["--analysers", *arguments.analysers]
    ways = {"cookbook": [arguments.peer, str(HERE / "checking" / "cookbook_way.py"), str(path)], "ours": mine}
    if arguments.no_peer:
        del ways["cookbook"]
    near = [*mine, "--analysers", "text_quality", "languages", "duplicates", "personal_data", "near_duplicates"]
    once = {"near": near, "judge": [*mine, "--judged"], "near+judge": [*near, "--judged"]}
    best: dict[str, dict[str, float]] = {}
    for turn in range(arguments.rounds):
        for way, command in {**ways, **(once if arguments.everything and not turn else {})}.items():
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if way not in best or result["seconds"] < best[way]["seconds"]:
                best[way] = result
    for way, result in best.items():
        rate, peak = size / result["seconds"] / 1e6, result["peak_bytes"] / 1e6
        times = f"{result['seconds']:8.2f} {result['cpu_seconds']:7.2f} {rate:7.1f}"
        print(f"{size / 1e6:7.0f}M {way:<10} {times} {peak:8.0f} {result['tokens']:12.0f} {result['errors']:7.0f}")
    if "cookbook" in best:
        ratio = best["cookbook"]["seconds"] / best["ours"]["seconds"]
        print(f"{'':8} ratio {ratio:.1f}x (best of {arguments.rounds} rounds each)")


def ours(path: Path, analysers: list[str] | None, *, judged: bool = False) -> dict[str, float]:
    from tunesmith.check.file_check import CheckOptions, check_file
    from tunesmith.check.scan.analysers import DEFAULT_ANALYSERS
    from tunesmith.check.scan.file_scan import cores
    from tunesmith.moderation.rows import moderate_file
    from tunesmith.settings import Settings
    from tunesmith.tokens import count_tokens

    count_tokens(["warm"])  # builds the encoding's tables, as the other way's first call does
    started, before = time.perf_counter(), cpu_seconds()
    options = CheckOptions(analysers=DEFAULT_ANALYSERS if analysers is None else tuple(analysers))
    report = check_file(path, options)
    if judged:
        moderate_file(path, Settings(moderation="warn"))
    seconds = time.perf_counter() - started
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = (own + worker * (cores() - 1)) * 1024
    cpu = cpu_seconds() - before
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "tokens": report.openai.tokens,
        "errors": report.error_count,
    }


def write_rows(path: Path, size: int, seed: int = 0, *, short: bool = False) -> int:
    """Writes about `size` bytes of rows; how many rows there are."""
    maker, rows, written = _Maker(seed), 0, 0
    with path.open("wb") as file:
        while written < size:
            row = maker.short_row(rows) if short else maker.row(rows)
            line = json.dumps(row, ensure_ascii=rows % 10 == 0).encode() + b"\n"
            file.write(line)
            written += len(line)
            rows += 1
    return rows


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _Maker:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        text = "\n".join(topics.values())
        self._sentences = [s.strip() for s in text.replace("\n", " ").split(". ") if 20 < len(s.strip()) < 400]
        self._long = self._prose(24)

    def row(self, number: int) -> dict[str, object]:
        kind = self._random.random()
        if kind < 0.08:
            return self._tool_row(number)
        if kind < 0.16:
            return {"messages": self._turns(self._long, 1)}
        if kind < 0.24:
            foreign = self._random.choices(FOREIGN, k=self._random.randint(2, 12))
            return {"messages": self._turns(foreign[0], 1, " ".join(foreign))}
        turns = 1 if kind < 0.8 else self._random.randint(2, 5)
        return {"messages": self._turns(self._random.choice(SYSTEMS), turns)}

    def short_row(self, number: int) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "Yes."}]}

    def _prose(self, sentences: int) -> str:
        return ". ".join(self._random.choices(self._sentences, k=sentences)) + "."

    def _turns(self, system: str, turns: int, answer: str | None = None) -> list[dict[str, object]]:
        messages: list[dict[str, object]] = [{"role": "system", "content": system}]
        for _ in range(turns):
            messages.append({"role": "user", "content": self._prose(self._random.randint(1, 3))})
            messages.append({"role": "assistant", "content": answer or self._prose(self._random.randint(1, 9))})
        return messages

    def _tool_row(self, number: int) -> dict[str, object]:
        call = {
            "name": "get_weather",
            "arguments": json.dumps({"place": self._random.choice("ABCDE"), "celsius": True}),
        }
        messages: list[dict[str, object]] = [
            {"role": "user", "content": self._prose(1)},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"c{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps({"degrees": number % 40})},
            {"role": "assistant", "content": self._prose(2)},
        ]
        return {"messages": messages, "tools": [TOOL]}


if __name__ == "__main__":
    main()
