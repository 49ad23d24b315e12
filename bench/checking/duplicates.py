"""Near-duplicate and leak detection on a planted set: recall, precision and speed.

    python bench/checking/duplicates.py                  # 20,000 rows, about 14 MB
    python bench/checking/duplicates.py --rows 200000

Rows are made from a seed: English-like, Chinese and Cyrillic texts, a third of them behind one shared system prompt.
Planted among them: exact copies, edited copies on both sides of the threshold, rows of one template, and unrelated
rows. What is a near-duplicate is decided by brute force: the true Jaccard similarity of every planted pair, by sets of
Python slices instead of the arrays under test. A reported pair counts as right if its own brute-force similarity
reaches the threshold.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.rules.duplicates import THRESHOLD, find_exact, find_near
from tunesmith.check.rules.leaks import find_leaks, index_file
from tunesmith.check.scan.file_scan import cores

SYSTEM = "You are the helpful assistant of a hardware shop. Answer briefly, in the language of the question. " * 4
ALPHABETS = {
    "latin": "etaoinshrdlucmfwypvbgk",
    "cyrillic": "оеаинтсрвлкмдпуяыьгзбч",
    "chinese": "".join(chr(code) for code in range(0x4E00, 0x4E00 + 2500)),
}

Row: TypeAlias = dict[str, list[dict[str, str]]]


@dataclass
class Planted:
    """`sources[i]` is the row that row i was edited from; None for rows of their own."""

    rows: list[Row] = field(default_factory=list)
    sources: list[int | None] = field(default_factory=list)


def planted(count: int, seed: int) -> Planted:
    rng = random.Random(seed)
    vocabulary = {name: _vocabulary(rng, name) for name in ALPHABETS}
    found = Planted()
    while len(found.rows) < count:
        script = rng.choice(list(ALPHABETS))
        words = vocabulary[script]
        turn = rng.random()
        if turn < 0.12 and found.rows:
            source = rng.randrange(len(found.rows))
            found.rows.append(_edited(rng, found.rows[source], words, rng.uniform(0.0, 0.12)))
            found.sources.append(source)
        elif turn < 0.2:
            topic = " ".join(rng.choices(words, k=3))
            found.rows.append(
                _row(f"Write a short note for our customers about {topic}", _text(rng, words, script), True)
            )
            found.sources.append(None)
        else:
            found.rows.append(_row(_text(rng, words, script), _text(rng, words, script), rng.random() < 0.33))
            found.sources.append(None)
    return found


def said(row: Row) -> set[bytes]:
    """The shingles of a row, by the definition in words and by other means than the code under test."""
    text = "\n".join(message["content"] for message in row["messages"] if message["role"] != "system").encode()
    dropped = set(range(33)) | set(b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f")
    kept = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in text if byte not in dropped)
    return {kept[at : at + 6] for at in range(len(kept) - 5)}


def similarity(one: set[bytes], other: set[bytes]) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


def score_duplicates(planted: Planted, path: Path) -> tuple[float, float, int]:
    """(recall, precision, pairs to be found) of exact and near duplicates within the file at `path`."""
    index = index_file(path)
    found = [*find_exact(index.whole).pairs, *find_near(index.whole, index.rows).pairs]
    pairs = [(line - 1, earlier - 1) for line, earlier, _ in found]
    return score(planted.rows, planted.rows, planted.sources, pairs)


def score_leaks(planted: Planted, training: Path, validation: Path, cut: int) -> tuple[float, float, int]:
    """The same between two files: rows before `cut` are the training file."""
    found = find_leaks(training, validation)
    pairs = [(line - 1, other - 1) for line, other, _ in (*found.exact, *found.near)]
    sources = [source if source is not None and source < cut else None for source in planted.sources[cut:]]
    return score(planted.rows[cut:], planted.rows[:cut], sources, pairs)


def score(
    rows: list[Row], others: list[Row], sources: list[int | None], pairs: list[tuple[int, int]]
) -> tuple[float, float, int]:
    expected = {
        row
        for row, source in enumerate(sources)
        if source is not None and similarity(said(rows[row]), said(others[source])) >= THRESHOLD
    }
    right = sum(similarity(said(rows[row]), said(others[other])) >= THRESHOLD for row, other in pairs)
    reported = {row for row, _ in pairs}
    return len(expected & reported) / len(expected), right / len(pairs), len(expected)


def write(rows: list[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _vocabulary(rng: random.Random, script: str) -> list[str]:
    letters = ALPHABETS[script]
    longest = 2 if script == "chinese" else 9
    return ["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(8_000)]


def _text(rng: random.Random, words: list[str], script: str) -> str:
    joint = "" if script == "chinese" else " "
    return joint.join(rng.choices(words, k=rng.randint(12, 90)))


def _row(question: str, answer: str, system: bool) -> Row:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": SYSTEM}, *messages] if system else messages}


def _edited(rng: random.Random, row: Row, words: list[str], rate: float) -> Row:
    """A copy with each word replaced, dropped or doubled at `rate`; at rate 0 an exact copy."""
    messages = [
        message if message["role"] == "system" else {**message, "content": _edit(rng, message["content"], words, rate)}
        for message in row["messages"]
    ]
    return {"messages": messages}


def _edit(rng: random.Random, text: str, words: list[str], rate: float) -> str:
    joint = " " if " " in text else ""
    pieces = text.split(" ") if joint else [text[at : at + 2] for at in range(0, len(text), 2)]
    edited = []
    for piece in pieces:
        kind = rng.random() / rate if rate else 1.0
        if kind >= 1.0:
            edited.append(piece)
        elif kind < 0.6:
            edited.append(rng.choice(words))
        elif kind < 0.8:
            edited += [piece, piece]
    return joint.join(edited) or text


def measure(path: Path) -> None:
    """Speed and memory of the whole check with and without near-duplicates, each in a process of its own."""
    megabytes = path.stat().st_size / 1e6
    for name, analysers in (("exact", ["duplicates"]), ("exact and near", ["duplicates", "near_duplicates"])):
        command = [sys.executable, __file__, "--check", str(path), *analysers]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"check, {name + ':':16} {result['seconds']:7.1f} s {megabytes / result['seconds']:7.1f} MB/s   "
            f"{result['peak']:5.0f} MB resident   {result['sections']}"
        )


def check(path: Path, analysers: Sequence[str]) -> None:
    """The child's part: one check, its result as JSON."""
    started = time.perf_counter()
    report = check_file(path, CheckOptions(analysers=tuple(analysers)))
    seconds = time.perf_counter() - started
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    shown = {}
    for name in analysers:
        section = report.sections[name]
        assert isinstance(section, dict)
        shown[name] = {key: section[key] for key in ("rows", "comparisons", "complete")}
    print(json.dumps({"seconds": seconds, "peak": (own + cores() * child) / 1000, "sections": shown}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--check", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        check(Path(options.check[0]), options.check[1:])
        return
    made = planted(options.rows, options.seed)
    cut = options.rows * 9 // 10
    with tempfile.TemporaryDirectory() as folder:
        whole, training, validation = (Path(folder) / f"{name}.jsonl" for name in ("whole", "training", "validation"))
        write(made.rows, whole)
        write(made.rows[:cut], training)
        write(made.rows[cut:], validation)
        print(f"{options.rows:,} rows, {whole.stat().st_size / 1e6:.1f} MB; threshold: Jaccard {THRESHOLD}, 6 bytes")
        for name, scored in (
            ("duplicates", score_duplicates(made, whole)),
            ("leaks", score_leaks(made, training, validation, cut)),
        ):
            print(f"{name:10}  recall {scored[0]:.4f}  precision {scored[1]:.4f}  ({scored[2]} planted)")
        measure(whole)


if __name__ == "__main__":
    main()
