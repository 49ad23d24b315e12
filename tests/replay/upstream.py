"""A teacher on loopback that fails, stalls, limits and hangs up as it is told."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tunesmith.jsonvalue import JsonObject, JsonValue

USAGE: JsonObject = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send: a status and body; `stall` seconds before it, `hang_up` instead of it."""

    status: int = 200
    body: JsonValue = None
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    hang_up: bool = False


Rule = Callable[[str, int], Reply | None]  # the last user's text, how often it was asked before -> None: an answer


@dataclass(slots=True)
class Teacher:
    """`asked` counts requests by the last user's text; `most` is how many were under way at once."""

    rule: Rule
    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    bodies: list[JsonObject] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    idempotency: dict[str, set[str]] = field(default_factory=dict)
    most: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def completion(text: str, **message: JsonValue) -> JsonObject:
    """A chat completion that answers a text."""
    answer: JsonObject = {"role": "assistant", "content": f"re: {text}", **message}
    choice: JsonObject = {"index": 0, "finish_reason": "stop", "message": answer}
    choices: list[JsonValue] = [choice]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "teacher-1", "choices": choices, "usage": USAGE}


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI sends it."""
    return Reply(status, {"error": {"message": message, "type": "x", "code": code}}, headers)


@contextmanager
def teaching(rule: Rule = lambda text, times: None) -> Iterator[Teacher]:
    """A teacher that answers by `rule`, on a free port of this machine."""
    teacher = Teacher(rule)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = str(body["messages"][-1]["content"])
            with teacher.lock:
                times = teacher.asked[text]
                teacher.asked[text] += 1
                teacher.bodies.append(body)
                teacher.keys.append(self.headers.get("Authorization", ""))
                teacher.idempotency.setdefault(text, set()).add(self.headers.get("Idempotency-Key", ""))
                teacher.under_way += 1
                teacher.most = max(teacher.most, teacher.under_way)
            try:
                self.reply(text, teacher.rule(text, times) or Reply(200, completion(text)))
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with teacher.lock:
                    teacher.under_way -= 1

        def reply(self, text: str, reply: Reply) -> None:
            time.sleep(reply.stall)
            if reply.hang_up:
                self.close_connection = True
                return
            data = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            if reply.status == 200:
                with teacher.lock:
                    teacher.answered[text] += 1

        def log_request(self, *_: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    teacher.port = listener.server_address[1]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
