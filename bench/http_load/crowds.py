"""Crowds of connections that want nothing good, and how soon somebody else is answered meanwhile.

    python bench/http_load/crowds.py

The server has 1,024 descriptors, as a shell gives it, and the crowd's sockets are in a process of their own.
"""

import argparse
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Address = tuple[str, int]
DESCRIPTORS = 1024
ASK_HEAD = b"POST %s HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
FORM = "multipart/form-data; boundary=b"
CROWD = """
import resource, socket, sys, time
count, hold, data = int(sys.argv[3]), float(sys.argv[4]), bytes.fromhex(sys.stdin.readline())
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = []
for _ in range(count):
    crowd.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10))
    if data:
        try:
            crowd[-1].sendall(data)
        except OSError:
            pass
print("there", flush=True)
ends = time.monotonic() + hold
while time.monotonic() < ends:
    time.sleep(0.5)
    for one in crowd if sys.argv[5] == "slow" else ():
        try:
            one.sendall(b" ")
        except OSError:
            pass
"""


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many connections that each send `data` and then nothing, or a byte twice a second."""

    name: str
    count: int
    data: bytes = b""
    slow: bool = False


def crowds(key: str) -> list[Crowd]:
    """All of them; `key` is one of a project that nobody else is in."""
    half = b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthoriz"
    upload = head("/v1/files", key, FORM, 10_000_000)
    chat = head("/v1/chat/completions", key, "application/json", 100_000)
    begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"a" * 70_000
    return [
        Crowd("1,100 idle connections", 1100),
        Crowd("1,100 half-sent heads", 1100, half),
        Crowd("200 slow bodies", 200, chat, slow=True),
        Crowd("16 silent uploads", 16, upload),
        Crowd("100 uploads that have begun", 100, upload + begun),
    ]


def head(path: str, key: str, kind: str, length: int) -> bytes:
    """The head of a request with a body that is not sent yet."""
    return ASK_HEAD % (path.encode(), key.encode(), kind.encode(), length)


@contextmanager
def standing(address: Address, crowd: Crowd, seconds: float = 60.0) -> Iterator[None]:
    """Has a crowd stand before the server."""
    arguments = [*map(str, address), str(crowd.count), str(seconds), "slow" if crowd.slow else ""]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", CROWD, *arguments], **pipes)  # type: ignore[call-overload]
    try:
        process.stdin.write(f"{crowd.data.hex()}\n")
        process.stdin.flush()
        if process.stdout.readline() != "there\n":
            raise RuntimeError("The crowd could not connect.")
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def small_server(folder: Path, **settings: str) -> Iterator[tuple[Address, Path]]:
    """`tunesmith serve` with `DESCRIPTORS`: its address, and its log."""
    ready, log = folder / "ready.json", folder / "server.log"
    variables = {f"TUNESMITH_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "tunesmith.cli", "serve", "--port", "0", "--no-worker", "--ready-file", str(ready)]
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            env={**os.environ, "TUNESMITH_DATA_DIR": str(folder / "data"), **variables},
            stdout=written,
            stderr=written,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        )
    try:
        ends = time.monotonic() + 60
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        url = str(json.loads(ready.read_text())["base_url"]).removeprefix("http://").removesuffix("/v1")
        host, _, port = url.partition(":")
        yield (host, int(port)), log
    finally:
        process.terminate()
        process.wait()


def seconds_to_answer(address: Address, key: str, body: bytes | None = None) -> tuple[int, float]:
    """Status and seconds of somebody else's request: their models, or an upload."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    headers: Mapping[str, str] = {"authorization": f"Bearer {key}", "content-type": FORM}
    begun = time.perf_counter()
    connection.request("GET" if body is None else "POST", "/v1/models" if body is None else "/v1/files", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status, time.perf_counter() - begun


def small_form() -> bytes:
    """An upload of one row."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    texts = [part.format("purpose", "", "user_data"), part.format("file", '; filename="a.txt"', "hello")]
    return ("".join(texts) + "--b--\r\n").encode()


def leave_at_once(address: Address, key: str, count: int) -> None:
    """So many clients ask for something and are gone before the answer."""
    asking = f"GET /v1/files HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n".encode()
    gone = [socket.create_connection(address, timeout=10) for _ in range(count)]
    for one in gone:
        one.sendall(asking)
    for one in gone:
        one.close()


def main() -> None:
    """Print a table of all crowds."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from tunesmith.settings import Settings
    from tunesmith.store import open_store

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(Settings(data_dir=folder / "data"))
        hostile = store.keys.create("hostile", project=store.projects.create("hostile").id)[0]
        other = store.keys.create("other")[0]
        store.close()
        with small_server(folder) as (address, log):
            print(f"{'crowd':32} {'GET s':>6} {'upload s':>9} {'log bytes':>10}")
            for crowd in [Crowd("nobody", 0), *crowds(hostile)]:
                size = log.stat().st_size
                with standing(address, crowd):
                    asked, uploaded = seconds_to_answer(address, other), seconds_to_answer(address, other, small_form())
                _print(crowd.name, asked, uploaded, log.stat().st_size - size)
            size = log.stat().st_size
            leave_at_once(address, other, 300)
            asked, uploaded = seconds_to_answer(address, other), seconds_to_answer(address, other, small_form())
            _print("300 clients that leave at once", asked, uploaded, log.stat().st_size - size)


def _print(name: str, asked: tuple[int, float], uploaded: tuple[int, float], written: int) -> None:
    if (asked[0], uploaded[0]) != (200, 200):
        raise SystemExit(f"{name}: others got {asked[0]} and {uploaded[0]}")
    print(f"{name:32} {asked[1]:6.2f} {uploaded[1]:9.2f} {written:10}", flush=True)


if __name__ == "__main__":
    main()
