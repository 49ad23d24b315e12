"""A server that answers as the Hugging Face hub does, as far as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

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
    large: set[str] = field(default_factory=lambda: {"model.safetensors"})  # in large storage: SHA-256 as their digest
    changed: dict[str, bytes] = field(default_factory=dict)  # bytes that come instead of those that are listed
    cuts: int = 0  # answers of large files that still break off half-way
    served: list[tuple[str, int, int]] = field(default_factory=list)  # (file, first byte, bytes) of large files
    licence: str | None = None
    gated: tuple[int, str] | None = None  # (status, X-Error-Code) of files; the listing is public

    def add(self, repository: str, directory: Path) -> None:
        self.files[repository] = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            status, headers, body = _answer(hub, path, self.command)
            first = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
            if status == 200 and first and self.command == "GET":
                status, body = 206, body[first:]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(_as_sent(hub, path.rpartition("/")[2], first, body))

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
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
        listing = [_listed(hub, name, data) for name, data in files.items()]
        info: dict[str, object] = {"id": repository, "sha": SHA, "siblings": listing}
        if hub.licence is not None:
            info["cardData"] = {"license": hub.licence}
        return 200, {"Content-Type": "application/json"}, json.dumps(listing if "/tree/" in path else info).encode()
    name = next((rest for way in (SHA, "main") if (rest := path.partition(f"/resolve/{way}/")[2])), "")
    if name not in files:
        return 404, {"X-Error-Code": "EntryNotFound"}, b""
    if hub.gated is not None:
        return hub.gated[0], {"X-Error-Code": hub.gated[1]}, b""
    if method == "GET":
        hub.fetched.append(name)
    data = hub.changed.get(name, files[name])
    return 200, {"ETag": f'"{_digest(hub, name, files[name])}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}, data


def _listed(hub: Hub, name: str, data: bytes) -> dict[str, object]:
    size, digest = hub.sizes.get(name, len(data)), _digest(hub, name, data)
    listed: dict[str, object] = {
        "type": "file",
        "path": name,
        "rfilename": name,
        "size": size,
        "oid": digest,
        "blobId": digest,
    }
    if name in hub.large:
        listed["lfs"] = {"sha256": digest, "oid": digest, "size": size, "pointerSize": 134}
    return listed


def _digest(hub: Hub, name: str, data: bytes) -> str:
    """SHA-256 of what is in large storage; of the rest Git's digest of a blob."""
    if name in hub.large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _as_sent(hub: Hub, name: str, first: int, body: bytes) -> bytes:
    """The body, or half of it while answers are to be cut."""
    if name not in hub.large:
        return body
    cut, hub.cuts = hub.cuts > 0, max(0, hub.cuts - 1)
    sent = body[: len(body) // 2] if cut else body
    hub.served.append((name, first, len(sent)))
    return sent
