"""Templates with the habits of reasoning models, beside transformers' own rendering of the same messages."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.render.bases import make_base
from transformers.utils.chat_template_utils import render_jinja_template

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.row import ChatRow, build_row

CHATML = ("<|im_start|>", "<|im_end|>")

# Thinking before the last question is left out; an answer without any gets an empty block; tools' results do not count.
DROPS = (
    "{%- set ns = namespace(last=messages | length - 1, seek=true) %}"
    "{%- for m in messages[::-1] %}{% set at = messages | length - 1 - loop.index0 %}"
    "{%- if ns.seek and m.role == 'user' and not (m.content.startswith('<tool_response>')"
    " and m.content.endswith('</tool_response>')) %}{% set ns.seek = false %}{% set ns.last = at %}{% endif %}"
    "{%- endfor %}"
    "{%- for m in messages %}"
    "{%- if m.role != 'assistant' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- else %}{% set content = m.content %}{% set thought = '' %}"
    "{%- if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{%- elif '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}"
    "{%- else %}{{- content }}{% endif %}{{- '<|im_end|>\n' }}"
    "{%- endif %}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{%- endif %}"
)
# The prompt begins the thought.
OPENS = DROPS.replace(
    "{{ '<|im_start|>assistant\n' }}{%- if enable", "{{ '<|im_start|>assistant\n<think>\n' }}{%- if enable"
)
# Thinking is left out everywhere, and the prompt begins it.
STRIPS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' + m.content }}"
    "{% elif m.role == 'assistant' %}{% set content = m.content %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|assistant|>' + content + '<|end|>' }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
# The date, and the tag around what the assistant says; nothing is rewritten.
DATED = (
    "{{- '<|im_start|>system\nToday: ' + strftime_now('%d %B %Y') + '\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content }}{% endif %}{{- '<|im_end|>\n' }}"
    "{%- for m in messages if m.role != 'system' %}"
    "{%- if m.role == 'assistant' %}{% generation %}"
    "{{- '<|im_start|>assistant\n' + m.content.lstrip('\n') + '<|im_end|>\n' }}{% endgeneration %}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"
)
# An empty block before every answer, blanks stripped, and no token after an answer but the next turn's.
BLOCKS = (
    "[gMASK]<sop>{%- set ns = namespace(last=-1) %}"
    "{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{%- for m in messages %}{% if m.role == 'assistant' %}<|assistant|>"
    "{%- set thought = '' %}{% set content = m.content %}"
    "{%- if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].split('<think>')[-1] %}"
    "{%- set content = content.split('</think>')[-1] %}{% endif %}"
    "{%- if loop.index0 > ns.last and thought %}{{ '\n<think>' + thought.strip() + '</think>' }}"
    "{%- else %}{{ '\n<think></think>' }}{% endif %}"
    "{%- if content.strip() %}{{ '\n' + content.strip() }}{% endif %}"
    "{%- else %}<|{{ m.role }}|>{{ '\n' + m.content }}{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The last answer ends with a token of its own, and says in which channel it speaks.
CHANNELS = (
    "{{- '<|start|>system<|message|>Date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{%- for m in messages %}{% if m.role != 'assistant' %}"
    "{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}"
    "{%- elif loop.last and not add_generation_prompt %}"
    "{%- if m.thinking %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}"
    "{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    template: str
    special: tuple[str, ...]
    eos: str = "<|im_end|>"
    bos: str | None = None


TAGS = ("<think>", "</think>")
FAMILIES = {
    "drops": Family(DROPS, ()),
    "opens": Family(OPENS, ()),
    "dated": Family(DATED, ()),
    "blocks": Family(BLOCKS, ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|eot|>"), "<|eot|>"),
    "channels": Family(
        CHANNELS, ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"), "<|return|>", "<|startoftext|>"
    ),
    "strips": Family(STRIPS, ("<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"), "<|end|>", "<|bos|>"),
}


@pytest.fixture(scope="module")
def renderers(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    folder = tmp_path_factory.mktemp("families")
    return {
        name: load_renderer(
            make_base(
                base_dir,
                folder / name,
                family.template,
                special=family.special,
                plain=TAGS,
                eos=family.eos,
                config={} if family.bos is None else {"bos_token": family.bos},
            )
        )
        for name, family in FAMILIES.items()
    }


def user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


def said(text: str, **more: str) -> JsonObject:
    return {"role": "assistant", "content": text, **more}


SYSTEM: JsonObject = {"role": "system", "content": "Be brief."}
THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour."
TALKS: dict[str, list[JsonObject]] = {
    "one": [user("2+2?"), said("Four.")],
    "system": [SYSTEM, user("2+2?"), said("Four.")],
    "blanks": [SYSTEM, user(" 2+2?\n"), said("\nFour. ")],
    "two": [user("2+2?"), said("Four."), user("3+3?"), said("Six.")],
    "thought": [user("2+2?"), said(THOUGHT)],
    "tight": [user("2+2?"), said("<think>hm</think>Four.")],
    "empty-thought": [user("2+2?"), said("<think>\n\n</think>\n\nFour.")],
    "thoughts": [SYSTEM, user("2+2?"), said(THOUGHT), user("3+3?"), said("<think>\nHm.\n</think>\n\nSix.")],
    "thought-then-plain": [user("2+2?"), said(THOUGHT), user("3+3?"), said("Six.")],
    "reasoning": [user("2+2?"), said("Four.", reasoning_content="Two and two.")],
    "answers-in-a-row": [user("2+2?"), said("Let me see."), said("Four.")],
}


def theirs(family: Family, messages: list[JsonObject], *, prompt: bool = False) -> str:
    texts = render_jinja_template(
        [messages],
        chat_template=family.template,
        add_generation_prompt=prompt,
        eos_token=family.eos,
        bos_token=family.bos or "",
    )[0]
    return str(texts[0])


def text_of(renderer: Renderer, ids: list[int]) -> str:
    return b"".join(renderer.token_bytes(token) for token in ids).decode()


def row_of(messages: list[JsonObject]) -> ChatRow:
    row = build_row({"messages": [*messages]})
    assert isinstance(row, ChatRow)
    return row


def learned_texts(renderer: Renderer, messages: list[JsonObject]) -> list[str]:
    """What is learned, a text for each example."""
    return [
        text_of(renderer, [token for token, weight in zip(one.ids, one.weights, strict=True) if weight])
        for one in renderer.examples(row_of(messages)).examples
    ]


@pytest.mark.parametrize(
    ("name", "talk"),
    # "strips" leaves the thinking out of what is learned; "dated" does not know of reasoning_content.
    [
        (name, talk)
        for name in FAMILIES
        for talk in TALKS
        if name != "strips" and (name, talk) != ("dated", "reasoning")
    ],
)
def test_an_example_is_what_transformers_renders_up_to_its_answer(
    renderers: dict[str, Renderer], name: str, talk: str
) -> None:
    renderer, family, messages = renderers[name], FAMILIES[name], TALKS[talk]
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    expected = [theirs(family, messages[: at + 1]).rstrip("\n").removesuffix(family.eos) for at in answers]
    rendered = [
        text_of(renderer, one.ids).removesuffix(family.eos) for one in renderer.examples(row_of(messages)).examples
    ]
    assert rendered == expected[-len(rendered) :] if len(rendered) == len(expected) else rendered == expected[-1:]


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_learned_follows_the_serving_prompt(renderers: dict[str, Renderer], name: str, talk: str) -> None:
    renderer, messages = renderers[name], TALKS[talk]
    row = row_of(messages)
    for one in renderer.examples(row).examples:
        start = max(at for at in range(1, len(one.ids)) if one.weights[at] and not one.weights[at - 1])
        prompts = [renderer.prompt(row.messages[:at]) for at in range(1, len(messages))]
        assert one.ids[:start] in prompts


@pytest.mark.parametrize("talk", [talk for talk in TALKS if talk != "answers-in-a-row"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_prompt_is_what_transformers_prompts_with(renderers: dict[str, Renderer], name: str, talk: str) -> None:
    question = TALKS[talk][:-1]
    ids = renderers[name].prompt(row_of(TALKS[talk]).messages[:-1])
    assert text_of(renderers[name], ids) == theirs(FAMILIES[name], question, prompt=True)


@pytest.mark.parametrize(
    ("name", "talk", "expected"),
    [
        ("drops", "one", ["<think>\n\n</think>\n\nFour.<|im_end|>"]),
        ("drops", "thought", ["<think>\nTwo and two.\n</think>\n\nFour.<|im_end|>"]),
        ("drops", "reasoning", ["<think>\nTwo and two.\n</think>\n\nFour.<|im_end|>"]),
        ("drops", "two", ["<think>\n\n</think>\n\nFour.<|im_end|>", "<think>\n\n</think>\n\nSix.<|im_end|>"]),
        ("opens", "one", ["\n</think>\n\nFour.<|im_end|>"]),
        ("opens", "thought", ["Two and two.\n</think>\n\nFour.<|im_end|>"]),
        ("strips", "one", ["\n</think>\n\nFour.<|end|>"]),
        ("strips", "reasoning", ["Two and two.\n</think>\n\nFour.<|end|>"]),
        ("strips", "thoughts", ["Two and two.\n</think>\n\nFour.<|end|>", "Hm.\n</think>\n\nSix.<|end|>"]),
        ("dated", "two", ["Four.<|im_end|>Six.<|im_end|>"]),
        ("dated", "reasoning", ["Four.<|im_end|>"]),
        ("blocks", "two", ["\n<think></think>\nFour.<|user|>\n<think></think>\nSix.<|eot|>"]),
        ("blocks", "thoughts", ["\n<think>Two and two.</think>\nFour.<|eot|>", "\n<think>Hm.</think>\nSix.<|eot|>"]),
        ("channels", "one", ["<|channel|>final<|message|>Four.<|return|>"]),
    ],
)  # fmt: skip
def test_what_is_learned(renderers: dict[str, Renderer], name: str, talk: str, expected: list[str]) -> None:
    assert learned_texts(renderers[name], TALKS[talk]) == expected


def test_weights_choose_among_the_answers_that_are_rewritten(renderers: dict[str, Renderer]) -> None:
    first, second = said(THOUGHT), said("Six.")
    silent_first = [user("2+2?"), {**first, "weight": 0}, user("3+3?"), second]
    silent_second = [user("2+2?"), first, user("3+3?"), {**second, "weight": 0}]
    assert learned_texts(renderers["drops"], silent_first) == ["<think>\n\n</think>\n\nSix.<|im_end|>"]
    assert learned_texts(renderers["drops"], silent_second) == [f"{THOUGHT}<|im_end|>"]


def test_tokens_of_several_examples_are_counted_once_where_they_agree(renderers: dict[str, Renderer]) -> None:
    row = renderers["drops"].examples(row_of(TALKS["two"]))
    first, second = (one.ids for one in row.examples)
    shared = next(at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    assert text_of(renderers["drops"], first[:shared]) == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert row.tokens == len(first) + len(second) - shared
    assert row.learned == sum(sum(one.weights) for one in row.examples)


def test_the_limit_cuts_each_example(renderers: dict[str, Renderer]) -> None:
    whole = renderers["drops"].examples(row_of(TALKS["two"]))
    limit = len(whole.examples[0].ids)
    cut = renderers["drops"].examples(row_of(TALKS["two"]), limit)
    assert [one.ids for one in cut.examples] == [whole.examples[0].ids]
    assert cut.truncated == len(whole.examples[1].ids) - limit


def test_an_answer_that_thinks_is_refused_where_the_prompt_forbids_it(base_dir: Path, tmp_path: Path) -> None:
    closed = DROPS.replace("enable_thinking is defined and enable_thinking is false", "true")
    renderer = load_renderer(make_base(base_dir, tmp_path / "closed", closed, plain=TAGS))
    assert learned_texts(renderer, TALKS["one"]) == ["Four.<|im_end|>"]
    with pytest.raises(DataError, match=r"begins every answer without thinking.* Remove the thinking"):
        renderer.examples(row_of(TALKS["thought"]))


def test_a_result_of_a_tool_does_not_end_the_thinking(renderers: dict[str, Renderer]) -> None:
    call: JsonObject = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    messages: list[JsonObject] = [
        user("What time is it?"),
        {"role": "assistant", "content": "<think>\nAsk.\n</think>\n\n", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "12:00"},
        said("Noon."),
    ]
    texts = learned_texts(renderers["drops"], messages)
    assert len(texts) == 1  # one question, so nothing is rewritten
    assert re.fullmatch(
        r"<think>\nAsk\.\n</think>\n\n<tool_call>\n.*\n</tool_call><\|im_end\|><think>\n\n</think>\n\nNoon\.<\|im_end\|>",
        texts[0],
    )


def test_the_date_of_a_template_is_the_day_of_the_request(renderers: dict[str, Renderer]) -> None:
    from datetime import datetime

    today = datetime.now().strftime("%d %B %Y")  # noqa: DTZ005  (as the template has it)
    assert f"Today: {today}" in text_of(
        renderers["dated"], renderers["dated"].prompt(row_of(TALKS["one"]).messages[:1])
    )


ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_results_join_one_turn_where_turns_must_alternate(base_dir: Path, tmp_path: Path) -> None:
    renderer = load_renderer(make_base(base_dir, tmp_path / "alternates", ALTERNATES))
    calls: list[JsonObject] = [
        {"id": name, "type": "function", "function": {"name": "time", "arguments": "{}"}} for name in "ab"
    ]
    messages: list[JsonObject] = [
        user("Time?"),
        {"role": "assistant", "content": None, "tool_calls": [*calls]},
        {"role": "tool", "tool_call_id": "a", "content": "12:00"},
        {"role": "tool", "tool_call_id": "b", "content": "13:00"},
    ]
    prompt = text_of(renderer, renderer.prompt(row_of([*messages, said("Noon.")]).messages[:-1]))
    first, second = (f"<tool_response>\n{text}\n</tool_response>" for text in ("12:00", "13:00"))
    assert prompt.endswith(f"<|im_start|>user\n{first}\n{second}<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(DataError, match="roles must alternate"):
        renderer.prompt(row_of([user("a"), user("b"), said("c")]).messages[:-1])
