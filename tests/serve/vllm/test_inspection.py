"""What is said of vLLM servers before a request finds it out, and the command that says it."""

from collections.abc import Callable, Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.cli.conftest import Tunesmith, tunesmith
from tests.fake_vllm import BASE, FakeVllm, running

from tunesmith.serve.vllm.inspection import Inspection, inspect_servers
from tunesmith.settings import Settings

__all__ = ["tunesmith"]

ADAPTERS = "it takes no adapters at run time: start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in"
GRAMMARS = "it does not hold answers to a grammar: start it with --structured-outputs-config.backend guidance"


class Older(FakeVllm):
    """One that does not know what `structured_outputs` is."""

    async def completions(self, request: Request) -> Response:
        request._json = {**await request.json(), "structured_outputs": None}
        return await super().completions(request)


def server(kind: type[FakeVllm] = FakeVllm) -> FakeVllm:
    fake = kind()
    fake.answers[BASE] = [5]
    return fake


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with running(server()) as fake:
        yield fake


def inspect(*fakes: FakeVllm) -> list[Inspection]:
    return list(inspect_servers(Settings(serve_remote={BASE: [fake.url for fake in fakes]})))


def test_server_that_is_well_has_no_faults(fake: FakeVllm) -> None:
    fake.adapters = {"x": "/x"}
    assert inspect(fake) == [Inspection(BASE, fake.url, "0.11.0", 4096, 1, ())]
    assert fake.calls == []  # nothing was loaded


def without_grammars(fake: FakeVllm) -> None:
    fake.grammars = False


def dead(fake: FakeVllm) -> None:
    fake.health = 503


def locked(fake: FakeVllm) -> None:
    fake.key = "sesame"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(without_grammars, GRAMMARS), (dead, "is busy"), (locked, "Set `serve_remote_key` to the value of its --api-key")],
)
def test_what_is_wrong_is_said_with_the_cure(fake: FakeVllm, spoil: Callable[[FakeVllm], None], words: str) -> None:
    spoil(fake)
    (found,) = inspect(fake)
    (fault,) = found.faults
    assert words in fault


def test_server_without_runtime_adapters_and_one_that_is_too_old_are_told() -> None:
    fixed, older = server(), server(Older)
    fixed.updates = False
    with running(fixed), running(older):
        first, second = inspect(fixed, older)
    assert len(first.faults) == 1
    assert first.faults[0].startswith(ADAPTERS)
    assert second.faults == (GRAMMARS,)


def test_servers_of_different_contexts_are_told_which_is_used(fake: FakeVllm) -> None:
    fake.context = 1000
    with running(server()) as other:
        first, second = inspect(fake, other)
    assert first.faults == ()
    assert second.faults == ("its context is 4096 tokens, of which 1000 are used: all servers'",)


def test_command_lists_servers_and_fails_if_one_needs_attention(
    tunesmith: Tunesmith, fake: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No base is served by vLLM" in tunesmith("models", "servers").err
    monkeypatch.setenv("TUNESMITH_SERVE_REMOTE", f'{{"{BASE}": "{fake.url}"}}')
    ran = tunesmith("models", "servers")
    assert ran.code == 0
    assert fake.url in ran.out
    assert "well" in ran.out
    fake.stop()
    fake.key = "sesame"
    broken = tunesmith("models", "servers", "--json")
    assert broken.code == 1
    assert "1 of 1 servers need attention." in broken.err
    assert isinstance(broken.json, list)
    assert fake.url in broken.json[0]["faults"][0]  # on this machine, with all details
