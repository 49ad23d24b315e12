"""What our API costs beside the web framework it stands on: `python bench/api.py`.

    python bench/api.py [--requests 400] [--rounds 3] [--connections 1 16] [--training] [--epochs 40]

A real server on a scratch folder and a bare Starlette application, which answers each path with the same bytes from
memory on the same uvicorn settings, are asked in turn. Prints requests a second and milliseconds at the median, the
90th and the 99th percentile (medians of the rounds), and the ratio; with `--training` while a job trains on the demo
base on the same processors. Starlette reads a POST's body and throws it away; we check it, write it and sync.
"""

import argparse
import http.client
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.http_load.load import Request, Timing, ask, limit
from bench.http_load.server import server
from bench.training.rows import write_rows

from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store import open_store

Address = tuple[str, int]
BOUNDARY = "tunesmith-bench"
BASE = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    request: Request


@dataclass(frozen=True, slots=True)
class Figures:
    rate: float  # requests a second
    percentiles: tuple[float, float, float]  # 50, 90, 99; milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400, help="of each route, round and number of connections")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--training", action="store_true", help="measure while a job trains")
    parser.add_argument("--epochs", type=int, default=40, help="of that job, which is cancelled in the end")
    options = parser.parse_args()
    most = {count: limit(count) for count in options.connections}
    print(f"The generator itself: {', '.join(f'{most[n]:,.0f}/s over {n}' for n in most)} connections at most.")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", limit_uploads_per_minute=0)
        store = open_store(settings)
        key, _ = store.keys.create("bench")
        store.close()
        with server(settings, worker=options.training) as (address, _):
            file_id = _upload(address, key, Path(folder))
            job = _create(address, key, file_id, options.epochs)
            routes = _routes(key, file_id, job)
            if not options.training:
                measure(address, routes, options, "no job runs")
                return
            _wait(lambda: _trained(address, key, job), "the first step")
            measure(address, routes, options, "a job trains")
            still = _get(address, key, f"/v1/fine_tuning/jobs/{job}")["status"]
            _call(address, Request("POST", f"/v1/fine_tuning/jobs/{job}/cancel", key))
            print(f"The job was {still} at the end" + ("." if still == "running" else ": give it more --epochs."))


def measure(address: Address, routes: Sequence[Route], options: argparse.Namespace, title: str) -> None:
    answers = {(route.request.method, route.request.path): _call(address, route.request) for route in routes}
    with bare(answers) as peer:
        for connections in options.connections:
            table = Table(
                "route", "Starlette /s", "p50", "p90", "p99", "Tunesmith /s", "p50", "p90", "p99", "ratio",
                title=f"{title}; {connections} connection(s); milliseconds", title_justify="left",
            )  # fmt: skip
            for route in routes:
                rounds: list[tuple[Timing, Timing]] = []
                for _ in range(options.rounds + 1):  # the first warms up
                    theirs = ask(peer, [route.request] * options.requests, connections=connections)
                    ours = ask(address, [route.request] * options.requests, connections=connections)
                    rounds.append((theirs, ours))
                theirs_all, ours_all = zip(*rounds[1:], strict=True)
                one, other = _figures(theirs_all), _figures(ours_all)
                table.add_row(route.name, *_cells(one), *_cells(other), f"{other.rate / one.rate:.2f}")
            Console(width=120).print(table)


def _figures(timings: Sequence[Timing]) -> Figures:
    def median(of: Callable[[Timing], float]) -> float:
        return statistics.median(of(timing) for timing in timings)

    shares = (median(lambda timing, p=percent: timing.percentile(p)) for percent in (50, 90, 99))  # type: ignore[misc]
    return Figures(median(lambda timing: timing.rate), tuple(shares))  # type: ignore[arg-type]


def _cells(figures: Figures) -> list[str]:
    return [f"{figures.rate:,.0f}", *(f"{one:.2f}" for one in figures.percentiles)]


def _routes(key: str, file_id: str, job: str) -> list[Route]:
    def get(path: str) -> Request:
        return Request("GET", path, key)

    upload = Request(
        "POST", "/v1/files", key, _form(b'{"messages": []}\n'), f"multipart/form-data; boundary={BOUNDARY}"
    )
    return [
        Route("models", get("/v1/models")),
        Route("file", get(f"/v1/files/{file_id}")),
        Route("job", get(f"/v1/fine_tuning/jobs/{job}")),
        Route("20 jobs", get("/v1/fine_tuning/jobs")),
        Route("20 events", get(f"/v1/fine_tuning/jobs/{job}/events")),
        Route("file of 15 KB", get(f"/v1/files/{file_id}/content")),
        Route("upload", upload),
    ]


def _form(content: bytes) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'.encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'.encode(),
    ]
    return b"".join([*parts, content, f"\r\n--{BOUNDARY}--\r\n".encode()])


def _upload(address: Address, key: str, folder: Path) -> str:
    write_rows(folder, seed=0, rows=1)
    body = _form((folder / "weather.jsonl").read_bytes()).replace(b"user_data", b"fine-tune")
    request = Request("POST", "/v1/files", key, body, f"multipart/form-data; boundary={BOUNDARY}")
    return str(json.loads(_call(address, request))["id"])


def _create(address: Address, key: str, file_id: str, epochs: int) -> str:
    body = {"model": BASE, "training_file": file_id, "hyperparameters": {"n_epochs": epochs, "batch_size": 1}}
    request = Request("POST", "/v1/fine_tuning/jobs", key, json.dumps(body).encode())
    return str(json.loads(_call(address, request))["id"])


def _trained(address: Address, key: str, job: str) -> bool:
    found = _get(address, key, f"/v1/fine_tuning/jobs/{job}")
    if found["status"] in ("failed", "cancelled", "succeeded"):
        raise SystemExit(f"The job has {found['status']}: {found['error']}")
    events = _get(address, key, f"/v1/fine_tuning/jobs/{job}/events?limit=100")["data"]
    return isinstance(events, list) and any(isinstance(one, dict) and one["type"] == "metrics" for one in events)


def _wait(done: Callable[[], bool], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {seconds:.0f} s for {what}.")
        time.sleep(0.5)


def _get(address: Address, key: str, path: str) -> JsonObject:
    found: JsonObject = json.loads(_call(address, Request("GET", path, key)))
    return found


def _call(address: Address, request: Request) -> bytes:
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {"authorization": f"Bearer {request.key}", "content-type": request.content_type}
    connection.request(request.method, request.path, request.body or None, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{request.method} {request.path}: {response.status} {body.decode()}")
    return body


@contextmanager
def bare(answers: dict[tuple[str, str], bytes]) -> Iterator[Address]:
    """A Starlette application in a process of its own, with one answer for each method and path."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_bare, args=(answers, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve_bare(answers: dict[tuple[str, str], bytes], pipe: Connection) -> None:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request as Asked
    from starlette.responses import Response
    from starlette.routing import Route as Path_

    def endpoint(body: bytes) -> Callable[[Asked], object]:
        async def answer(request: Asked) -> Response:
            await request.body()
            return Response(body, media_type="application/json")

        return answer

    paths = [Path_(path, endpoint(body), methods=[method]) for (method, path), body in answers.items()]
    # With its protocol named, as our own listener: else asyncio leaves Nagle's algorithm on, 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    pipe.send(listener.getsockname())
    app = Starlette(routes=paths)
    config = uvicorn.Config(app, http="httptools", log_config=None, access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
