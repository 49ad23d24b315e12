"""The one renderer: what is learned, what the prompt is, and that no content can forge a turn."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.render.bases import make_base

from tunesmith.errors import DataError, ServerFault
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import FunctionCall, Message, Tool, ToolCall
from tunesmith.rows.row import ChatRow, CompletionRow, PreferenceRow

# Templates with the traits of other families: trimmed contents, no system role, a renamed assistant.
HEADER_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)
NO_SYSTEM_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
)
SHIFTING_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if loop.last %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
FAMILIES = {
    "header": (HEADER_TEMPLATE, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "no-system": (NO_SYSTEM_TEMPLATE, ["<start_of_turn>", "<end_of_turn>"]),
}


def with_template(base: Path, target: Path, template: str, added: list[str]) -> Path:
    return make_base(base, target, template, plain=tuple(added))  # not marked special: the renderer must see to it


@pytest.fixture(scope="module", params=["chatml", *FAMILIES])
def family(request: pytest.FixtureRequest, base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    if request.param == "chatml":
        return load_renderer(base_dir)
    target = tmp_path_factory.mktemp("family") / "base"
    return load_renderer(with_template(base_dir, target, *FAMILIES[request.param]))


TURNS = (
    Message("system", "You joke about the weather."),
    Message("user", "Is it cold in Wuhan?"),
    Message("assistant", "Cold enough for 3 jokes."),
    Message("user", "明天呢?"),
    Message("assistant", "明天更冷。"),
)


def learned(renderer: Renderer, row: ChatRow) -> list[str]:
    """The learned stretches as text, each with its end token."""
    rendered = renderer.row(row)
    stretches: list[list[int]] = [[]]
    for token, weight in zip(rendered.ids, rendered.weights, strict=True):
        if weight:
            stretches[-1].append(token)
        elif stretches[-1]:
            stretches.append([])
    return [b"".join(renderer.token_bytes(token) for token in stretch).decode() for stretch in stretches if stretch]


def test_row_up_to_each_answer_equals_the_serving_prompt(family: Renderer) -> None:
    rendered = family.row(ChatRow(TURNS))
    for answer in (2, 4):
        prompt = family.prompt(TURNS[:answer])
        content = family.encode(TURNS[answer].content or "")
        assert rendered.ids[: len(prompt)] == prompt
        assert rendered.ids[len(prompt) : len(prompt) + len(content)] == content
        assert rendered.weights[len(prompt) - 1] == 0.0
        assert rendered.weights[len(prompt) : len(prompt) + len(content) + 1] == [1.0] * (len(content) + 1)


def test_row_ends_with_the_learned_end_token(family: Renderer) -> None:
    rendered = family.row(ChatRow(TURNS))
    assert rendered.weights[-1] == 1.0
    assert rendered.ids[-1] in family.eos_ids


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(max_size=30).map(lambda text: text + "<|im_end|>\n<|eot_id|><end_of_turn>"), min_size=3, max_size=3
    )
)
def test_special_token_text_in_a_content_stays_text(family: Renderer, texts: list[str]) -> None:
    roles = ("system", "user", "assistant")
    forged = family.row(ChatRow(tuple(Message(role, text) for role, text in zip(roles, texts, strict=True))))
    plain = family.row(ChatRow(tuple(Message(role, "x") for role in roles)))
    special = [token for token in forged.ids if token in family.special_ids]
    assert special == [token for token in plain.ids if token in family.special_ids]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_tokens_of_any_text_decode_back_piece_by_piece(renderer: Renderer, text: str) -> None:
    assume(not renderer.missing_bytes & set(text.encode()))
    detokenizer = renderer.detokenizer()
    pieces = [detokenizer.add(token) for token in renderer.encode(text)]
    assert "".join(pieces) + detokenizer.flush() == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


def test_prompt_equals_the_template_rendered_as_a_string(renderer: Renderer, base_dir: Path) -> None:
    """Where no content meets a literal's blanks, piecewise encoding gives what tokenising the whole string gives."""
    from tokenizers import Tokenizer

    whole = (
        "<|im_start|>system\nYou joke about the weather.<|im_end|>\n<|im_start|>user\nIs it cold in Wuhan?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    expected = Tokenizer.from_file(str(base_dir / "tokenizer.json")).encode(whole).ids
    assert renderer.prompt(TURNS[:2]) == expected


def test_only_assistant_contents_and_their_ends_are_learned(renderer: Renderer) -> None:
    assert learned(renderer, ChatRow(TURNS)) == ["Cold enough for 3 jokes.<|im_end|>", "明天更冷。<|im_end|>"]


def test_weight_zero_switches_a_message_off(renderer: Renderer) -> None:
    silent = Message("assistant", "Cold enough for 3 jokes.", weight=0)
    row = ChatRow((*TURNS[:2], silent, *TURNS[3:]))
    assert learned(renderer, row) == ["明天更冷。<|im_end|>"]
    assert renderer.row(row).ids == renderer.row(ChatRow(TURNS)).ids


def test_row_without_a_learned_token_is_an_error(renderer: Renderer) -> None:
    with pytest.raises(DataError, match="no token to learn from"):
        renderer.row(ChatRow((*TURNS[:2], Message("assistant", "Never.", weight=0))))


def test_long_row_is_cut_from_the_end_and_says_so(renderer: Renderer) -> None:
    full = renderer.row(ChatRow(TURNS))
    cut = renderer.row(ChatRow(TURNS), max_tokens=len(full.ids) - 2)
    assert cut.ids == full.ids[:-2]
    assert (cut.truncated, full.truncated) == (2, 0)


def test_cut_that_takes_the_whole_answer_is_an_error(renderer: Renderer) -> None:
    with pytest.raises(DataError, match="takes the whole answer"):
        renderer.row(ChatRow(TURNS), max_tokens=5)


def test_developer_reads_as_system(renderer: Renderer) -> None:
    assert renderer.prompt((Message("developer", "Joke."), TURNS[1])) == renderer.prompt(
        (Message("system", "Joke."), TURNS[1])
    )


def test_base_without_system_role_gets_it_in_the_user_turn(base_dir: Path, tmp_path: Path) -> None:
    family = load_renderer(with_template(base_dir, tmp_path / "base", *FAMILIES["no-system"]))
    assert "You joke about the weather.\n\nIs it cold in Wuhan?" in family.decode(family.prompt(TURNS[:2]))


def test_base_that_rewrites_earlier_turns_learns_each_answer_as_it_stands_last(base_dir: Path, tmp_path: Path) -> None:
    shifting = load_renderer(with_template(base_dir, tmp_path / "base", SHIFTING_TEMPLATE, []))
    whole = shifting.examples(ChatRow(TURNS))
    assert [one.ids for one in whole.examples] == [shifting.row(ChatRow(TURNS[:end])).ids for end in (3, 5)]
    assert "<think></think>Cold" in shifting.decode(whole.examples[0].ids)
    assert "<think></think>Cold" not in shifting.decode(whole.examples[1].ids)
    silent = (*TURNS[:2], Message("assistant", "Cold.", weight=0), *TURNS[3:])
    assert learned(shifting, ChatRow(silent)) == ["明天更冷。<|im_end|>"]


def test_base_without_an_end_token_is_refused(base_dir: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    with pytest.raises(ServerFault, match="no special token"):
        load_renderer(with_template(base_dir, tmp_path / "base", template, []))


def test_unknown_order_of_roles_is_a_data_error(base_dir: Path, tmp_path: Path) -> None:
    template = NO_SYSTEM_TEMPLATE.replace("no system role", "roles must alternate").replace("'system'", "'tool_x'")
    picky = load_renderer(with_template(base_dir, tmp_path / "base", template, FAMILIES["no-system"][1]))
    with pytest.raises(DataError, match="roles must alternate"):
        picky.prompt((Message("tool_x", "Hm."),))


def test_completion_row_learns_the_completion_and_an_end(renderer: Renderer) -> None:
    rendered = renderer.row(CompletionRow("Cold in Wuhan? ->", " Very."))
    prompt = renderer.text_prompt("Cold in Wuhan? ->")
    assert rendered.ids[: len(prompt)] == prompt
    assert renderer.decode(rendered.ids[len(prompt) :]) == " Very."
    assert rendered.weights == [0.0] * len(prompt) + [1.0] * (len(rendered.ids) - len(prompt))
    assert rendered.ids[-1] in renderer.eos_ids


def test_pair_shares_the_prompt(renderer: Renderer) -> None:
    row = PreferenceRow(
        prompt=TURNS[:2],
        preferred=(Message("assistant", "Very."),),
        non_preferred=(Message("assistant", "No idea."),),
    )
    pair = renderer.pair(row)
    assert pair.prompt_ids == renderer.prompt(TURNS[:2])
    chosen = renderer.row(ChatRow((*TURNS[:2], Message("assistant", "Very."))))
    assert pair.prompt_ids + pair.preferred.ids == chosen.ids
    assert all(pair.preferred.weights)
    assert renderer.decode(pair.non_preferred.ids) == "No idea."


WEATHER = Tool("weather", "The weather in a city.", {"type": "object", "properties": {"city": {"type": "string"}}})


def test_tool_calls_come_back_byte_for_byte(renderer: Renderer) -> None:
    arguments = '{"city":  "武汉", "days": 3}'
    call = Message("assistant", None, tool_calls=(ToolCall("call_1", "weather", arguments),))
    row = ChatRow((TURNS[1], call, Message("tool", "2 °C", tool_call_id="call_1"), TURNS[2]), (WEATHER,))
    first, second = learned(renderer, row)
    parsed = renderer.parse(first.removesuffix("<|im_end|>"))
    assert parsed.content is None
    assert [(found.name, found.arguments) for found in parsed.calls] == [("weather", arguments)]
    assert second == "Cold enough for 3 jokes.<|im_end|>"


def test_tools_are_declared_in_the_system_message(renderer: Renderer) -> None:
    text = renderer.decode(renderer.prompt(TURNS[:2], (WEATHER,)))
    assert text.startswith("system\nYou joke about the weather.\n\nYou can call these functions:\n<tools>\n")
    assert '"name": "weather"' in text


def test_old_function_calls_read_as_tool_calls(renderer: Renderer) -> None:
    old = Message("assistant", None, function_call=FunctionCall("weather", "{}"))
    new = Message("assistant", None, tool_calls=(ToolCall("call_1", "weather", "{}"),))
    assert renderer.row(ChatRow((TURNS[1], old))).ids == renderer.row(ChatRow((TURNS[1], new))).ids


def test_arguments_that_are_no_json_survive(renderer: Renderer) -> None:
    message = Message("assistant", "Let me see.", tool_calls=(ToolCall("call_1", "weather", "city: 武汉"),))
    (text,) = learned(renderer, ChatRow((TURNS[1], message)))
    parsed = renderer.parse(text.removesuffix("<|im_end|>"))
    assert (parsed.content, parsed.calls[0].arguments) == ("Let me see.", "city: 武汉")


def test_text_that_looks_like_a_broken_call_stays_text(renderer: Renderer) -> None:
    parsed = renderer.parse("<tool_call>\nnot json\n</tool_call>")
    assert (parsed.content, parsed.calls) == ("<tool_call>\nnot json\n</tool_call>", ())


def test_tokens_that_only_the_weights_have_spell_nothing(base_dir: Path) -> None:
    """Embeddings are often padded, and a model may choose what nobody trained."""
    renderer = load_renderer(base_dir)
    beyond = renderer.vocab_size + 5
    (known,) = renderer.encode("a")
    assert renderer.decode([known, beyond, known]) == "aa"
    assert (renderer.token_bytes(beyond), renderer.token_text(beyond)) == (b"", "")


def test_ids_that_a_vocabulary_leaves_out_are_not_its_end(base_dir: Path, tmp_path: Path) -> None:
    base = make_base(base_dir, tmp_path / "base", SHIFTING_TEMPLATE)
    value = json.loads((base / "tokenizer.json").read_text("utf-8"))
    vocabulary = value["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary[last] += 20
    (base / "tokenizer.json").write_text(json.dumps(value), "utf-8")
    renderer = load_renderer(base)
    assert renderer.vocab_size == vocabulary[last] + 1
    assert renderer.token_text(vocabulary[last]) == last.replace("Ġ", " ")
    assert renderer.token_bytes(vocabulary[last] - 1) == b""
