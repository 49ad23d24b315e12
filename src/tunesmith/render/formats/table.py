"""The forms of calls that are known, and which of them a template writes.

The first whose `sign` is found in what a template writes for a call is taken; a template that shows none of them is
read as Hermes', which is our own convention too.
"""

import re

from tunesmith.render.formats.bodies import ifm_calls, invoke_calls, json_calls, keyed_calls, python_calls, xml_calls
from tunesmith.render.formats.form import CallForm, ReadBody
from tunesmith.render.formats.harmony import MARKS
from tunesmith.render.formats.marked_bodies import deepseek_calls, gemma_calls, kimi_calls, mistral_calls
from tunesmith.render.formats.nested_bodies import MINIMAX, kimi_k3_calls, minimax_m3_calls, param_calls

THINKS = (("<think>", "</think>"),)
_JSON_CALL = re.compile(
    r'(?:```\w{0,20}\n\s{0,64})?\[?\s{0,64}\{\s{0,64}"(?:name|type|function|tool_name|parameters|arguments)"\s{0,64}:'
)
_PYTHON_CALL = re.compile(r"\[\s*[A-Za-z_][\w.]*\(")


def _form(  # noqa: PLR0913  (a row of the table)
    name: str,
    sign: str,
    read: ReadBody,
    opens: str | tuple[str, ...] = "",
    closes: str | tuple[str, ...] = "",
    *,
    begins: re.Pattern[str] | None = None,
    thinks: tuple[tuple[str, str], ...] = THINKS,
    drops: tuple[str, ...] = (),
    inner: tuple[str, ...] = (),
    pair: tuple[str, str] | None = None,
    inline: tuple[str, ...] = (),
) -> CallForm:
    marks = _several(opens), _several(closes)
    return CallForm(
        name,
        re.compile(sign),
        read,
        *marks,
        begins=begins,
        thinks=thinks,
        drops=drops,
        inner=inner,
        pair=pair,
        inline=inline,
    )


def _several(marks: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(marks.split()) if isinstance(marks, str) else marks


HERMES = _form("hermes", r"<tool_call>\s*\{", json_calls, "<tool_call>", "</tool_call>")
HARMONY = _form("harmony", r"<\|channel\|>", json_calls, inner=MARKS)
FORMS = (
    HARMONY,
    _form("hy_v3", r"<tool_sep>", keyed_calls, "<tool_call>", "</tool_call>", drops=("<tool_calls>", "</tool_calls>"),
          inner=("<tool_sep>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
          pair=("<arg_value>", "</arg_value>")),
    _form("k2_horizon", r"<ifm\|tool_call>", ifm_calls, "<ifm|tool_call>", "</ifm|tool_call>",
          drops=("<ifm|tool_calls>", "</ifm|tool_calls>"), thinks=(("<ifm|think>", "</ifm|think>"), *THINKS)),
    _form("glm", r"<arg_key>", keyed_calls, "<tool_call>", "</tool_call>",
          inner=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"), pair=("<arg_value>", "</arg_value>")),
    _form("seed_oss", r"<seed:tool_call>", xml_calls, "<seed:tool_call>", "</seed:tool_call>",
          thinks=(("<seed:think>", "</seed:think>"),)),
    _form("minimax_m3", r"\]<\]minimax\[>\[", minimax_m3_calls, f"{MINIMAX}<tool_call>", f"{MINIMAX}</tool_call>",
          thinks=(("<mm:think>", "</mm:think>"), *THINKS)),
    _form("kimi_k3", r"<\|open\|>", kimi_k3_calls, "<|open|>tools<|sep|>", "<|close|>tools<|sep|>",
          thinks=(("<|open|>think<|sep|>", "<|close|>think<|sep|>"),), inner=("<|open|>", "<|close|>", "<|sep|>"),
          drops=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>")),
    _form("minicpm5", r"<function name=", param_calls, ("<function name=", "<functionname="), "</function>"),
    _form("dots", r"<dots_function_call>", invoke_calls, "<dots_function_call>", "</dots_function_call>"),
    _form("minimax", r"<minimax:tool_call>", invoke_calls, ("<minimax:tool_call>", "<invoke name="),
          "</minimax:tool_call>"),
    _form("deepseek_v32", r"｜DSML｜", invoke_calls,
          ("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "<｜DSML｜invoke name="),
          "</｜DSML｜function_calls> </｜DSML｜tool_calls>"),
    _form("muse", r"<atem:invoke", invoke_calls, ("<atem:function_calls>", "<atem:invoke name="),
          "</atem:function_calls>", drops=(" to=user<|message|>",)),
    _form("qwen3_coder", r"<tool_call>\s*<function=", xml_calls, "<tool_call> <function=", "</tool_call>",
          pair=("<parameter=", "</function>")),
    _form("functionary", r"<function=", xml_calls, "<function=", "</function>"),
    HERMES,
    _form("deepseek", r"<｜tool▁call▁begin｜>", deepseek_calls, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
          drops=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"), inner=("<｜tool▁sep｜>",)),
    _form("kimi_k2", r"<\|tool_call_begin\|>", kimi_calls, "<|tool_call_begin|>", "<|tool_call_end|>",
          drops=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"), inner=("<|tool_call_argument_begin|>",),
          thinks=(*THINKS, ("◁think▷", "◁/think▷"))),
    _form("cohere", r"<\|START_ACTION\|>", json_calls, "<|START_ACTION|>", "<|END_ACTION|>",
          thinks=(("<|START_THINKING|>", "<|END_THINKING|>"),),
          drops=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")),
    _form("mistral", r"\[TOOL_CALLS\]", mistral_calls, "[TOOL_CALLS]",
          thinks=(("[THINK]", "[/THINK]"), *THINKS), inner=("[ARGS]", "[CALL_ID]")),
    _form("gemma4", r"<\|tool_call>", gemma_calls, "<|tool_call>", "<tool_call|>",
          thinks=(("<|channel>thought", "<channel|>"), ("<|channel><|channel>thought", "<channel|>"),
                  ("<|channel>", "<channel|>"), *THINKS),
          drops=("<channel|>", "<|channel>thought\n<channel|>"), inner=('<|"|>', "<|channel>")),
    _form("function_gemma", r"<start_function_call>", gemma_calls, "<start_function_call>", "<end_function_call>",
          inner=("<escape>",)),
    _form("granite", r"<\|tool_call\|>", json_calls, "<|tool_call|> <tool_call>",
          thinks=(*THINKS, ("Here is my thought process:", "Here is my response:"))),
    _form("lfm2", r"<\|tool_call_start\|>", python_calls, "<|tool_call_start|>", "<|tool_call_end|>"),
    _form("olmo3", r"<function_calls>", python_calls, "<function_calls>", "</function_calls>"),
    _form("apertus", r"<\|tools_prefix\|>", json_calls, "<|tools_prefix|>", "<|tools_suffix|>",
          thinks=(("<|inner_prefix|>", "<|inner_suffix|>"),)),
    _form("step3", r"<｜tool_call_begin｜>", invoke_calls, "<｜tool_call_begin｜>", "<｜tool_call_end｜>",
          drops=("<｜tool_calls_begin｜>", "<｜tool_calls_end｜>"), inner=("<｜tool_sep｜>",)),
    _form("longcat", r"<longcat_tool_call>", json_calls, "<longcat_tool_call>", "</longcat_tool_call>",
          thinks=(("<longcat_think>", "</longcat_think>"), *THINKS)),
    _form("command_r", r"Action:\s*```json", json_calls, "Action:"),
    _form("nemotron", r"<TOOLCALL>", json_calls, "<TOOLCALL>", "</TOOLCALL>"),
    _form("hunyuan", r"<answer>", json_calls, "<tool_calls>", "</tool_calls>", drops=("<answer>\n", "\n</answer>")),
    _form("jamba", r"<tool_calls>", json_calls, "<tool_calls>", "</tool_calls>",
          thinks=(*THINKS, ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"))),
    _form("gigachat", r"'function call'|function call<\|role_sep\|>|<\|function_call\|>", json_calls,
          ("function call<|role_sep|>", "<|function_call|>"), drops=("<|message_sep|>",), inner=("<|role_sep|>",)),
    _form("granite_20b", r"<function_call>", json_calls, "<function_call>"),
    _form("internlm", r"<\|action_start\|>", json_calls, "<|action_start|>", "<|action_end|>", inner=("<|plugin|>",)),
    _form("phi4", r"functools", json_calls, "functools <|tool_call|>", "<|/tool_call|>", begins=_JSON_CALL),
    _form("pythonic", r"\[probe_tool\(", python_calls, "<|python_start|>", "<|python_end|>", begins=_PYTHON_CALL,
          inline=("[{}(",)),
    _form("llama3_json", r'\{\s*"(?:name|function)":\s*"probe_tool"', json_calls,
          "<|python_tag|> [TOOL_CALLS] <tool_call>", "</tool_call> <|python_tag|> [TOOL_CALLS] <tool_call>",
          begins=_JSON_CALL, inline=('{{"name": "{}"', '{{"name":"{}"', '[{{"name": "{}"', '[{{"name":"{}"')),
)  # fmt: skip
BLOCK_MARKS = frozenset(
    mark
    for form in FORMS
    for mark in (*form.opens, *form.closes, *form.drops, *(form.inner if form is not HARMONY else ()))
)
BY_NAME = {form.name: form for form in FORMS}


def form_of(call: str, template: str) -> CallForm:
    """The form of what a template writes for a call, else of what it says of calls."""
    if "functools" in template:  # Phi-4's shows calls otherwise than it asks for them
        return BY_NAME["phi4"]
    for text in (call, template.replace("\\n", "\n")):  # as Jinja's strings spell it
        for form in FORMS:
            if text and form.sign.search(text):
                return form
    return HERMES
