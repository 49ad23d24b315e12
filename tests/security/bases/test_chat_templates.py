"""A base's chat template is a program of a stranger: whatever it does, it ends soon and takes little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.render.bases import make_base
from tests.render.test_templates import DROPS
from tests.security.bases.hostile_templates import HOSTILE

from tunesmith.render.chat_template import ANSWER, ChatTemplate, Form, chat_fault
from tunesmith.render.faults import EndlessTemplate, RenderError
from tunesmith.render.renderer import load_renderer
from tunesmith.render.template_meter import STEPS, STEPS_PER_MESSAGE
from tunesmith.rows.messages import Message

TURN = (Form("user"), ANSWER)
MANY_ROUNDS = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def ended() -> dict[str, tuple[float, str]]:
    """What each hostile template took in processor seconds, and what was said of it; all within 300 MB."""
    command = [sys.executable, "-m", "tests.security.bases.hostile_templates"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    told = [json.loads(line) for line in run.stdout.splitlines()]
    return {name: (seconds, said) for name, seconds, said in told}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_template_ends_within_a_second_and_is_refused(name: str, ended: dict[str, tuple[float, str]]) -> None:
    seconds, said = ended[name]
    assert seconds < 1
    assert said.startswith("The base's chat template ")
    assert "MemoryError" not in said


def test_refusal_says_how_many_steps_the_template_takes() -> None:
    with pytest.raises(EndlessTemplate) as caught:
        ChatTemplate(MANY_ROUNDS, {})
    assert f"takes more than {STEPS + 3 * STEPS_PER_MESSAGE:,} steps" in caught.value.message
    assert "cannot be used" in caught.value.message


def test_base_with_an_endless_template_opens_for_plain_text_only(base_dir: Path, tmp_path: Path) -> None:
    made = make_base(base_dir, tmp_path / "base", MANY_ROUNDS)
    fault = chat_fault(made)
    assert fault is not None
    assert "steps" in fault.message
    renderer = load_renderer(made)
    with pytest.raises(RenderError, match="takes more than"):
        renderer.prompt([Message("user", "Hello")])
    assert renderer.text_prompt("Hello")


def test_template_that_loops_on_some_input_only_serves_the_rest(base_dir: Path, tmp_path: Path) -> None:
    hidden = DROPS + "{% if messages|length > 5 %}" + MANY_ROUNDS + "{% endif %}"
    renderer = load_renderer(make_base(base_dir, tmp_path / "base", hidden))
    short = [Message("user", "Hello")]
    assert renderer.prompt(short)
    with pytest.raises(EndlessTemplate, match="steps"):
        renderer.prompt([*short, Message("assistant", "Hi")] * 3 + short)
    assert renderer.prompt(short)


def test_template_renders_a_conversation_of_thousands_of_messages() -> None:
    text = ChatTemplate(DROPS, {}).render(TURN * 2000)
    assert text.count("<|im_start|>") == 4000


def test_ordinary_means_of_templates_still_work() -> None:
    text = (
        "{%- set ns = namespace(n=0, names=[]) %}{%- for k, v in {'b': 1, 'a': 2}|dictsort %}"
        "{%- set ns.n = ns.n + v ** 2 %}{%- set ns.names = ns.names + [k ~ v] %}{%- endfor %}"
        "{{- ns.names|join(', ') }}|{{ ns.n }}|{{ '%05.1f' % 2.25 }}|{{ '{:>4}'.format('x') }}|{{ '-' * 5 }}"
        "|{{ [1, 2]|tojson(indent=1) }}|{{ [3, 1]|sort|first }}|{{ 'a b'.split()|map('upper')|list }}"
        "|{{ range(9)|batch(4)|map('sum')|list }}|{{ 'x\ny'|indent(2) }}|{{ messages[::-1][0].role }}"
        "|{{ messages|selectattr('role', 'equalto', 'user')|list|length }}|{{ {'a': 1}.get('b', 'none') }}"
        "{%- for m in messages %}{{ m.content }}{% endfor %}"
    )
    rendered = ChatTemplate(text, {}).render(TURN).split("|")
    assert rendered[:5] == ["a2, b1", "5", "002.2", "   x", "-----"]
    assert rendered[5:8] == ["[\n 1,\n 2\n]", "1", "['A', 'B']"]
    assert rendered[8:11] == ["[6, 22, 8]", "x\n  y", "assistant"]
    assert rendered[11] == "1"
    assert rendered[12].startswith("none")
