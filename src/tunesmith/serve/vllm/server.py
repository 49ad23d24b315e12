"""A vLLM server over HTTP, with its failures as errors that say what to do.

Routes: /v1/models, /version, /v1/completions, /v1/load_lora_adapter and /v1/unload_lora_adapter. Written from vLLM's
documentation and source; it has not been run against a vLLM. Belongs to one event loop.
"""

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import orjson
from pydantic import ValidationError

from tunesmith.errors import ServerFault, ServiceUnavailable, TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import unusable_adapter
from tunesmith.serve.vllm.wire import Card, Chunk, Models

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 300.0  # without a byte: the request is in a long queue, or the server hangs
SHOWN = 300  # characters of a server's own error message
BUSY = frozenset((429, 502, 503, 504))


class UnknownModel(ServerFault):
    """The server no longer has an adapter: it was restarted, or unloaded the adapter."""


class RemoteServer:
    """The routes of one vLLM server."""

    def __init__(self, base: str, url: str, key: str | None) -> None:
        """`base`: the name of the model there, for messages. `key`: the server's API key, if it has one."""
        self.base = base
        self.url = url
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
        )

    async def close(self) -> None:
        """Closes the connections to the server."""
        await self._client.aclose()

    async def models(self) -> list[Card]:
        """The bases and adapters that it serves."""
        answer = await self._call("GET", "/v1/models")
        if answer.status_code != 200:
            raise self._refused(answer)
        try:
            return Models.model_validate_json(answer.content).data
        except ValidationError as error:
            raise self._not_vllm(answer.text) from error

    async def version(self) -> str:
        """The server's version; "" if it does not say."""
        answer = await self._call("GET", "/version")
        try:
            value = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return ""
        return str(value.get("version", "")) if isinstance(value, dict) else ""

    async def load_adapter(self, name: str, directory: Path) -> None:
        """Loads an adapter unless the server has it.

        Raises ServerFault saying what the server needs for that.
        """
        path = str(directory.resolve())
        answer = await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if answer.status_code == 200:
            return
        if answer.status_code == 400 and name in {card.id for card in await self.models()}:
            return
        if answer.status_code in (401, 403) or answer.status_code in BUSY:
            raise self._refused(answer)
        if answer.status_code in (404, 405) and _message(answer) is None:
            raise ServerFault(
                f"The vLLM server at {self.url} takes no adapters at run time. Start it with --enable-lora and"
                " VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment."
            )
        raise unusable_adapter(
            directory.resolve(),
            f"The vLLM server at {self.url} did not load this model's adapter: {_said(answer, path)}. The directory"
            " must be there under the same path, and --max-lora-rank at least the adapter's rank.",
        )

    async def unload_adapter(self, name: str) -> None:
        """Unloads an adapter if the server has it."""
        answer = await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        if answer.status_code not in (200, 404):
            raise self._refused(answer)

    async def complete(self, body: JsonObject) -> AsyncGenerator[Chunk, None]:
        """The events of the answer.

        Leaving early closes the connection, on which vLLM abandons the request.
        """
        ended = False
        try:
            async with self._client.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise self._refused(answer)
                async for line in answer.aiter_lines():  # to the very end, so that the connection can be reused
                    data = line.removeprefix("data:").strip()
                    ended = ended or data == "[DONE]"
                    if data and not ended:
                        yield self._chunk(data)
        except httpx.HTTPError as error:
            if not ended:
                raise self._broken(error) from error
        if not ended:
            raise self.broke_off("the answer ended without its end mark")

    def _chunk(self, data: str) -> Chunk:
        try:
            return Chunk.model_validate_json(data)
        except ValidationError as error:
            raise self._not_vllm(data) from error

    async def _call(self, method: str, path: str, body: JsonObject | None = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    def _broken(self, error: httpx.HTTPError) -> TunesmithError:
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServiceUnavailable(
                f"The vLLM server at {self.url}, which answers for {self.base}, cannot be reached ({what}). Start it,"
                " or correct the setting `serve_remote`.",
                code="remote_unreachable",
            )
        if isinstance(error, httpx.ReadTimeout):
            what = f"nothing came for {SILENT_SECONDS:g} s"
        return self.broke_off(what)

    def broke_off(self, what: str) -> TunesmithError:
        """The error for a connection that ended too early."""
        return ServiceUnavailable(
            f"The connection to the vLLM server at {self.url}, which answers for {self.base}, broke off ({what})."
            " Look into its log, and ask again.",
            code="remote_broke_off",
        )

    def _refused(self, answer: httpx.Response) -> TunesmithError:
        status, where = answer.status_code, f"The vLLM server at {self.url}, which answers for {self.base},"
        if status in (401, 403):
            return ServerFault(f"{where} refuses our key. Set `serve_remote_key` to the value of its --api-key.")
        if status in BUSY:
            return ServiceUnavailable(f"{where} is busy ({_said(answer)}); try again later.", code="remote_is_busy")
        if status == 404:
            return UnknownModel(f"{where} does not know the model or route it was asked for: {_said(answer)}.")
        if status >= 500:
            return ServerFault(f"{where} failed: {_said(answer)}. Its log says more; it may have to be restarted.")
        return ServerFault(f"{where} refused the request: {_said(answer)}.")

    def _not_vllm(self, text: str) -> ServerFault:
        return ServerFault(
            f"What runs at {self.url} does not answer as vLLM does ({text[:SHOWN]!r}). Correct the setting"
            f" `serve_remote` of {self.base}."
        )


def _said(answer: httpx.Response, hidden: str = "") -> str:
    """The answer's status and message, without the path `hidden`, which clients are not to see."""
    text = _message(answer) or answer.text[:SHOWN]
    return f"{answer.status_code}, {(text.replace(hidden, 'PATH') if hidden else text)!r}"


def _message(answer: httpx.Response) -> str | None:
    """vLLM's own message; None if the web server below it answered, as for an unknown route."""
    try:
        value = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    error = value.get("error", value) if isinstance(value, dict) else None  # older versions have no "error" around it
    message = error.get("message") if isinstance(error, dict) else None
    return message[:SHOWN] if isinstance(message, str) else None
