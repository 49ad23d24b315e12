"""A server that answers what a test wants, for the answers that a real Tunesmith gives only when something is wrong."""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tunesmith.cli.server.announcement import CHALLENGE, PROOF, Announcement

HANG_UP = b"\0hang up"  # a body: half of an answer is sent, then the connection is closed


@dataclass(slots=True)
class ScriptedServer:
    """`answers` by method and path without query, each used once but the last; `asked` has method and whole path."""

    port: int = 0
    answers: dict[str, deque[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(deque))
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    announced: Announcement | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, route: str, *values: object, status: int = 200) -> None:
        """`answer("GET /v1/models", {…})`; bytes are sent as they are, anything else as JSON."""
        self.answers[route] += [
            (status, value if isinstance(value, bytes) else json.dumps(value).encode()) for value in values
        ]

    def announce(self, file: Path) -> Announcement:
        """As a real server does, which then proves that it is the one announced."""
        self.answer("GET /healthz", {"status": "ok"})
        self.announced = Announcement(self.base_url, 1, "secret-of-the-file")
        self.announced.write(file)
        return self.announced

    def next(self, route: str) -> tuple[int, bytes]:
        waiting = self.answers[route]
        if not waiting:
            return 404, json.dumps({"error": {"message": f"nothing is scripted for {route}"}}).encode()
        return waiting.popleft() if len(waiting) > 1 else waiting[0]


@contextmanager
def scripted(port: int = 0) -> Iterator[ScriptedServer]:
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            script.asked.append(f"{self.command} {self.path}")
            script.keys.append(self.headers.get("Authorization", ""))
            script.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            status, body = script.next(f"{self.command} {self.path.partition('?')[0]}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (100 if body == HANG_UP else 0)))
            if script.announced is not None:
                self.send_header(PROOF, script.announced.proof(self.headers.get(CHALLENGE, "")))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.handle_any()

        def do_POST(self) -> None:
            self.handle_any()

        def do_DELETE(self) -> None:
            self.handle_any()

        def log_request(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    script.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
