"""A real server that is asked to end while people use it."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.cluster.machines import Machine, announced

REQUEST = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Machine]:
    folder = tmp_path / "server"
    command = ["serve", "--no-worker", "--port", "0", "--ready-file", str(folder / "ready.json")]
    server = Machine(folder, command, {"TUNESMITH_DRAIN_SECONDS": "60"})
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop(signal.SIGKILL)


def test_a_draining_server_answers_on_and_says_that_it_is_not_ready(server: Machine) -> None:
    url, process = announced(server), server.process
    key = (server.data_dir / "api-key").read_text("utf-8").strip()
    headers, health = {"Authorization": f"Bearer {key}"}, f"{url.removesuffix('/v1')}/healthz"
    assert httpx.get(health).status_code == 200
    assert "connection" not in httpx.get(f"{url}/models", headers=headers).headers
    assert process is not None
    process.send_signal(signal.SIGTERM)
    until = time.monotonic() + 10
    while (asked := httpx.get(health)).status_code == 200 and time.monotonic() < until:
        time.sleep(0.05)
    assert (asked.status_code, asked.json()) == (503, {"status": "draining"})
    answer = httpx.get(f"{url}/models", headers=headers)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connected:
        time.sleep(0.2)  # it is accepted, and has sent nothing yet
        process.send_signal(signal.SIGTERM)  # ends the draining
        time.sleep(0.3)
        connected.sendall(REQUEST)
        assert connected.recv(1000).startswith(b"HTTP/1.1 503 ")
    assert process.wait(15) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(health)
