"""A vLLM server over HTTP, with its failures as errors that say what to do.

Routes: /v1/models, /version, /health, /v1/completions, /v1/load_lora_adapter and /v1/unload_lora_adapter. Belongs to
one event loop.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
from pydantic import ValidationError

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.vllm.faults import BUSY, KEY_REFUSED, SHOWN, Faults, said, vllm_message
from tunesmith.serve.vllm.wire import Card, Chunk, Models

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 300.0  # without a byte: the request is in a long queue, or the server hangs
LOOK_SECONDS = 10.0  # for what the server answers without its model
LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)  # a kept connection that the server had closed


class RemoteServer:
    """The routes of one vLLM server."""

    def __init__(self, base: str, url: str, key: str | None) -> None:
        """`base`: the name of the model there. `key`: the server's API key, if it has one."""
        self.base = base
        self.url = url
        self.faults = Faults(base, url)
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
        """The bases and adapters that it serves, this base first.

        Raises Misplaced if it does not serve the base.
        """
        answer = await self._look("/v1/models")
        if answer.status_code != 200:
            raise self.faults.refused(answer.status_code, said(answer))
        try:
            cards = Models.model_validate_json(answer.content).data
        except ValidationError as error:
            raise self.faults.not_vllm(answer.text) from error
        bases = [card for card in cards if card.parent is None]
        if self.base not in {card.id for card in bases}:
            raise self.faults.other_base(", ".join(repr(card.id) for card in bases) or "nothing")
        return sorted(cards, key=lambda card: card.id != self.base or card.parent is not None)

    async def check_health(self) -> None:
        """Raises an error if the server says that its engine is dead."""
        answer = await self._look("/health")
        if answer.status_code >= 500:
            raise self.faults.refused(answer.status_code, said(answer))

    async def version(self) -> str:
        """The server's version; "" if it does not say."""
        answer = await self._look("/version")
        try:
            value = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return ""
        return str(value.get("version", "")) if isinstance(value, dict) else ""

    async def takes_adapters(self) -> bool:
        """Whether adapters may be loaded at run time.

        Asked with a request that loads none.
        """
        answer = await self._call("POST", "/v1/load_lora_adapter", {"lora_name": "", "lora_path": ""}, LOOK_SECONDS)
        return answer.status_code not in (404, 405)

    async def holds_grammars(self) -> bool:
        """Whether answers follow a grammar; asked with a request for one token."""
        body: JsonObject = {
            "model": self.base,
            "prompt": [0],
            "max_tokens": 1,
            "temperature": 0.0,
            "stream": True,
            "structured_outputs": {"grammar": 'start: "a"\n'},
        }
        try:
            texts = [choice.text async for chunk in self.complete(body) for choice in chunk.choices]
        except ServerFault as error:
            if error.code != "remote_refused_grammar":
                raise
            return False
        return "".join(texts) == "a"

    async def load_adapter(self, name: str, directory: Path) -> None:
        """Loads an adapter unless the server has it.

        Raises AdapterRefused saying what the server needs for that.
        """
        place = directory.resolve()
        answer = await self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(place)})
        if answer.status_code == 200:
            return
        if answer.status_code == 400 and name in {card.id for card in await self.models()}:
            return
        if answer.status_code in KEY_REFUSED or answer.status_code in BUSY:
            raise self.faults.refused(answer.status_code, said(answer))
        if answer.status_code in (404, 405) and vllm_message(answer) is None:
            raise self.faults.no_adapters(answer)
        raise self.faults.adapter_refused(place, answer)

    async def unload_adapter(self, name: str) -> None:
        """Unloads an adapter if the server has it."""
        answer = await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        if answer.status_code not in (200, 404):
            raise self.faults.refused(answer.status_code, said(answer))

    async def complete(self, body: JsonObject) -> AsyncGenerator[Chunk, None]:
        """The events of the answer.

        Leaving early closes the connection, on which vLLM abandons the request.
        """
        ended = False
        try:
            async with self._stream(body) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise self.faults.refused(answer.status_code, said(answer), held="structured_outputs" in body)
                async for line in answer.aiter_lines():  # to the very end, so that the connection can be reused
                    data = line.removeprefix("data:").strip()
                    ended = ended or data == "[DONE]"
                    if data and not ended:
                        yield self._chunk(data, held="structured_outputs" in body)
        except httpx.HTTPError as error:
            if not ended:
                raise self.faults.broken(error, SILENT_SECONDS) from error
        if not ended:
            raise self.faults.broke_off("the answer ended without its end mark")

    @asynccontextmanager
    async def _stream(self, body: JsonObject) -> AsyncIterator[httpx.Response]:
        """The answer's beginning, asked for once more where a kept connection turns out to be closed."""
        request = self._client.build_request("POST", "/v1/completions", json=body)
        try:
            answer = await self._client.send(request, stream=True)
        except LOST:
            answer = await self._client.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    def _chunk(self, data: str, *, held: bool) -> Chunk:
        try:
            chunk = Chunk.model_validate_json(data)
        except ValidationError as error:
            raise self.faults.not_vllm(data) from error
        if chunk.error is None:
            return chunk
        code = chunk.error.code
        if isinstance(code, int) and 400 <= code < 500:
            raise self.faults.refused(code, chunk.error.message[:SHOWN], held=held)
        raise self.faults.failed_midway(chunk.error.message)

    async def _look(self, path: str) -> httpx.Response:
        return await self._call("GET", path, seconds=LOOK_SECONDS)

    async def _call(
        self, method: str, path: str, body: JsonObject | None = None, seconds: float = SILENT_SECONDS
    ) -> httpx.Response:
        try:
            timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
            return await self._client.request(method, path, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise self.faults.broken(error, seconds) from error
