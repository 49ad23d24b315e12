"""Clients that are slow, or go away in the middle: raw sockets against the real server."""

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import openai
from tests.servers import Server

from tunesmith.api.middleware.body_limits import BEGUN_BYTES

BEGINNING = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n{"messages": '
BEGUN = BEGINNING + b" " * BEGUN_BYTES  # of less no thread hears, and no file is opened


def begin_upload(server: Server) -> socket.socket:
    """An upload that announces a megabyte and stops when it has begun."""
    url = urlsplit(server.base_url)
    connection = socket.create_connection((url.hostname, url.port), timeout=10)
    head = (
        f"POST {url.path}/files HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {server.key}\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 1000000\r\n\r\n"
    )
    connection.sendall(head.encode() + BEGUN)
    return connection


def test_many_slow_uploads_do_not_keep_others_waiting(server: Server, client: openai.OpenAI) -> None:
    uploads = [begin_upload(server) for _ in range(60)]
    try:
        assert client.with_options(timeout=10).models.list().data
        assert client.with_options(timeout=10).fine_tuning.jobs.list(limit=1).to_dict()["object"] == "list"
    finally:
        for upload in uploads:
            upload.close()


def test_an_upload_that_breaks_off_leaves_nothing(
    server: Server, client: openai.OpenAI, eventually: Callable[[Callable[[], bool], float, str], None]
) -> None:
    partial = [folder / "files" / ".partial" for folder in server.data_dirs]

    def is_there() -> bool:
        return any(True for folder in partial for _ in folder.iterdir())

    upload = begin_upload(server)
    eventually(is_there, 10, "the upload's first bytes")
    upload.close()
    eventually(lambda: not is_there(), 10, "the upload's removal")
    assert client.models.list().data
