"""Calls of the API's own application, in this process.

They act as the key that is signed in. So a page knows what the API answers and nothing else: roles, limits, checks,
usage and the audit log are the API's.
"""

import asyncio
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import SEEK_END, BytesIO
from itertools import chain
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlencode

from starlette.datastructures import Address
from starlette.types import ASGIApp, Message, Scope

from tunesmith.api.middleware.auth import SIGNED_IN
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import KeyRow

BLOCK_BYTES = 1 << 20  # of an upload
QueryValue = str | int | bool | None


class Refused(Exception):
    """The API refused a call: its status and its sentence, which carries the cure."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> JsonObject:
        """The body's JSON object. Raises Refused for an answer that is an error."""
        if self.status >= 400:
            raise self._refusal()
        return cast(JsonObject, json.loads(self.body))

    def _refusal(self) -> Refused:
        try:
            error = json.loads(self.body)["error"]
            return Refused(self.status, str(error["message"]), code=error["code"], param=error["param"])
        except (ValueError, KeyError, TypeError):
            return Refused(self.status, f"The server answered with status {self.status}.")


class Api:
    """The API as one key may call it."""

    def __init__(self, app: ASGIApp, key: KeyRow, client: Address | None) -> None:
        self._app = app
        self._key = key
        self._client = client

    async def get(self, path: str, **query: QueryValue) -> JsonObject:
        """The object at a path (`api.get("/v1/files", limit=20)`). Raises Refused."""
        return (await self.call("GET", path, query=query)).json()

    async def all(self, path: str, most: int, **query: QueryValue) -> list[JsonObject]:
        """The objects of a listing, page by page, `most` at most. Raises Refused."""
        found: list[JsonObject] = []
        while len(found) < most:
            page = await self.get(path, limit=min(100, most - len(found)), **query)
            data = cast(list[JsonObject], page["data"])
            found += data
            if not page.get("has_more") or not data:
                break
            query["after"] = cast(str, data[-1]["id"])
        return found

    async def post(self, path: str, body: Mapping[str, JsonValue] | None = None) -> JsonObject:
        """What the API answers to a JSON body. Raises Refused."""
        return (await self.call("POST", path, body=body)).json()

    async def delete(self, path: str) -> JsonObject:
        """What the API answers when an object is deleted. Raises Refused."""
        return (await self.call("DELETE", path)).json()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: Mapping[str, JsonValue] | None = None,
    ) -> Reply:
        """The answer as it is, whatever its status; `path` is not quoted yet."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = None if body is None else b"application/json"
        scope = call_scope(self._key, method, path, _headers(kind, len(content)))
        given = {name: _spelled(value) for name, value in (query or {}).items() if value is not None}
        return await self._exchange({**scope, "query_string": urlencode(given).encode()}, [content])

    async def upload(self, filename: str, content: bytes | Path, purpose: str) -> JsonObject:
        """The file that the API made of the content, which is streamed to it.

        Raises Refused.
        """
        boundary = secrets.token_hex(16).encode()
        head = b"".join(
            (
                b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' % boundary,
                b"%b\r\n--%b\r\n" % (purpose.encode(), boundary),
                b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%b\r\n\r\n"
                % quote(filename, safe="").encode(),
            )
        )
        tail = b"\r\n--%b--\r\n" % boundary
        with content.open("rb") if isinstance(content, Path) else BytesIO(content) as stream:
            length = len(head) + stream.seek(0, SEEK_END) + len(tail)
            stream.seek(0)
            blocks = iter(partial(stream.read, BLOCK_BYTES), b"")
            headers = _headers(b"multipart/form-data; boundary=" + boundary, length)
            scope = call_scope(self._key, "POST", "/v1/files", headers)
            return (await self._exchange(scope, chain((head,), blocks, (tail,)))).json()

    async def _exchange(self, scope: Scope, content: Iterable[bytes]) -> Reply:
        exchange = _Exchange(content)
        await self._app({**scope, "client": self._client}, exchange.receive, exchange.send)
        return exchange.reply()


def path_part(value: str) -> str:
    """The value, if it can be one part of a path.

    From a form or a query it may be anything. Raises Refused, as for an object that is not there.
    """
    if not re.fullmatch(r"[\w.-]{1,200}", value, re.ASCII):
        raise Refused(404, f"There is no object {value[:60]!r}.")
    return value


def call_scope(key: KeyRow, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Scope:
    """The scope of a call that acts with `key`."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
        "server": None,
        "client": None,
        "state": {},
        SIGNED_IN: key,
    }


def _headers(content_type: bytes | None, length: int) -> list[tuple[bytes, bytes]]:
    headers = [] if content_type is None else [(b"content-type", content_type)]
    return [*headers, (b"content-length", str(length).encode())]


def _spelled(value: QueryValue) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


class _Exchange:
    """One request, whose body comes in chunks, and its answer, whole in memory."""

    def __init__(self, content: Iterable[bytes]) -> None:
        self._content: Iterator[bytes] | None = iter(content)
        self._status = 500
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def reply(self) -> Reply:
        return Reply(self._status, self._headers, b"".join(self._chunks))

    async def receive(self) -> Message:
        if self._content is None:  # who waits for more waits for the client to leave, which it does not
            await asyncio.Event().wait()
        chunk = next(self._content or iter(()), None)
        if chunk is None:
            self._content = None
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self._chunks.append(message.get("body", b""))
