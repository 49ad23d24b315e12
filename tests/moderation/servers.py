"""HTTP servers for the tests of moderation: one that answers as a script says, over real sockets."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Answer = tuple[int, object, dict[str, str]]  # status, body (bytes are sent as they are), headers


@dataclass
class Scripted:
    """`requests` are (path, headers, body) as they came; `most` is how many were under way at once."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], Json]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def scripted(answer: Callable[[int, Json], Answer], delay: float = 0.0) -> Iterator[Scripted]:
    """A server that answers its n-th request (from 0) with `answer(n, body)`."""
    state = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with state.lock:
                number = len(state.requests)
                state.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                state.running += 1
                state.most = max(state.most, state.running)
            time.sleep(delay)
            status, content, headers = answer(number, body)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            with state.lock:
                state.running -= 1
            self.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
