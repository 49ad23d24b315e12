"""The engine that asks a vLLM server, against a stand-in that speaks its documented API over real HTTP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fake_vllm import BASE, FakeVllm, running, write_rank_8

from tunesmith.errors import ServerFault, ServiceUnavailable, TunesmithError
from tunesmith.models.adapters import MANIFEST_FILE, TENSORS_FILE
from tunesmith.render.renderer import Renderer
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import Delta, GenerateRequest
from tunesmith.serve.pool import Pool
from tunesmith.serve.vllm.engine import RemoteEngine
from tunesmith.serve.vllm.loading import load_remote_engine
from tunesmith.settings import Settings

EOS = 2
TOKENS = [11, 12, 13, 14, EOS, 99]


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    fake = FakeVllm()
    fake.answers[BASE] = TOKENS
    with running(fake) as server:
        yield server


@contextmanager
def opened(fake: FakeVllm, base_dir: Path, **options: Any) -> Iterator[RemoteEngine]:
    engine = load_remote_engine(BASE, base_dir, Settings(serve_remote={BASE: [fake.url + "/v1/"]}, **options))
    try:
        yield engine
    finally:
        engine.close()
        engine.join(10)
        assert not engine.alive


@pytest.fixture
def engine(fake: FakeVllm, base_dir: Path) -> Iterator[RemoteEngine]:
    with opened(fake, base_dir) as engine:
        yield engine


def asked(**fields: Any) -> GenerateRequest:
    return replace(GenerateRequest(prompt=(1, 7, 8), max_tokens=20, eos_ids=frozenset({EOS})), **fields)


def tokens(deltas: list[Delta], choice: int = 0) -> list[int]:
    return [delta.token for delta in deltas if delta.choice == choice]


@pytest.fixture
def adapter(base_dir: Path, tmp_path: Path, fake: FakeVllm) -> Callable[[int], Path]:
    """Writes an adapter that answers its number, then ends."""

    def write(number: int) -> Path:
        directory = write_rank_8(tmp_path / str(number), base_dir, number)
        fake.answers[str(directory)] = [number, EOS]
        return directory

    return write


def test_the_servers_tokens_come_out_up_to_the_one_that_ends_the_turn(engine: RemoteEngine) -> None:
    generation = engine.submit(asked())
    deltas = [*generation]
    assert tokens(deltas) == [11, 12, 13, 14, EOS]
    assert [delta.finish for delta in deltas] == [None] * 4 + ["stop"]
    assert (engine.context_length, generation.cached_tokens) == (4096, 3)


def test_answers_one_after_the_other_share_a_connection(engine: RemoteEngine, fake: FakeVllm) -> None:
    for _ in range(3):
        assert tokens([*engine.submit(asked())])[-1] == EOS
    assert len(fake.clients) == 1


def test_what_a_request_asks_for_is_what_vllm_is_asked(engine: RemoteEngine, fake: FakeVllm) -> None:
    request = asked(
        temperature=0.7, top_p=0.0, seed=5, presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((9, -3.0),)
    )
    assert len([*engine.submit(request)]) == 5
    (body,) = fake.bodies
    assert (body["model"], body["prompt"], body["max_tokens"], body["stop_token_ids"]) == (BASE, [1, 7, 8], 20, [EOS])
    assert (body["temperature"], body["seed"], body["logit_bias"]) == (0.7, 5, {"9": -3.0})
    assert (body["presence_penalty"], body["frequency_penalty"]) == (0.5, 0.25)
    assert 0 < body["top_p"] < 1e-5  # vLLM takes no 0
    assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["ignore_eos"]) == (0, 0, 1, True)
    assert "logprobs" not in body
    assert "cache_salt" not in body


def test_prompts_of_different_projects_share_no_cache(engine: RemoteEngine, fake: FakeVllm) -> None:
    assert [*engine.submit(asked(project="proj_a"))]
    assert fake.bodies[0]["cache_salt"] == "proj_a"


def test_an_answer_ends_at_max_tokens(engine: RemoteEngine) -> None:
    deltas = [*engine.submit(asked(max_tokens=3))]
    assert (tokens(deltas), deltas[-1].finish) == ([11, 12, 13], "length")


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, [12, 13, 14, 15, EOS]), (0.0, [11, 12, 13, 14, EOS])])
def test_every_choice_comes_also_greedy_ones_which_vllm_gives_once(
    engine: RemoteEngine, temperature: float, expected: list[int]
) -> None:
    deltas = [*engine.submit(asked(n=3, temperature=temperature))]
    assert [tokens(deltas, choice)[-1] for choice in range(3)] == [EOS] * 3
    assert tokens(deltas, 1) == expected
    assert sum(delta.finish == "stop" for delta in deltas) == 3


def test_logprobs_are_by_token_id_likeliest_first(engine: RemoteEngine) -> None:
    for wanted, top in ((0, ()), (2, ((100, -0.5), (11, -1.1))), (1, ((100, -0.5),))):
        first = next(iter(engine.submit(asked(top_logprobs=wanted))))
        assert (first.token, first.logprob) == (11, -1.1)
        assert first.top == top


def test_an_adapter_is_loaded_once_and_answers(
    engine: RemoteEngine, fake: FakeVllm, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(21)
    generations = [engine.submit(asked(adapter=directory)) for _ in range(4)]
    assert [tokens([*generation]) for generation in generations] == [[21, EOS]] * 4
    assert tokens([*engine.submit(asked())]) == [11, 12, 13, 14, EOS]
    assert fake.calls == [f"load {directory}"]


def test_the_least_recently_used_adapter_is_unloaded_for_another(
    fake: FakeVllm, base_dir: Path, adapter: Callable[[int], Path]
) -> None:
    a, b, c = (adapter(number) for number in (21, 22, 23))
    with opened(fake, base_dir, serve_remote_adapters=2) as engine:
        for directory in (a, b, a, c):
            assert len([*engine.submit(asked(adapter=directory))]) == 2
    assert fake.calls == [f"load {a}", f"load {b}", f"unload {b}", f"load {c}"]


def test_adapters_that_the_server_has_are_not_loaded_again(
    fake: FakeVllm, base_dir: Path, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(21)
    for _ in range(2):
        with opened(fake, base_dir) as engine:
            assert tokens([*engine.submit(asked(adapter=directory))]) == [21, EOS]
    assert fake.calls == [f"load {directory}"]


def test_another_that_loaded_the_adapter_first_does_no_harm(
    engine: RemoteEngine, fake: FakeVllm, base_dir: Path, adapter: Callable[[int], Path]
) -> None:
    with opened(fake, base_dir) as other:
        assert tokens([*other.submit(asked(adapter=adapter(21)))]) == [21, EOS]
    assert tokens([*engine.submit(asked(adapter=adapter(21)))]) == [21, EOS]


def test_adapters_come_back_after_the_server_was_restarted(
    engine: RemoteEngine, fake: FakeVllm, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(21)
    assert [*engine.submit(asked(adapter=directory))]
    fake.adapters.clear()
    assert tokens([*engine.submit(asked(adapter=directory))]) == [21, EOS]
    assert fake.calls == [f"load {directory}"] * 2


def test_a_damaged_adapter_never_reaches_the_server(
    engine: RemoteEngine, fake: FakeVllm, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(21)
    (directory / TENSORS_FILE).write_bytes(b"other")
    with pytest.raises(ServerFault, match="changed or damaged"):
        list(engine.submit(asked(adapter=directory)))
    (directory / MANIFEST_FILE).unlink()
    with pytest.raises(ServerFault, match="no usable adapter"):
        list(engine.submit(asked(adapter=directory)))
    assert fake.calls == []


def test_closing_a_generation_cancels_the_request_at_the_server(engine: RemoteEngine, fake: FakeVllm) -> None:
    fake.ending = "endless"
    generation = engine.submit(asked(eos_ids=frozenset(), max_tokens=10**6))
    assert next(iter(generation)).token == 11
    generation.close()
    assert fake.gone.wait(5)


def test_stopping_every_choice_ends_the_generation(engine: RemoteEngine, fake: FakeVllm) -> None:
    fake.ending = "endless"
    generation = engine.submit(asked(eos_ids=frozenset(), max_tokens=10**6, n=2, temperature=0))
    stream = iter(generation)
    assert next(stream).token == 11
    generation.stop(0)
    generation.stop(1)
    assert fake.gone.wait(5)
    assert len([*stream]) < 1000  # what was on its way, then the end


def test_requests_wait_in_bounds_and_leave_the_line_when_closed(fake: FakeVllm, base_dir: Path) -> None:
    fake.answers[BASE] = []
    fake.ending = "endless"  # of tokens that come late: nothing before the first
    with opened(fake, base_dir, chat_waiting=1) as engine:
        first = engine.submit(asked(max_tokens=10**6))
        with pytest.raises(ServiceUnavailable, match="1 requests are already waiting") as raised:
            engine.submit(asked())
        assert raised.value.code == "server_is_overloaded"
        assert next(iter(first)).token == 5  # no longer waiting
        second = engine.submit(asked(max_tokens=10**6))
        second.close()
        engine.submit(asked(max_tokens=10**6)).close()
        first.close()


def test_a_closed_engine_finishes_what_it_has_and_takes_no_more(fake: FakeVllm, base_dir: Path) -> None:
    with opened(fake, base_dir) as engine:
        generation = engine.submit(asked())
        engine.close()
        assert tokens([*generation])[-1] == EOS
        with pytest.raises(ServiceUnavailable, match="being unloaded"):
            engine.submit(asked())


def test_grammar_and_the_prompts_log_probabilities_are_vllms(
    engine: RemoteEngine, renderer: Renderer, fake: FakeVllm
) -> None:
    grammar = Grammars(renderer).compile('start: "a"')
    assert tokens([*engine.submit(asked(grammar=grammar))]) == [11, 12, 13, 14, EOS]
    assert fake.bodies[0]["structured_outputs"] == {"grammar": 'start: "a"'}
    for longest, made in ((0, []), (2, [11, 12])):
        generation = engine.submit(asked(max_tokens=longest, top_logprobs=1, prompt_logprobs=True))
        assert tokens([*generation]) == made
        assert [(one.token, one.logprob, one.top) for one in generation.prompt] == [
            (7, -0.7, ((100, -0.25),)),
            (8, -0.8, ((100, -0.25),)),
        ]
    alone = engine.submit(asked(prompt=(1,), max_tokens=2, top_logprobs=1, prompt_logprobs=True))
    assert (tokens([*alone]), alone.prompt) == ([11, 12], [])


def test_server_without_guidance_is_told_how_to(engine: RemoteEngine, renderer: Renderer, fake: FakeVllm) -> None:
    fake.grammars = False
    with pytest.raises(ServerFault, match=r"Start it with --structured-outputs-config\.backend guidance") as caught:
        list(engine.submit(asked(grammar=Grammars(renderer).compile('start: "a"'))))
    assert fake.url not in caught.value.message


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        ("silent", ServiceUnavailable, r"broke off. Ask again. .*without its end mark"),
        ("broken", ServiceUnavailable, r"broke off. Ask again. .*Its log says why"),
        ("error", ServerFault, r"failed in the middle of the answer. Ask again. .*EngineCore encountered an issue"),
    ],
)
def test_a_stream_that_breaks_gives_its_tokens_then_the_error(
    engine: RemoteEngine, fake: FakeVllm, ending: str, error: type[TunesmithError], words: str
) -> None:
    fake.answers[BASE], fake.ending = [11, 12], ending
    stream = iter(engine.submit(asked()))
    assert [next(stream).token, next(stream).token] == [11, 12]
    with pytest.raises(error, match=words):
        next(stream)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, ServerFault, "refused the request. .*400, 'its words'"),
        (429, ServiceUnavailable, "is busy; try again later. .*429, 'its words'"),
        (500, ServerFault, "failed. The logs of both .*500, 'its words'"),
        (503, ServiceUnavailable, "is busy"),
    ],
)
def test_a_refusal_says_what_vllm_said_and_what_to_do(
    engine: RemoteEngine, fake: FakeVllm, status: int, error: type[TunesmithError], words: str
) -> None:
    fake.refusal = (status, "its words")
    with pytest.raises(error, match=words):
        list(engine.submit(asked()))
    fake.refusal = None
    assert tokens([*engine.submit(asked())])[-1] == EOS


def test_an_old_vllm_is_told_from_a_new_one(
    engine: RemoteEngine, fake: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_ids(body: object, *place: object) -> dict[str, object]:
        return {"index": 0, "text": "a", "finish_reason": None}

    monkeypatch.setattr("tests.fake_vllm.choice", without_ids)
    with pytest.raises(ServerFault, match=r"without token ids.* upgrade it to 0\.12"):
        list(engine.submit(asked()))


def test_an_adapter_that_vllm_cannot_find_is_named_with_the_cure(
    engine: RemoteEngine, fake: FakeVllm, adapter: Callable[[int], Path]
) -> None:
    directory = adapter(21)
    del fake.answers[str(directory)]
    with pytest.raises(ServerFault, match="must be there under the same path") as caught:
        list(engine.submit(asked(adapter=directory)))
    assert str(directory) not in caught.value.message
    assert f"No adapter found for {directory}" in str(caught.value.detail)
    fake.answers[str(directory)] = [21, EOS]
    assert tokens([*engine.submit(asked(adapter=directory))]) == [21, EOS]  # tried again


def test_a_server_that_takes_no_adapters_is_told_how_to(base_dir: Path, tmp_path: Path) -> None:
    fake = FakeVllm()
    fake.updates = False
    write_rank_8(tmp_path, base_dir, 1)
    with running(fake), opened(fake, base_dir) as engine:
        generation = engine.submit(asked(adapter=tmp_path))
        with pytest.raises(ServerFault, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            list(generation)


def test_a_server_that_has_gone_says_so_at_the_next_request_and_load(base_dir: Path) -> None:
    with running(FakeVllm()) as fake:
        engine = load_remote_engine(BASE, base_dir, Settings(serve_remote={BASE: [fake.url]}))
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        list(engine.submit(asked()))
    engine.close()
    engine.join(10)
    with pytest.raises(ServiceUnavailable, match=f"{fake.url}: .* or correct the setting") as raised:
        load_remote_engine(BASE, base_dir, Settings(serve_remote={BASE: [fake.url]}))
    assert raised.value.code == "remote_unreachable"


def test_a_server_of_another_base_or_key_is_refused(fake: FakeVllm, base_dir: Path) -> None:
    with pytest.raises(ServerFault, match=f"serves another model. .*--served-model-name other.* serves '{BASE}'"):
        load_remote_engine("other", base_dir, Settings(serve_remote={"other": [fake.url]}))
    fake.key = "sesame"
    with pytest.raises(ServerFault, match="refuses our key"):
        load_remote_engine(BASE, base_dir, Settings(serve_remote={BASE: [fake.url]}))
    with opened(fake, base_dir, serve_remote_key="sesame") as engine:
        assert engine.alive


def test_the_pool_asks_the_server_instead_of_loading_and_counts_no_memory(
    fake: FakeVllm, base_dir: Path, tmp_path: Path
) -> None:
    def load(base_dir: Path, settings: Settings) -> RemoteEngine:
        raise AssertionError("weights loaded")

    pool = Pool(Settings(data_dir=tmp_path, serve_remote={BASE: [fake.url]}, serve_memory_mib=1), load)
    opened = pool.open(base_dir, base_name=BASE)
    assert isinstance(opened.engine, RemoteEngine)
    (tmp_path / "elsewhere").symlink_to(base_dir)
    with pytest.raises(AssertionError, match="weights loaded"):
        pool.open(tmp_path / "elsewhere", base_name="another")
    assert pool.resident() == (base_dir,)  # nothing is gained by its leaving
    pool.close()
    opened.engine.join(10)


def test_settings_take_only_urls_of_known_bases(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'gpu:8000' of 'a' is not the URL of a server"):
        Settings(serve_remote={"a": ["http://a", "gpu:8000"]})
    with pytest.raises(ServerFault, match="names 'gpt-4o-mini', which is not a base"):
        Pool(Settings(data_dir=tmp_path, serve_remote={"gpt-4o-mini": ["http://gpu:8000"]}))
