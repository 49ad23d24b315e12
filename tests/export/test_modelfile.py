"""Chat templates in Ollama's syntax: exact, or left out."""

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.render.bases import make_base

from tunesmith.export.go_template import PROBES, go_template, run_go
from tunesmith.export.modelfile import NO_TEMPLATE, modelfile, ollama_template
from tunesmith.export.tuned_model import TunedModel
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest
from tunesmith.render.chat_template import ChatTemplate, find_template

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
ROLES = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}<<SYS>>{{ m['content'] }}<</SYS>>"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
DATED = CHATML + "{{ strftime_now('%d %b %Y %H:%M:%S') }}"
UPPER = CHATML.replace("m['content']", "m['content'] | upper")


def as_messages(conversation: Sequence[tuple[str, str]]) -> list[JsonObject]:
    return [{"role": role, "content": content} for role, content in conversation]


def test_go_template_of_chatml_is_what_a_person_would_write() -> None:
    assert go_template(ChatTemplate(CHATML, {})) == (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n{{ else }}'
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{ else }}'
        '{{ if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}{{ end }}'
        "{{ end }}<|im_start|>assistant\n"
    )


def test_default_system_message_is_in_the_go_template(base_dir: Path) -> None:
    text = ollama_template(base_dir)
    assert text is not None
    default = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    assert text.startswith(f"{{{{ if not .System }}}}{default}{{{{ end }}}}{{{{ range .Messages }}}}")
    template = find_template(base_dir)
    assert template is not None
    for probe in (*PROBES, (("user", "a"), ("assistant", "b"), ("user", "<|im_end|>"))):
        assert run_go(text, probe) == template.write(as_messages(probe), prompt=True)


@pytest.mark.parametrize("text", [LLAMA3, ROLES], ids=["llama3", "roles"])
def test_other_templates_are_written_exactly(text: str) -> None:
    template = ChatTemplate(text, {"bos_token": "<s>"})
    written = go_template(template, "<s>" if text == LLAMA3 else "")
    assert written is not None
    assert run_go(written, PROBES[3]) == template.write(as_messages(PROBES[3]), prompt=True).removeprefix("<s>")


@pytest.mark.parametrize("text", [DATED, UPPER, CHATML.replace("<|im_end|>", "{{")], ids=["dated", "upper", "go"])
def test_templates_that_go_cannot_say_exactly_are_left_out(text: str) -> None:
    assert go_template(ChatTemplate(text, {})) is None


def test_interpreter_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="unknown: if gt"):
        run_go("{{ if gt .A 1 }}x{{ end }}", ())
    with pytest.raises(ValueError, match="no end of if not"):
        run_go("{{ if not .System }}x", ())


def test_a_long_template_is_read_in_one_pass() -> None:
    began = time.process_time()
    assert run_go("{{ .System }}a" * 60_000, (("system", "b"),)) == "ba" * 60_000
    assert time.process_time() - began < 2  # each action copied all that follow: 10 seconds and more


def test_modelfile_has_template_stops_and_the_apis_defaults(base_dir: Path) -> None:
    manifest = AdapterManifest("b", "f", "r", 4, 8.0, (), 1)
    text = modelfile(TunedModel("ft:a::b", base_dir, base_dir, "b", manifest), "model.gguf", "Be brief.\nAlways.")
    assert re.findall(r"^(FROM|PARAMETER) (.*)$", text, re.M) == [
        ("FROM", "./model.gguf"),
        ("PARAMETER", 'stop "<|im_end|>"'),
        ("PARAMETER", "temperature 1"),
        ("PARAMETER", "top_p 1"),
        ("PARAMETER", "top_k 0"),
        ("PARAMETER", "min_p 0"),
        ("PARAMETER", "repeat_penalty 1"),
        ("PARAMETER", "num_ctx 8192"),
    ]
    assert f'TEMPLATE """{ollama_template(base_dir)}"""\n' in text
    assert text.endswith("write it after SYSTEM:\n#   Be brief.\n#   Always.\n")


def test_modelfile_without_an_exact_template_says_so(base_dir: Path, tmp_path: Path) -> None:
    base = make_base(base_dir, tmp_path / "base", UPPER)
    (base / "config.json").write_text((base_dir / "config.json").read_text("utf-8"), "utf-8")
    text = modelfile(TunedModel("ft:a::b", base, base, "b", AdapterManifest("b", "f", "r", 4, 8.0, (), 1)), "m.gguf")
    assert NO_TEMPLATE in text
    assert 'TEMPLATE "' not in text
