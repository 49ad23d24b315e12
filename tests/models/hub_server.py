"""A server that answers as the Hugging Face hub does, as far as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by id, each with its files; `refusals`: (status, X-Error-Code) of a repository."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)  # what the listing says instead of the truth
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)  # files whose bytes were asked for

    def add(self, repository: str, directory: Path) -> None:
        self.files[repository] = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = _answer(hub, self.path.partition("?")[0], self.command)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the hub's client in this process talk to `hub`, with a cache of its own."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def _answer(hub: Hub, path: str, method: str) -> tuple[int, Mapping[str, str], bytes]:
    repository = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
    if repository in hub.refusals or repository not in hub.files:
        status, code = hub.refusals.get(repository, (404, "RepoNotFound"))
        return status, {"X-Error-Code": code}, b""
    files = hub.files[repository]
    if path.startswith("/api/models"):
        listing = [
            {"type": "file", "path": name, "rfilename": name, "size": hub.sizes.get(name, len(data)), "oid": _oid(data)}
            for name, data in files.items()
        ]
        info = {"id": repository, "sha": SHA, "siblings": listing}
        return 200, {"Content-Type": "application/json"}, json.dumps(listing if "/tree/" in path else info).encode()
    name = path.partition(f"/resolve/{SHA}/")[2]
    if name not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    if method == "GET":
        hub.fetched.append(name)
    return 200, {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": SHA}, files[name]


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
