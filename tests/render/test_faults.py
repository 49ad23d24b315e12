"""What is said of a row that cannot be rendered: each cause with its own fix."""

from pathlib import Path

import pytest
from tests.render.bases import make_base

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.errors import DataError
from tunesmith.render.faults import RenderError
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import Message
from tunesmith.rows.row import ChatRow, CompletionRow

MESSAGE = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant') }}{% endif %}" + MESSAGE + "{% endfor %}"
)
SYSTEM_FIRST = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('System message must be at the beginning.') }}{% endif %}" + MESSAGE + "{% endfor %}"
)
PICKY = (
    "{% for m in messages %}{% if loop.index0 > 3 %}{{ raise_exception('Too many turns') }}{% endif %}"
    + MESSAGE
    + "{% endfor %}"
)
FAILING = "{% for m in messages %}{% if loop.index0 > 1 %}{{ m.content + 1 }}{% endif %}" + MESSAGE + "{% endfor %}"
UNDEFINED = "{% for m in messages %}{% if loop.index0 > 1 %}{{ shout(m) }}{% endif %}" + MESSAGE + "{% endfor %}"
FORGETFUL = "{% for m in messages %}{% if loop.index0 != 2 %}" + MESSAGE + "{% endif %}{% endfor %}"

USER, SAID, SYSTEM = Message("user", "Cold?"), Message("assistant", "Yes."), Message("system", "Be brief.")


def renderer_of(base: Path, target: Path, template: str | None) -> Renderer:
    return load_renderer(make_base(base, target / "base", template))


@pytest.mark.parametrize(
    ("template", "messages", "what", "fix"),
    [
        (ALTERNATING, (USER, USER, SAID), "the roles user, user, assistant: Roles must alternate", "take turns"),
        (SYSTEM_FIRST, (USER, SYSTEM, SAID), "roles user, system, assistant: System", "Message 1 is a system message"),
        (PICKY, (USER, SAID) * 3, "Too many turns.", "as the template says, or choose another base"),
        (FAILING, (USER, SAID, USER, SAID), "fails on the roles user, assistant, user", "Correct the template"),
        (UNDEFINED, (USER, SAID, USER, SAID), "not defined: 'shout' is undefined", "Correct the template"),
        (FORGETFUL, (USER, SAID, USER, SAID), "leaves out message 2 ('user')", "order of roles that it knows"),
        (None, (USER, SAID), "has no chat template", "prompt/completion rows and ask it through /v1/completions"),
        ("{% for m in %}", (USER, SAID), "cannot be read: Expected an expression", "Correct the template"),
    ],
)  # fmt: skip
def test_each_cause_has_its_own_fix(
    base_dir: Path, tmp_path: Path, template: str | None, messages: tuple[Message, ...], what: str, fix: str
) -> None:
    renderer = renderer_of(base_dir, tmp_path, template)
    with pytest.raises(RenderError) as caught:
        renderer.row(ChatRow(messages))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.message == f"{caught.value.what} {caught.value.fix}"
    assert "Shorten" not in caught.value.message


def test_rows_without_an_answer_or_room_for_it_are_told_apart(renderer: Renderer) -> None:
    with pytest.raises(RenderError, match=r"no token to learn from.* weight 1\.$"):
        renderer.row(ChatRow((USER, Message("assistant", "Yes.", weight=0))))
    with pytest.raises(RenderError, match=r"the limit is 5: .*Shorten what comes before the answer\.$"):
        renderer.row(ChatRow((USER, SAID)), 5)


def file_of(path: Path, row: str) -> Path:
    path.write_text(f"{row}\n" * 10, encoding="utf-8")
    return path


CHAT_ROW = '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}'  # noqa: E501
REASONED_ROW = (
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c", "reasoning_content": "b"}]}'
)
TEXT_ROW = '{"prompt": "a", "completion": "b"}'


def test_the_check_names_the_cause_and_its_fix(base_dir: Path, tmp_path: Path) -> None:
    renderer = renderer_of(base_dir, tmp_path, ALTERNATING)
    report = check_file(file_of(tmp_path / "rows.jsonl", CHAT_ROW), CheckOptions(renderer))
    (first, *_) = [one for one in report.errors if one.code == "not_renderable"]
    assert first.message == (
        "The base's chat template refuses the roles user, user, assistant: Roles must alternate"
        " user/assistant/user/assistant."
    )
    assert first.fix.startswith("Let user and assistant take turns, the user first")
    assert report.bad_rows == 10


@pytest.mark.parametrize("totals", [True, False])
def test_a_base_without_a_template_takes_prompts_and_completions_only(
    base_dir: Path, tmp_path: Path, totals: bool
) -> None:
    renderer = renderer_of(base_dir, tmp_path, None)
    options = CheckOptions(renderer, base_totals=totals)
    texts = check_file(file_of(tmp_path / "texts.jsonl", TEXT_ROW), options)
    assert texts.errors == ()
    assert (texts.base.tokens if texts.base else None) == (30 if totals else None)  # a, b and an end, ten times
    chats = check_file(file_of(tmp_path / "chats.jsonl", REASONED_ROW), options)
    (error,) = chats.errors
    assert (error.code, error.line) == ("no_chat_template", None)
    assert error.message.startswith("The file holds chat rows. The base has no chat template")
    assert "prompt/completion rows" in error.fix


def test_reasoning_that_the_base_is_not_shown_is_a_warning(renderer: Renderer, tmp_path: Path) -> None:
    report = check_file(file_of(tmp_path / "rows.jsonl", REASONED_ROW), CheckOptions(renderer))
    assert report.errors == ()
    assert report.counts["reasoning_not_trained"] == 1
    thinking = check_file(file_of(tmp_path / "other.jsonl", CHAT_ROW), CheckOptions(renderer))
    assert "reasoning_not_trained" not in thinking.counts


def test_a_base_without_a_template_continues_text(base_dir: Path, tmp_path: Path) -> None:
    plain, renderer = renderer_of(base_dir, tmp_path / "plain", None), renderer_of(base_dir, tmp_path, FORGETFUL)
    row = CompletionRow("Cold in Wuhan? ->", " Very.")
    assert plain.row(row).ids == renderer.row(row).ids
    assert plain.text_prompt("Cold?") == renderer.text_prompt("Cold?")
    with pytest.raises(DataError, match="has no chat template"):
        plain.prompt((USER,))
    assert plain.chat_fault is not None
    assert renderer.chat_fault is None


@pytest.mark.parametrize("late", [(USER, SYSTEM, SAID), (SYSTEM, USER, SAID)], ids=["late", "first"])
def test_a_system_text_joins_the_users_turn_where_there_is_no_such_role(
    base_dir: Path, tmp_path: Path, late: tuple[Message, ...]
) -> None:
    renderer = renderer_of(base_dir, tmp_path, ALTERNATING)
    joined = "\n\n".join(one.content or "" for one in late[:2])
    assert renderer.row(ChatRow(late)) == renderer.row(ChatRow((Message("user", joined), SAID)))
    assert renderer.prompt(late[:2]) == renderer.prompt((Message("user", joined),))
