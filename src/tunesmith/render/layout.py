"""Where the texts and the template's literals stand, and which are learned.

An answer is learned after exactly what serving prompts with: `opening` is the prompt's text, and all that the template
writes after it belongs to the answer, an empty block of thinking too. A template that shows earlier answers otherwise
than the last one (Qwen3 drops their thinking) makes several examples of a row: each answer is learned where the
conversation up to it is rendered as serving will render it, and answers that agree share an example.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from tunesmith.render.chat_template import ANSWER, KEEPS, SLOT, SLOT_PATTERN, ChatTemplate, Form, Forms, Strips, placed
from tunesmith.render.faults import thinking_is_off
from tunesmith.system.deadline import check_time

_OPEN_THINKING, _CLOSED_THINKING = re.compile(r"<think>\s*\Z"), re.compile(r"</think>\s*\Z")
_CLOSE_THINKING = "\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Segment:
    """A literal of the template, or a text: slot `slot` of message `message`.

    `ends`: of a learned literal, only what reaches to the first special token is learned; without one, the base's
    own end of text is. `strips` is what the template strips off the text.
    """

    literal: str = ""
    message: int = -1
    slot: int = -1
    learned: bool = False
    ends: bool = False
    strips: Strips = KEEPS


Layout = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an answer follows.

    `opening` is what the template writes between that and the text of a plain answer."""

    layout: Layout
    opening: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """A conversation up to its last answer, whose places in the text these are."""

    text: str
    start: int  # where the prompt ends
    end: int  # where the answer's last text ends
    stop: int  # after the token that ends the turn
    strips: Mapping[tuple[int, int], Strips]


class Layouts:
    """The layouts of one template; `marks` finds its special tokens."""

    def __init__(self, template: ChatTemplate, marks: re.Pattern[str]) -> None:
        self._template = template
        self._marks = marks
        self._examples = lru_cache(maxsize=1024)(self._find_examples)
        self._prompt = lru_cache(maxsize=1024)(self._find_prompt)
        self._opening = lru_cache(maxsize=4096)(self._find_opening)

    def examples(self, forms: Forms, learned: tuple[int, ...]) -> tuple[Layout, ...]:
        """The examples that teach the answers at the indices `learned`.

        Each ends with the last of its answers."""
        return self._examples(forms, learned, self._template.moment())

    def prompt(self, forms: Forms) -> Prompt:
        """What the assistant continues after `forms`."""
        return self._prompt(forms, self._template.moment())

    def _find_prompt(self, forms: Forms, moment: tuple[str, ...]) -> Prompt:
        text, answered = self._opening(forms, moment), self._answer((*forms, ANSWER), moment)
        layout = _layout(text, self._cuts(forms, text, moment), (), self._template.strips(forms) if forms else {})
        return Prompt(layout, answered.text[len(text) : _first_slot(answered.text, len(forms))])

    def _find_examples(self, forms: Forms, learned: tuple[int, ...], moment: tuple[str, ...]) -> tuple[Layout, ...]:
        answers = {index: self._answer(forms[: index + 1], moment) for index in learned}
        examples: list[Layout] = []
        waiting = list(learned)
        while waiting:
            last = waiting[-1]
            whole = answers[last]
            taught = [one for one in waiting if one == last or whole.text.startswith(_up_to_stop(answers[one]))]
            cuts = self._cuts(forms[: last + 1], whole.text, moment)
            examples.append(_layout(whole.text, cuts, [answers[one] for one in taught], whole.strips))
            waiting = [one for one in waiting if one not in taught]
        return tuple(reversed(examples))

    def _find_opening(self, forms: Forms, _moment: tuple[str, ...]) -> str:
        """The prompt: the template's own where its answers continue it, else all that it writes before an answer."""
        check_time()
        answered = self._template.render((*forms, ANSWER))
        prompt = self._template.render(forms, prompt=True) if forms else ""
        has_prompt = bool(forms) and prompt != self._template.render(forms)
        if has_prompt and (answered.startswith(prompt) or _opens_thinking(prompt, answered)):
            return prompt
        return answered[: _first_slot(answered, len(forms))]

    def _answer(self, forms: Forms, moment: tuple[str, ...]) -> _Answer:
        """The conversation `forms`, which ends with an answer."""
        last = len(forms) - 1
        opening, text = self._opening(forms[:last], moment), self._template.render(forms)
        strips = self._template.strips(forms)
        if not text.startswith(opening) or _lacks_thought(text, forms[last], last):
            text = _continued(opening, text, forms[last], last)
            slots = {(int(one[1]), int(one[2])): Strips("\n", "\n") for one in _slots(text, last)}
            strips = {**strips, **slots}
        end = _slots(text, last)[-1].end()
        mark = self._marks.search(text, end)
        return _Answer(text, len(opening), end, mark.end() if mark else len(text), strips)

    def _cuts(self, forms: Forms, text: str, moment: tuple[str, ...]) -> set[int]:
        """Where the answers' prompts end in `text`: a literal is made of tokens up to there, as in serving."""
        openings = [self._opening(forms[:at], moment) for at, form in enumerate(forms) if form.role == "assistant"]
        return {len(one) for one in openings if text.startswith(one)}


def _layout(text: str, cuts: set[int], answers: Sequence[_Answer], strips: Mapping[tuple[int, int], Strips]) -> Layout:
    segments: list[Segment] = []
    at = 0
    for slot in SLOT_PATTERN.finditer(text):
        segments += _literals(text, at, slot.start(), cuts, answers)
        place = (int(slot[1]), int(slot[2]))
        learned = any(one.start <= slot.start() < one.end for one in answers)
        segments.append(Segment("", *place, learned, strips=strips.get(place, KEEPS)))
        at = slot.end()
    segments += _literals(text, at, len(text), cuts, answers)
    if any(one.end == len(text) for one in answers):  # the template ends an answer with nothing
        segments.append(Segment(learned=True, ends=True))
    return tuple(segments)


def _literals(text: str, start: int, stop: int, cuts: set[int], answers: Sequence[_Answer]) -> Iterator[Segment]:
    places = [start, *sorted(cut for cut in cuts if start < cut < stop), stop]
    for begin, end in pairwise(places):
        if begin == end:
            continue
        inside = any(one.start <= begin < one.end for one in answers)
        ends = any(one.end == begin for one in answers)
        yield Segment(text[begin:end], learned=inside or ends, ends=ends)


def _up_to_stop(answer: _Answer) -> str:
    return answer.text[: answer.stop]


def _slots(text: str, message: int) -> list[re.Match[str]]:
    return [one for one in SLOT_PATTERN.finditer(text) if int(one[1]) == message]


def _first_slot(text: str, message: int) -> int:
    return _slots(text, message)[0].start()


def _opens_thinking(prompt: str, answered: str) -> bool:
    """Whether the prompt begins a thought that the template leaves out of answers (DeepSeek-R1's)."""
    begun = _OPEN_THINKING.search(prompt)
    return begun is not None and answered.startswith(prompt[: begun.start()])


def _lacks_thought(text: str, form: Form, index: int) -> bool:
    """Whether the template leaves the answer's thinking out."""
    written, thought = _slots(text, index), form.content.count(SLOT) - 1 + (SLOT in (form.reasoning or ""))
    return thought > 0 and len(written) == 1


def _continued(opening: str, text: str, form: Form, index: int) -> str:
    """The answer as the model writes it after its prompt, with the thinking that the template leaves out of answers."""
    content, thought = placed(form, index)
    if thought is None and "</think>" in content:
        thought = content.partition("</think>")[0].rpartition("<think>")[2]
    rest = text[_slots(text, index)[-1].start() :]
    if _OPEN_THINKING.search(opening):
        return f"{opening}{thought or ''}{_CLOSE_THINKING}{rest}"
    if _CLOSED_THINKING.search(opening) or not text.startswith(opening):
        raise thinking_is_off()
    return f"{opening}<think>\n{thought or ''}{_CLOSE_THINKING}{rest}"
