"""Small templates that know tools, each with the habits of a family, and bases made of them."""
# ruff: noqa: E501  (templates and answers are kept in one piece)

from dataclasses import dataclass
from pathlib import Path

from tests.render.bases import make_base
from transformers.utils.chat_template_utils import render_jinja_template

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer, load_renderer

# Declarations in the system turn, calls as JSON in tags, results in a user's turn; earlier thinking is left out.
TAGGED = (
    "{%- if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}{% endif %}"
    "# Tools\n{% for tool in tools %}{{ tool | tojson + '\n' }}{% endfor %}<|im_end|>\n"
    "{%- elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{%- set ns = namespace(last=-1) %}"
    "{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{%- for m in messages %}{% if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}"
    "{%- if m.reasoning_content and loop.index0 > ns.last %}"
    "{{- '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}{{- m.content }}"
    "{%- for call in m.tool_calls or [] %}"
    "{{- '\n' if m.content or not loop.first else '' }}{{- '<tool_call>\n{\"name\": \"' + call.function.name + '\", \"arguments\": ' }}"
    "{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}"
    "{{- '}\n</tool_call>' }}{% endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{%- endif %}{% endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"
)
# Calls in a list, ids of nine letters, the system text in the last user's turn.
LISTED = (
    "{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
    "{%- else %}{% set rest = messages %}{% endif %}{{- bos_token }}"
    "{%- for m in rest %}{% if m.role == 'user' %}"
    "{%- if tools and loop.last %}{{- '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{- '[INST]' + (system + '\n\n' if loop.last and system is defined else '') + m.content + '[/INST]' }}"
    "{%- elif m.tool_calls %}{{- '[TOOL_CALLS][' }}{% for call in m.tool_calls %}"
    "{%- if call.id | length != 9 %}{{ raise_exception('Tool call IDs should have length 9!') }}{% endif %}"
    "{{- (call.function | tojson)[:-1] + ', \"id\": \"' + call.id + '\"}' }}{{- '' if loop.last else ', ' }}{% endfor %}"
    "{{- ']' + eos_token }}"
    "{%- elif m.role == 'assistant' %}{{- m.content + eos_token }}"
    "{%- else %}{{- '[TOOL_RESULTS]{\"content\": ' + m.content + ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}"
    "{%- endif %}{% endfor %}"
)
# Channels; a call ends with a mark of its own, a last answer with another, results are JSON strings.
CHANNELS = (
    "{%- if tools %}{{- '<|start|>developer<|message|>' + tools | tojson + '<|end|>' }}{% endif %}"
    "{%- set ns = namespace(name='') %}"
    "{%- for m in messages %}{% if m.role == 'assistant' %}"
    "{%- if m.thinking and loop.last %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{%- if m.tool_calls %}{% set f = m.tool_calls[0].function %}{% set ns.name = f.name %}"
    "{{- '<|start|>assistant to=functions.' + f.name + '<|channel|>commentary json<|message|>' }}"
    "{{- f.arguments | tojson + '<|call|>' }}"
    "{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% endif %}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|start|>functions.' + ns.name + ' to=assistant<|channel|>commentary<|message|>' + m.content | tojson + '<|end|>' }}"
    "{%- elif loop.first or m.role == 'user' %}{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
    "{%- endfor %}{% if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"
)
# No mark ends an answer but that of the next turn; arguments between tags of their own; blanks are stripped.
KEYED = (
    "[gMASK]<sop>{% if tools %}<|system|>\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% endif %}"
    "{%- for m in messages %}{% if m.role == 'assistant' %}<|assistant|>\n<think></think>"
    "{%- if m.content.strip() %}{{ '\n' + m.content.strip() }}{% endif %}"
    "{%- for call in m.tool_calls or [] %}{{ '\n<tool_call>' + call.function.name }}"
    "{%- for key, value in call.function.arguments.items() %}"
    "{{ '\n<arg_key>' + key + '</arg_key>\n<arg_value>' }}"
    "{{- value if value is string else value | tojson }}{{ '</arg_value>' }}{% endfor %}{{ '\n</tool_call>' }}{% endfor %}"
    "{%- elif m.role == 'tool' %}<|observation|>{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- else %}<|{{ m.role }}|>{{ '\n' + m.content }}{% endif %}{% endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The prompt is written always, with an empty thought that answers do not have.
ALWAYS = (
    "{{ bos_token }}{% if tools %}<|turn|><|system|>{{ tools | tojson }}<|turn_end|>{% endif %}"
    "{%- for m in messages %}{% if m.role == 'assistant' %}<|turn|><|bot|>"
    "{%- if m.tool_calls %}<|thinking|>{{ m.reasoning_content }}<|/thinking|><|action|>["
    "{%- for call in m.tool_calls %}"
    '{"tool_name": "{{ call.function.name }}", "parameters": {{ call.function.arguments | tojson }}}'
    "{%- if not loop.last %}, {% endif %}{% endfor %}]<|/action|>"
    "{%- else %}<|response|>{{ m.content }}<|/response|>{% endif %}<|turn_end|>"
    "{%- else %}<|turn|><|{{ m.role }}|>{{ m.content | tojson if m.role == 'tool' else m.content }}<|turn_end|>{% endif %}"
    "{%- endfor %}<|turn|><|bot|><|thinking|><|/thinking|>"
)


@dataclass(frozen=True)
class Family:
    """A template, its special and its other marks, and its bos and eos."""

    template: str
    special: tuple[str, ...]
    plain: tuple[str, ...] = ()
    eos: str = "<|im_end|>"
    bos: str = ""


THINK = ("<think>", "</think>")
FAMILIES = {
    "tagged": Family(TAGGED, (), ("<tool_call>", "</tool_call>", *THINK)),
    "listed": Family(
        LISTED,
        (
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
        eos="</s>",
        bos="<s>",
    ),
    "channels": Family(
        CHANNELS, ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>", "<|return|>"), eos="<|return|>"
    ),
    "keyed": Family(
        KEYED,
        ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>", "<|eot|>"),
        ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", *THINK),
        eos="<|eot|>",
    ),
    "always": Family(
        ALWAYS,
        (
            "<bos>",
            "<|turn|>",
            "<|turn_end|>",
            "<|bot|>",
            "<|user|>",
            "<|system|>",
            "<|tool|>",
            "<|action|>",
            "<|/action|>",
            "<|response|>",
            "<|/response|>",
            "<|thinking|>",
            "<|/thinking|>",
        ),
        eos="<|turn_end|>",
        bos="<bos>",
    ),
}


def family_base(base: Path, folder: Path, name: str) -> Path:
    """A base with the template of a family."""
    family = FAMILIES[name]
    config: JsonObject = {"bos_token": family.bos} if family.bos else {}
    return make_base(
        base, folder / name, family.template, special=family.special, plain=family.plain, eos=family.eos, config=config
    )


def family_renderers(base: Path, folder: Path) -> dict[str, Renderer]:
    """A renderer for each family."""
    return {name: load_renderer(family_base(base, folder, name)) for name in FAMILIES}


def theirs(
    family: Family, messages: list[JsonObject], tools: list[JsonObject] | None = None, *, prompt: bool = False
) -> str:
    """What transformers writes; arguments are objects there."""
    texts = render_jinja_template(
        [messages],
        tools=None if tools is None else [*tools],
        chat_template=family.template,
        add_generation_prompt=prompt,
        eos_token=family.eos,
        bos_token=family.bos,
    )[0]
    return str(texts[0])
