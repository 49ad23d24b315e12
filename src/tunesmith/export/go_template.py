"""A base's chat template in Ollama's Go syntax, where that can be written exactly.

What a base's own (Jinja) template writes before and after a message of each role is found by asking it for one
conversation. A Go template is made of that, and its text is then run by a small interpreter of the Go constructs used
here, on conversations of several kinds: only if all come out as the base's own template writes them is it returned.

What is not covered: tools, thoughts, system messages after the first message, and texts that a template strips; those
conversations may differ.
Source of `.System` and `.Messages`: Ollama's `template/template.go`.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.chat_template import ChatTemplate
from tunesmith.render.faults import RenderError

Message = tuple[str, str]  # role and text
_MARKS = ("\ufdd4", "\ufdd5", "\ufdd6", "\ufdd7")  # noncharacters, which no template has
_MARK = re.compile("|".join(_MARKS))
PROBES: tuple[tuple[Message, ...], ...] = (
    (("user", "Hi"),),
    (("system", "Be brief."), ("user", "Hi")),
    (("user", "Hi"), ("assistant", "Hello!"), ("user", "How are you?")),
    (("system", "Hm."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "So?"), ("assistant", "!"), ("user", "é")),
    (("system", "Answer in JSON."), ("user", 'Two\nlines and {"a": 1}')),
)  # fmt: skip


def go_template(template: ChatTemplate, begin: str = "") -> str | None:
    """The Go template that writes prompts as `template` does; None without one.

    `begin`: the text of a token that llama.cpp puts before every prompt, and a Go template therefore must not.
    """
    pieces = _pieces(template, begin)
    if pieces is None:
        return None
    text = pieces.go()
    try:
        exact = all(run_go(text, probe) == _written(template, probe, begin) for probe in PROBES)
    except (RenderError, ValueError):
        return None
    return text if exact else None


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What stands around the texts."""

    default: str  # at the beginning, where there is no system message
    around: dict[str, tuple[str, str]]
    answer: str  # where the assistant begins to write

    def go(self) -> str:
        """The Go template."""
        default = f"{{{{ if not .System }}}}{self.default}{{{{ end }}}}" if self.default else ""
        cases = "{{ else }}".join(
            f'{{{{ if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}'
            for role, (before, after) in self.around.items()
        )
        ends = "{{ end }}" * len(self.around)
        return f"{default}{{{{ range .Messages }}}}{cases}{ends}{{{{ end }}}}{self.answer}"


def _pieces(template: ChatTemplate, begin: str) -> _Pieces | None:
    """Reads them off conversations with a mark in the place of each text; None where they do not fit together."""
    system, user, answer, again = _MARKS
    full = (("system", system), ("user", user), ("assistant", answer), ("user", again))
    try:
        whole = _written(template, full, begin)
        prompt = _written(template, full[1:2], begin)
        closed, answered = (_written(template, full[1:end], begin, prompt=False) for end in (2, 3))
    except RenderError:
        return None
    texts = (whole, prompt, closed, answered)
    if any("{{" in text or '"""' in text for text in texts) or not prompt.startswith(closed):
        return None
    parts = [_MARK.split(text) for text in texts]
    if [len(one) for one in parts] != [5, 2, 2, 3]:
        return None
    before_system, to_user, to_answer, to_again, _ = parts[0]
    start, after_user, after_answer = parts[2][0], parts[2][1], parts[3][2]
    before_user, before_answer = to_again.removeprefix(after_answer), to_answer.removeprefix(after_user)
    around = {
        "system": (before_system, to_user.removesuffix(before_user)),
        "user": (before_user, after_user),
        "assistant": (before_answer, after_answer),
    }
    return _Pieces(start.removesuffix(before_user), around, prompt.removeprefix(closed))


def _written(template: ChatTemplate, messages: Sequence[Message], begin: str, *, prompt: bool = True) -> str:
    given: list[JsonObject] = [{"role": role, "content": text} for role, text in messages]
    return template.write(given, prompt=prompt).removeprefix(begin)


@dataclass(frozen=True, slots=True)
class _Block:
    """A `range` or `if` with what is inside, and what stands after `else`."""

    action: str
    inside: list["_Block | str"] = field(default_factory=list)
    otherwise: list["_Block | str"] | None = None


def run_go(text: str, messages: Sequence[Message]) -> str:
    """What Ollama makes of a Go template and a conversation.

    Raises ValueError for a construct that `go_template` does not write.
    """
    tokens = _tokens(text)
    system = "\n\n".join(content for role, content in messages if role == "system")
    parsed = _parse(tokens)
    if tokens:
        raise ValueError(f"an end too many: {tokens[0]}")
    return "".join(_run(parsed, {"System": system}, messages))


def _tokens(text: str) -> deque[str]:
    """Actions in their braces, and what stands between them."""
    found: deque[str] = deque()
    at = 0
    while (begin := text.find("{{", at)) >= 0 and (end := text.find("}}", begin)) >= 0:
        found.extend(part for part in (text[at:begin], text[begin : end + 2]) if part)
        at = end + 2
    if text[at:]:
        found.append(text[at:])
    return found


def _parse(tokens: deque[str]) -> list[_Block | str]:
    """Takes the tokens up to an `end` or `else` of no block in them."""
    found: list[_Block | str] = []
    while tokens:
        action = tokens[0][2:-2].strip() if tokens[0].startswith("{{") else None
        if action in ("end", "else"):
            break
        token = tokens.popleft()
        found.append(_block(action, tokens) if action is not None and action.startswith(("if ", "range ")) else token)
    return found


def _block(action: str, tokens: deque[str]) -> _Block:
    inside, otherwise = _parse(tokens), None
    if tokens and tokens[0] == "{{ else }}":
        tokens.popleft()
        otherwise = _parse(tokens)
    if not tokens:
        raise ValueError(f"no end of {action}")
    tokens.popleft()
    return _Block(action, inside, otherwise)


def _run(parts: Sequence[_Block | str], values: dict[str, str], messages: Sequence[Message]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield values[part[2:-2].strip().removeprefix(".")] if part.startswith("{{") else part
        elif part.action == "range .Messages":
            for role, content in messages:
                yield from _run(part.inside, {**values, "Role": role, "Content": content}, messages)
        else:
            yield from _run(part.inside if _holds(part.action, values) else part.otherwise or (), values, messages)


def _holds(action: str, values: dict[str, str]) -> bool:
    compared = re.fullmatch(r'if eq \.(\w+) "([^"]*)"', action)
    if compared:
        return values[compared[1]] == compared[2]
    absent = re.fullmatch(r"if not \.(\w+)", action)
    if absent:
        return not values[absent[1]]
    raise ValueError(f"unknown: {action}")
