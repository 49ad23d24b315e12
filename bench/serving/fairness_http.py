"""How long one project's chat waits over HTTP while another's long answers run.

    python -m bench.serving.fairness_http [--answers 16] [--tokens 4096] [--times 50]

A real server and keys of two projects. Prints the time to the first token of two-token chats (median, 95th percentile,
longest) alone and beside the long answers; exits with 1 where the 95th percentile is above 2 s.
"""

import argparse
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.http_load.server import server

from tunesmith.settings import Settings
from tunesmith.store import open_store

BASE, LIMIT_SECONDS = "smollm2-135m-instruct", 2.0
ENDS = (0, 2)  # the base's end tokens: a long answer goes on to its limit
Address = tuple[str, int]


def main() -> None:
    """Measure, print, and exit with 1 where others wait too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--times", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        store = open_store(settings)
        keys = [store.keys.create(name, project=store.projects.create(name).id)[0] for name in ("long", "short")]
        store.close()
        with server(settings) as (address, _):
            first_token(address, keys[1], 0)  # loads the base
            print(f"alone: {_summary([first_token(address, keys[1], number) for number in range(10)])}", flush=True)
            with long_answers(address, keys[0], asked.answers, asked.tokens) as tokens:
                begun, before = time.perf_counter(), tokens[0]
                waits = [first_token(address, keys[1], 100 + number) for number in range(asked.times)]
                rate = (tokens[0] - before) / (time.perf_counter() - begun)
                still = tokens[0] < asked.answers * asked.tokens
    print(f"beside {asked.answers} answers of {asked.tokens} tokens ({rate:.0f} tokens/s): {_summary(waits)}")
    if not still:
        raise SystemExit("The long answers ended before the short ones: give them more --tokens.")
    raise SystemExit(sorted(waits)[int(0.95 * (len(waits) - 1))] > LIMIT_SECONDS)


def first_token(address: Address, key: str, number: int) -> float:
    """Seconds to the first text of a streamed chat that nobody asked before."""
    begun = time.perf_counter()
    events = _stream(address, key, {"max_tokens": 2, "messages": [_message(f"What is {number} + 1?")]})
    waited = next(time.perf_counter() - begun for text in events if text)
    list(events)
    return waited


@contextmanager
def long_answers(address: Address, key: str, answers: int, tokens: int) -> Iterator[list[int]]:
    """Has them run; the list's number is how many tokens have come."""
    come, stop = [0], threading.Event()
    body = {"n": answers, "max_tokens": tokens, "messages": [_message("Tell me a story.")], "seed": 1}
    body["logit_bias"] = {str(token): -100 for token in ENDS}

    def read() -> None:
        for text in _stream(address, key, body):
            come[0] += bool(text)
            if stop.is_set():
                return

    thread = threading.Thread(target=read)
    thread.start()
    while come[0] < 2 * answers:  # all of them run
        time.sleep(0.05)
    try:
        yield come
    finally:
        stop.set()
        thread.join()


def _stream(address: Address, key: str, body: dict[str, object]) -> Iterator[str]:
    connection = http.client.HTTPConnection(*address, timeout=120)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": BASE, "stream": True, **body}), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{answer.status} {answer.read().decode()}")
        for line in answer:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    yield choice["delta"].get("content") or ""
    finally:
        connection.close()


def _message(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _summary(waits: list[float]) -> str:
    ordered = sorted(waits)
    middle, most = ordered[len(ordered) // 2], ordered[-1]
    within = ordered[int(0.95 * (len(ordered) - 1))]
    return f"first token median {middle:.2f} s, 95 % within {within:.2f} s, longest {most:.2f} s"


if __name__ == "__main__":
    main()
