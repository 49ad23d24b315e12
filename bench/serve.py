"""Compares Tunesmith's engine with its peers, on the same base and prompts.

    python bench/serve.py [--quick] [--rounds N] [--streams N ...] [--engines NAME ...] [--only FIGURE ...]
                          [--data FOLDER] [--adapter DIR ...] [--tuned-on FILE]
                          [--shape qwen3-0.6b | llama3.2-1b | qwen3-1.7b | llama3.2-3b]

transformers and PEFT are in the environment that `make setup` makes. The other peers have environments of their own;
one that is missing is left out, with a message:

    python -m venv .venvs/llamacpp && .venvs/llamacpp/bin/pip install xllamacpp==2026.10.11549
    python -m venv .venvs/openvino && .venvs/openvino/bin/pip install openvino-genai==2026.4.1.0 \\
        optimum-intel==2.2.0 nncf==3.4.0 torch==2.13.0
    .venvs/openvino/bin/pip uninstall --yes torchvision    # it may want another torch, and is not needed

xllamacpp is llama.cpp's server in a wheel. It is built for AVX2: where a processor has AVX-512, a llama.cpp built on
that machine is faster. Its weights and the adapters are converted to GGUF here; OpenVINO's model with `optimum-cli`.
Both are kept in Tunesmith's cache directory.

Each engine runs in a process of its own, which is paused while another is measured. All are asked in turn within
every round; the table has the medians over the rounds and their ranges (min-max).

prefill   seconds to the first token of an unseen prompt of 512 tokens; then of the same prompt with 16 tokens more,
          whose beginning may be cached
decode    streams with prompts of 16 to 160 tokens, made from chat rows, all with one adapter or each with its own. The
          same requests are made for one token and for many; the rate is that of the additional tokens
drafts    one stream at a time with the tuned adapter, on rows held out of its tuning data and on rows unlike them, to
          the end of the turn; with drafting on and off
add       seconds until an adapter that the engine has not seen can answer, without the time of the answer itself

The share of the limit is relative to what memory bandwidth (every weight and adapter once a step) or the best float32
matrix product allows, whichever is less. A 16-bit engine may exceed the latter.

The machine has to be idle otherwise. llama.cpp's threads wait for each other without sleeping: eight answers of four
tokens took it 0.7 s on idle cores and 15.7 s beside another program. The share that other programs took is printed.

`--shape` takes a base of that shape with random weights in bfloat16 (`bench/shapes.py`), which is made once, and random
adapters: its answers mean nothing, its speed and memory do. llama.cpp's files of it are our own exports.

By default the rows are made from a seed, the first adapter is tuned on two thirds of the demo's rows in about a minute,
and the others are random. One round takes three to five minutes on two cores, and about two with `--quick`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGTERM, signal

from tunesmith.models.directory import packaged_gguf, pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import load_renderer
from tunesmith.settings import Settings
from tunesmith.system.cpu import cpu_count

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.serving.engines import KINDS, SHAPED, UNSHAPED, ForeignWork, Models, Running, present
from bench.serving.peers import MOST_STREAMS
from bench.serving.tables import Figure, Machine, Sample, Sizes, print_tables
from bench.serving.texts import Texts, random_adapter, read_texts, tune
from bench.shapes import SHAPES, base_of_shape
from bench.training.rows import write_rows

ROOT = Path(__file__).resolve().parents[1]
BASE = "smollm2-135m-instruct"
DEMO = ROOT / "examples" / "weather-jokes.jsonl"
DRAFTED_STREAMS = 4  # more of them leave no room for drafts in a step


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    streams: tuple[int, ...]
    tokens: int  # of an answer
    answer_tokens: int  # of one that may end by itself
    epochs: int  # of the tuned adapter


THOROUGH = Plan(rounds=3, streams=(1, 4, 8, 16), tokens=64, answer_tokens=96, epochs=8)
QUICK = Plan(rounds=3, streams=(1, 8), tokens=24, answer_tokens=32, epochs=4)


def prefill(engine: Running, texts: Texts, _: Plan, number: int) -> Iterator[Sample]:
    prompt, ending = texts.long(number)
    cold, _tokens = engine.ask([prompt], [0], 1, cache=f"round {number}")
    yield Sample(engine.name, Figure("prefill, 512 tokens", "tokens/s"), len(prompt) / cold)
    yield Sample(engine.name, Figure("first token, unseen prompt", "ms"), cold * 1000)
    if engine.kind.caches:
        cached, _tokens = engine.ask([prompt + ending], [0], 1, cache=f"round {number}")
        yield Sample(engine.name, Figure("first token, 512 cached", "ms"), cached * 1000)


def decode(engine: Running, texts: Texts, plan: Plan, _: int) -> Iterator[Sample]:
    for streams in plan.streams:
        if engine.kind.undrafted and streams > DRAFTED_STREAMS:
            continue
        prompts = texts.streams[:streams]
        for different in (1, streams) if streams > 1 else (1,):
            adapters = [place % different for place in range(streams)]
            rate, answers = further_tokens(engine, prompts, adapters, plan.tokens)
            kind = "one adapter" if different == 1 else f"{different} adapters"
            name = f"decode, {streams} stream{'s' if streams > 1 else ''}, {kind}"
            yield Sample(engine.name, Figure(name, "tokens/s", streams, different), rate, answers)


def drafts(engine: Running, texts: Texts, plan: Plan, _: int) -> Iterator[Sample]:
    for name, prompts in (("like the tuning data", texts.like), ("unlike it", texts.unlike)):
        adapters = [0] * len(prompts)
        rate, answers = further_tokens(engine, prompts, adapters, plan.answer_tokens, texts.ends)
        yield Sample(engine.name, Figure(f"1 stream, text {name}", "tokens/s", 1), rate, answers)


def further_tokens(
    engine: Running, prompts: list[list[int]], adapters: list[int], tokens: int, ends: frozenset[int] | None = None
) -> tuple[float, tuple[tuple[int, ...], ...]]:
    """Tokens per second after the first of each answer, and the answers.

    `ends`: tokens that may end an answer; one prompt is asked after the other then.
    """
    alone = ends is not None
    first_seconds, firsts = engine.ask(prompts, adapters, 1, stop=alone, in_turn=alone)
    seconds, answers = engine.ask(prompts, adapters, tokens, stop=alone, in_turn=alone)
    further = sum(made(answer, tokens, ends) for answer in answers) - len(firsts)
    return further / (seconds - first_seconds), tuple(map(tuple, answers))


def made(answer: list[int], most: int, ends: frozenset[int] | None) -> int:
    """Tokens of an answer; with the one that ends it, which some engines do not show."""
    if ends is None:
        return len(answer)
    return min(most, sum(token not in ends for token in answer) + 1)


FIGURES: dict[str, Callable[[Running, Texts, Plan, int], Iterator[Sample]]] = {
    "prefill": prefill,
    "decode": decode,
    "drafts": drafts,
}


def measure(
    engines: list[Running], figures: list[str], texts: Texts, plan: Plan, fresh: list[Path]
) -> Iterator[Sample]:
    """Measures all engines in every round, each time in another order.

    `fresh`: an unseen adapter for each round.
    """
    for engine in engines:  # warms up: threads, buffers, adapters
        prompts = texts.streams[:8]
        engine.ask(prompts, [*range(len(prompts))], 4)
    for number, adapter in enumerate(fresh):
        order = engines[number % len(engines) :] + engines[: number % len(engines)]
        for figure in figures:
            for engine in order:
                print(f"\r{figure}, {engine.name}".ljust(40), end="", file=sys.stderr, flush=True)
                if figure != "prefill" or not engine.kind.undrafted:
                    yield from FIGURES[figure](engine, texts, plan, number)
        for engine in order:
            seconds = None if engine.kind.undrafted else engine.add(adapter)
            if seconds is not None:
                yield Sample(engine.name, Figure("adding an adapter", "ms"), seconds * 1000)
        print("\r".ljust(40), end="\r", file=sys.stderr, flush=True)


def make_adapters(options: argparse.Namespace, base_dir: Path, scratch: Path, plan: Plan) -> list[Path]:
    """Adapters for the streams, and an unseen one for each round.

    Those given, or a tuned one, come first; the others are random.
    """
    renderer, streams = load_renderer(base_dir), max(plan.streams)
    adapters: list[Path] = options.adapter or []
    if not adapters and not options.shape:
        adapters = [tune(base_dir, options.tuned_on, scratch / "tuned", plan.epochs)]
    known = adapters[:streams]
    return known + [
        random_adapter(base_dir, scratch / f"random-{seed}", renderer, seed)
        for seed in range(len(known), streams + plan.rounds)
    ]


def run(options: argparse.Namespace, plan: Plan, scratch: Path) -> None:
    settings = Settings()
    base = resolve_base(BASE, settings)
    base_dir = base_of_shape(options.shape, settings) if options.shape else pull(base, settings)
    data = options.data or scratch / "rows"
    if options.data is None:
        write_rows(data)
    renderer = load_renderer(base_dir)
    texts = read_texts(data, options.tuned_on, renderer, max(plan.streams))
    adapters = make_adapters(options, base_dir, scratch, plan)
    derived = settings.cache_dir / "bench"
    derived.mkdir(parents=True, exist_ok=True)
    gguf, environments = None if options.shape else packaged_gguf(base, settings), options.environments
    models = Models(base_dir, gguf, adapters[: -plan.rounds], derived, scratch, environments, options.threads)
    with ExitStack() as stack:
        engines = [stack.enter_context(Running(name, models)) for name in present(options.engines, models)]
        foreign = ForeignWork(engines)
        samples = [*measure(engines, options.only, texts, plan, adapters[-plan.rounds :])]
        share = foreign.share()
        machine = Machine.measured(options.threads)
        print_heading(texts, plan, len(engines), options.threads)
        sizes = Sizes.of(json.loads((base_dir / "config.json").read_text("utf-8")))
        print_tables(samples, machine, sizes, renderer.eos_ids)
        print_processes(engines, share)


def print_heading(texts: Texts, plan: Plan, engines: int, threads: int) -> None:
    lengths = sorted(map(len, texts.streams))
    print(
        f"\n{engines} engines, {threads} threads each; medians and ranges of {plan.rounds} round(s),"
        f" {plan.tokens} tokens an answer. {len(lengths)} prompts of {lengths[0]} to {lengths[-1]} tokens."
    )


def print_processes(engines: list[Running], foreign: float) -> None:
    print("\n| process | peak memory, MB | from its start until it can answer, s |\n| --- | ---: | ---: |")
    for engine in engines:
        print(f"| {engine.kind.title} | {engine.peak_bytes() / 1e6:.0f} | {engine.start_seconds:.1f} |")
    print("\nWhere no time is given for adding an adapter, the process has to be started again.")
    print(f"Other programs used {foreign:.1%} of the processors meanwhile; above 2% only a quieter run means anything.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short answers at 1 and 8 streams only")
    parser.add_argument("--rounds", type=int, help="default: 3; of fewer, the ranges say little")
    parser.add_argument("--streams", type=int, nargs="+", help=f"decoded together, at most {MOST_STREAMS}")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="default: all processors it may use")
    parser.add_argument("--engines", nargs="+", choices=KINDS, help="default: all, or those for a base of a shape")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=[*FIGURES])
    parser.add_argument("--data", type=Path, help="folder of *.jsonl files; default: rows made from a seed")
    parser.add_argument("--adapter", type=Path, nargs="+", help="tuned models; the first answers the drafts' rows")
    parser.add_argument("--tuned-on", type=Path, default=DEMO, help="rows that the first adapter is tuned on")
    parser.add_argument("--shape", choices=SHAPES, help="a base of this shape with random weights")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venvs")
    options = parser.parse_args()
    options.engines = options.engines or [*(SHAPED if options.shape else UNSHAPED)]
    plan = QUICK if options.quick else THOROUGH
    streams = tuple(options.streams or plan.streams)
    if not all(1 <= number <= MOST_STREAMS for number in streams):
        parser.error(f"--streams: from 1 to {MOST_STREAMS}.")
    plan = replace(plan, rounds=options.rounds or plan.rounds, streams=streams)
    signal(SIGTERM, lambda *_: sys.exit(143))  # so that the engines' processes, which stand still, end with this one
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
        run(options, plan, Path(folder))


if __name__ == "__main__":
    main()
