"""The real application and renderer over an engine that says what it is told to, as far as the request lets it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from starlette.testclient import TestClient

from tunesmith.api.app import create_app
from tunesmith.render.renderer import Renderer
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Generation
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store


class Teller:
    """Writes its text token by token, up to `max_tokens`; remembers the last prompt."""

    context_length, fingerprint = 8192, "teller0000"

    def __init__(self, renderer: Renderer, text: str) -> None:
        self.renderer, self.text, self.prompt = renderer, text, ""

    def submit(self, request: GenerateRequest) -> Generation:
        self.prompt = self.renderer.decode(request.prompt)
        ids = self.renderer.encode(self.text)
        generation = Generation(request.n)
        if request.max_tokens < len(ids):
            *kept, last = ids[: request.max_tokens]
            generation.put([*[Delta(0, token, -0.5) for token in kept], Delta(0, last, -0.5, finish="length")])
        else:
            end = Delta(0, min(self.renderer.eos_ids), finish="stop")
            generation.put([*[Delta(0, token, -0.5) for token in ids], end])
        generation.end()
        return generation

    def close(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


Told = Callable[[str], tuple[TestClient, Teller]]


@pytest.fixture
def told(settings: Settings, store: Store, key: str, renderer: Renderer) -> Iterator[Told]:
    """A client of a server whose model writes the text, and its engine."""
    with ExitStack() as stack:

        def make(text: str) -> tuple[TestClient, Teller]:
            teller = Teller(renderer, text)
            app = create_app(settings, store, Pool(settings, lambda base_dir, settings: teller))
            headers = {"Authorization": f"Bearer {key}"}
            return stack.enter_context(TestClient(app, headers=headers)), teller

        yield make
