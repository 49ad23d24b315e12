"""What a template writes around the names and arguments of calls, for grammars."""

import json
import re
from dataclasses import replace

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.faults import EndlessTemplate
from tunesmith.render.formats.bodies import json_calls
from tunesmith.render.formats.form import CallForm
from tunesmith.render.formats.table import HERMES, form_of
from tunesmith.render.native.habits import NAME, TOOL, USER, VALUE, Habits, probe_call
from tunesmith.render.native.texts import SENTINEL, common
from tunesmith.render.native.turn_ends import TurnEnds
from tunesmith.render.tool_text import OUR_WORDS, CallWords

_ARGUMENTS: JsonObject = {"probe": "argument"}


def call_text(template: ChatTemplate, habits: Habits, count: int = 0) -> str:
    """What the template writes for an answer of so many calls.

    0 stands for the usual probe. "" where the template refuses.
    """
    if not habits.calls:
        return ""
    message = probe_call(habits)
    if count:
        message["tool_calls"] = [_call(habits, number) for number in range(count)]
    try:
        asked = template.write([USER], [TOOL], prompt=True)
        called = template.write([USER, message], [TOOL])
    except EndlessTemplate:
        raise
    except DataError:
        return ""
    return called[common(asked, called) :]


def call_words(template: ChatTemplate, habits: Habits, form: CallForm, ends: TurnEnds) -> CallWords:
    """Our own words for a form whose arguments are not JSON."""
    opening = _opening(template)
    return replace(_own_words(template, habits, form, ends) or OUR_WORDS, opening=opening)


def _opening(template: ChatTemplate) -> str:
    """What is written between the prompt and the text of an answer."""
    answer: JsonObject = {"role": "assistant", "content": SENTINEL}
    try:
        prompt, head = template.write([USER], prompt=True), template.write([USER, answer]).partition(SENTINEL)[0]
    except EndlessTemplate:
        raise
    except DataError:
        return ""
    return head[common(prompt, head) :]


def _own_words(template: ChatTemplate, habits: Habits, form: CallForm, ends: TurnEnds) -> CallWords | None:
    written = json.dumps(_ARGUMENTS)
    one = ends.cut_mark(call_text(template, habits, 1))
    if one.count(written) != 1 or one.count(NAME) != 1 or one.index(NAME) > one.index(written):
        return None
    start, rest = one.split(NAME)
    middle, end = rest.split(written)
    two = ends.cut_mark(call_text(template, habits, 2))
    between = None
    if (
        two.count(NAME) == 2
        and two.startswith(f"{start}{NAME}{middle}{written}")
        and two.endswith(f"{NAME}{middle}{written}{end}")
    ):
        between = two[len(start + NAME + middle + written) : len(two) - len(NAME + middle + written + end)]
    mark = next((opening for opening in form.opens if opening in start), "")
    before, _, lead = start.partition(mark) if mark else ("", "", start)
    return CallWords(mark, lead, middle, between, end, before)


def form_read(call: str, template: str, marks: re.Pattern[str]) -> CallForm:
    """The form in which a template writes calls.

    One that is not known is read as JSON between the marks that it has.
    """
    form = form_of(call, template)
    if form is not HERMES or HERMES.sign.search(call) or NAME not in call:
        return form
    before = list(marks.finditer(call, 0, call.index(NAME)))
    after = list(marks.finditer(call, call.rindex(VALUE)))
    if not before:
        return form
    closes = (after[0][0],) if after else ()
    return CallForm("json", HERMES.sign, json_calls, (before[-1][0],), closes)


def _call(habits: Habits, number: int) -> JsonObject:
    arguments = json.dumps(_ARGUMENTS) if habits.text_arguments else _ARGUMENTS
    function: JsonObject = {"name": NAME, "arguments": arguments}
    given = f"call0000{number + 1}" if habits.short_ids else f"call_000000000000000{number + 1}"
    return {"id": given, "type": "function", "function": function}
