"""The slowest requests that any key can make, and what others feel meanwhile: `python -m bench.http_load.worst`.

    python -m bench.http_load.worst [--only WORD] [--seconds 60]

A real server on a scratch folder is sent one hostile request after another, each by a read-only key, while another
connection asks /healthz every 10 ms. Prints for each the status, its own seconds, and the 99th percentile and the
longest of the others' milliseconds, slowest first. "idle" is how the machine does with nothing hostile.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.http_load.server import server
from rich.console import Console
from rich.table import Table

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import open_store

CHAT, GRADERS, TEXTS = "/v1/chat/completions", "/v1/fine_tuning/alpha/graders/run", "/v1/moderations"
COMPLETIONS = "/v1/completions"
MB = 1_000_000
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Hostile:
    name: str
    path: str
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Felt:
    name: str
    status: str
    seconds: float
    others: list[float]  # seconds of each /healthz meanwhile

    @property
    def row(self) -> list[str]:
        p99 = statistics.quantiles(self.others, n=100, method="inclusive")[98] if len(self.others) > 1 else 0.0
        return [self.name, self.status, f"{self.seconds:.2f}", f"{1000 * p99:.0f}", f"{1000 * max(self.others):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="requests whose name has this word")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which a request is given up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        store = open_store(settings)
        key = store.keys.create("hostile", role="read-only")[0]
        store.close()
        with server(settings) as (address, _):
            _send(address, key, _chat("warm", messages=[{"role": "user", "content": "a"}]), 400)
            felt = [_felt(address, key, Hostile("idle", "", b""), 2.0)]
            felt += [_felt(address, key, one, options.seconds) for one in hostile() if options.only in one.name]
    table = Table("request", "status", "s", "others p99 ms", "longest ms")
    for one in sorted(felt, key=lambda one: -one.seconds):
        table.add_row(*one.row)
    Console(width=120).print(table)


def hostile() -> Iterator[Hostile]:
    """One request for each way to make the server work that we know of."""
    user: JsonObject = {"role": "user", "content": "a"}
    yield _chat("long message", messages=[{"role": "user", "content": "Ein Satz. " * 400_000}])
    yield _chat("long words", messages=[{"role": "user", "content": "x" * 900_000}])
    yield _chat("900,000 blanks and a letter", messages=[{"role": "user", "content": " " * 900_000 + "a"}])
    for count in (1000, 8000, 100_000):
        yield _chat(f"{count} messages", messages=[user, {"role": "assistant", "content": "b"}] * (count // 2))
    yield _chat("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "a"}] * 90_000}])
    yield _chat("metadata", messages=[user], store=True, metadata={str(n): n for n in range(300_000)})
    yield _chat("logit_bias", messages=[user], logit_bias={str(n): 0 for n in range(300_000)})
    yield _chat("stops", messages=[user], stop=[1] * 900_000)
    yield _chat("stop strings", messages=[user], stop=["ab" * 400_000] * 4)
    yield _chat("tools", messages=[user], tools=[1] * 900_000)
    yield _chat("modalities", messages=[user], modalities=[1] * 900_000)
    yield _chat("unknown names", messages=[user], **{f"x{n}": n for n in range(300_000)})
    yield _post("lists", CHAT, b"[" + b"[]," * MB + b"[]]")
    yield _post("nested lists", CHAT, b"[" * MB + b"]" * MB)
    yield _post("objects", "/v1/moderations", b'{"input":[' + b"{}," * MB + b"{}]}")
    yield _post("multipart", CHAT, b"[" + b"1," * (15 * MB) + b"1]", "multipart/form-data; boundary=x")
    yield _post("digits", CHAT, b'{"n":' + b"1" * (4 * MB) + b"}")
    yield _post("escapes", CHAT, b'{"model":"' + b"\\u0061" * 600_000 + b'"}')
    yield _grader("blanks", "{{" + " " * 3_000_000)
    yield _grader("braces", "{{ " * MB)
    yield _grader("path", "{{item" + ".a" * MB + "}}")
    yield _grader("long value", "{{item.a}}" * 20_000, item={"a": "a" * MB})
    yield _grader(
        "sample again",
        "".join(f"{{{{sample.output_json[{'0' * n}]}}}}" for n in range(1, 900)),
        "[" + "0," * 400_000 + "0]",
    )
    words = " ".join(str(n) for n in range(16_000))
    for metric in ("fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_5", "rouge_l"):
        body = {
            "type": "text_similarity",
            "name": "a",
            "input": words,
            "reference": words[::-1],
            "evaluation_metric": metric,
        }
        yield _post(metric, GRADERS, json.dumps({"grader": body, "model_sample": "a"}).encode())
    many = {
        "type": "score_model",
        "name": "a",
        "model": "smollm2-135m-instruct",
        "input": [{"role": "user", "content": "a"}] * 50_000,
    }
    yield _post("grading messages", GRADERS, json.dumps({"grader": many, "model_sample": "a"}).encode())
    for name, text in (
        ("dots", "f.u.c.k. "),
        ("spaced", "f u c k "),
        ("stars", "f*ck"),
        ("repeats", "fuuuuuuck "),
        ("plain", "you are a fuck "),
    ):
        yield _post(f"moderation: {name}", TEXTS, json.dumps({"input": text * (MB // len(text))}).encode())
    yield _post("moderation: one word", TEXTS, json.dumps({"input": "f.u.c.k." * 120_000}).encode())
    yield _post(
        "moderation: many", TEXTS, json.dumps({"input": [f"{n} f.u.c.k. " * 300 for n in range(1024)]}).encode()
    )
    yield _post(
        "token ids", COMPLETIONS, json.dumps({"model": "smollm2-135m-instruct", "prompt": [1] * 1_200_000}).encode()
    )
    yield _post(
        "prompts",
        COMPLETIONS,
        json.dumps({"model": "smollm2-135m-instruct", "prompt": ["word " * 6000] * 128}).encode(),
    )


def _chat(name: str, **fields: object) -> Hostile:
    return _post(name, CHAT, json.dumps({"model": "smollm2-135m-instruct", "max_tokens": 1, **fields}).encode())


def _grader(name: str, text: str, sample: str = "a", item: JsonObject | None = None) -> Hostile:
    grader = {"type": "string_check", "name": "a", "input": text, "reference": "b", "operation": "eq"}
    return _post(
        f"template: {name}",
        GRADERS,
        json.dumps({"grader": grader, "model_sample": sample, "item": item or {}}).encode(),
    )


def _post(name: str, path: str, body: bytes, content_type: str = "application/json") -> Hostile:
    return Hostile(name, path, body, content_type)


def _felt(address: Address, key: str, one: Hostile, seconds: float) -> Felt:
    with _others(address) as others:
        begun = time.perf_counter()
        if one.path:
            status = _send(address, key, one, seconds)
        else:
            time.sleep(seconds)
            status = ""
        took = time.perf_counter() - begun
    print(one.name, status, round(took, 2), flush=True)
    return Felt(one.name, status, took, others)


def _send(address: Address, key: str, one: Hostile, seconds: float) -> str:
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    headers = {"authorization": f"Bearer {key}", "content-type": one.content_type}
    try:
        connection.request("POST", one.path, one.body, headers)
        return str(connection.getresponse().status)
    except TimeoutError:
        return "given up"
    except OSError as error:  # refused and closed before all of it was sent
        return type(error).__name__
    finally:
        connection.close()


@contextmanager
def _others(address: Address) -> Iterator[list[float]]:
    """The seconds of each /healthz while the block runs."""
    times: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(*address, timeout=120)
        while not stop.wait(0.01):
            begun = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            times.append(time.perf_counter() - begun)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.1)
    try:
        yield times
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
