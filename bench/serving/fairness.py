"""How long one project's short answer waits while another keeps long ones running.

python -m bench.serving.fairness [--answers 16] [--tokens 4096] [--times 50]

Prints the time to the first token of two-token chats (median, 95th percentile, longest), and the long answers' tokens
a second without and beside them.
"""

import argparse
import time
from collections.abc import Sequence

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.local.engine import LocalEngine, load_engine
from tunesmith.settings import Settings

ALONE_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--times", type=int, default=50)
    asked = parser.parse_args()
    settings = Settings()
    engine = load_engine(pull(resolve_base("smollm2-135m-instruct", settings), settings), settings)
    long = GenerateRequest((1, 2, 3), asked.tokens, frozenset(), n=asked.answers, seed=1, project="long")
    running = engine.submit(long)
    next(iter(running))
    alone = _rate(running, ALONE_SECONDS)
    print(f"{asked.answers} long answers alone: {alone:.1f} tokens/s", flush=True)
    _taken(running)
    began = time.perf_counter()
    waits = [_first_token(engine, number) for number in range(asked.times)]
    beside = _taken(running) / (time.perf_counter() - began)
    print(f"beside short ones: {beside:.1f} tokens/s")
    print(f"first token of {asked.times} short answers: {_summary(waits)}")
    running.close()
    engine.close()
    engine.join(10)


def _first_token(engine: LocalEngine, number: int) -> float:
    prompt = tuple(range(100 + number, 140 + number))
    began = time.perf_counter()
    short = engine.submit(GenerateRequest(prompt, 2, frozenset(), temperature=0, project="short"))
    reader = iter(short)
    next(reader)
    waited = time.perf_counter() - began
    list(reader)
    return waited


def _rate(running: Generation, seconds: float) -> float:
    _taken(running)
    time.sleep(seconds)
    return _taken(running) / seconds


def _taken(running: Generation) -> int:
    """How many tokens have come since the last call."""
    with running._changed:
        return len(running._take())


def _summary(waits: Sequence[float]) -> str:
    ordered = sorted(waits)
    middle, most = ordered[len(ordered) // 2], ordered[-1]
    return f"median {middle:.2f} s, 95% within {ordered[int(0.95 * (len(ordered) - 1))]:.2f} s, longest {most:.2f} s"


if __name__ == "__main__":
    main()
