"""Many requests for a model that is still being loaded, or fetched from object storage."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from tests.api.chat.conftest import Teller

from tunesmith.api.app import create_app
from tunesmith.render.renderer import Renderer
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

MANY = 60  # more than the threads that all routes share
CHAT = {"messages": [{"role": "user", "content": "a"}]}
TEXT = {"prompt": "a"}


@pytest.mark.parametrize(("route", "body"), [("chat/completions", CHAT), ("completions", TEXT)])
def test_requests_that_wait_for_a_model_leave_other_routes_their_threads(
    settings: Settings, store: Store, key: str, renderer: Renderer, route: str, body: dict[str, object]
) -> None:
    loaded = threading.Event()

    def load(base_dir: Path, settings: Settings) -> Teller:
        assert loaded.wait(60)
        return Teller(renderer, "Fine.")

    app = create_app(settings, store, Pool(settings, load))
    headers = {"Authorization": f"Bearer {key}"}

    async def ask() -> tuple[int, set[int]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            asked = {"model": settings.base_model, **body}
            waiting = [asyncio.create_task(client.post(f"/v1/{route}", json=asked)) for _ in range(MANY)]
            await asyncio.sleep(0.5)
            try:
                other = await asyncio.wait_for(client.get("/v1/files"), 10)
            finally:
                loaded.set()
            return other.status_code, {one.status_code for one in await asyncio.gather(*waiting)}

    assert asyncio.run(ask()) == (200, {200})
