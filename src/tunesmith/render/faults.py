"""Why a row or a chat cannot be rendered, each cause with its own fix."""

from jinja2 import TemplateSyntaxError, UndefinedError

from tunesmith.errors import DataError
from tunesmith.render.template_environment import RefusedByTemplate

_TEMPLATE_FIXES = (
    ("alternat", "Let user and assistant take turns, the user first: merge neighbouring messages of one role."),
    ("system", "Put the system message first, or write its text into the first user message."),
    ("tool", "Give the row no tools, or choose a base whose template knows them."),
)
_ANY_REFUSAL = "Change the messages as the template says, or choose another base."
_BROKEN = "Correct the template (chat_template.jinja, or chat_template in tokenizer_config.json), or use another base."


MOST_SAID = 1000  # characters of what a template says
NO_TEMPLATE = "no_chat_template"


class RenderError(DataError):
    """A row or chat that the base cannot render.

    `what` is the matter, `fix` how to fix it.

    `finding` is the code under which the check reports it.
    """

    def __init__(self, what: str, fix: str, finding: str = "not_renderable") -> None:
        super().__init__(f"{what} {fix}", param="model" if finding == NO_TEMPLATE else "messages")
        self.what = what
        self.fix = fix
        self.finding = finding


class EndlessTemplate(RenderError):
    """A chat template that costs more than a run may."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The base's chat template {reason} for these messages: it loops or multiplies text without end, and cannot"
            " be used.",
            _BROKEN,
        )
        self.reason = reason


def endless(reason: str) -> EndlessTemplate:
    """The template was stopped.

    `reason` says what it does: "takes more than 1,000 steps".
    """
    return EndlessTemplate(reason)


def template_too_long(chars: int, limit: int) -> RenderError:
    """The template's own text is no template's."""
    return RenderError(
        f"The base's chat template has {chars:,} characters, and at most {limit:,} are read.", _BROKEN, NO_TEMPLATE
    )


def no_template() -> RenderError:
    """The base has no chat template, so it can only continue text."""
    return RenderError(
        "The base has no chat template, so it is not known how it marks the turns of a chat.",
        "Train it on prompt/completion rows and ask it through /v1/completions, choose an instruct model as base, or"
        " put a chat_template.jinja into its directory.",
        NO_TEMPLATE,
    )


def broken_template(error: Exception) -> RenderError:
    """The base's template is no valid Jinja template."""
    line = f" in line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
    return RenderError(f"The base's chat template cannot be read: {_said(error)}{line}.", _BROKEN, NO_TEMPLATE)


def refused(roles: tuple[str, ...], error: Exception) -> RenderError:
    """The template stopped at messages with these roles."""
    said = _said(error)
    if isinstance(error, RefusedByTemplate):
        fix = next((fix for word, fix in _TEMPLATE_FIXES if word in said.lower()), _ANY_REFUSAL)
        late = next((at for at, role in enumerate(roles) if at and role in {"system", "developer"}), 0)
        if late:
            fix = (
                f"Message {late} is a {roles[late]} message after the first turn: put it first, or write its text into"
                " the user's message beside it."
            )
        return RenderError(f"The base's chat template refuses the roles {', '.join(roles)}: {said}.", fix)
    if isinstance(error, UndefinedError):
        return RenderError(f"The base's chat template uses what is not defined: {said}.", _BROKEN)
    kind = type(error).__name__
    return RenderError(f"The base's chat template fails on the roles {', '.join(roles)}: {kind}: {said}.", _BROKEN)


def left_out(index: int, roles: tuple[str, ...]) -> RenderError:
    """The template wrote nothing of a message."""
    return RenderError(
        f"The base's chat template leaves out message {index} ({roles[index]!r}) of the roles {', '.join(roles)}.",
        "Use an order of roles that it knows.",
    )


def no_answer(index: int) -> RenderError:
    """The template wrote nothing of an answer."""
    return RenderError(
        f"The base's chat template writes nothing of message {index}, an answer that should be learned.",
        "Give the answer a text or a call, or weight 0.",
    )


def lost_calls(index: int) -> RenderError:
    """The template wrote not all calls of an answer."""
    return RenderError(
        f"The base's chat template does not write all calls of message {index}, so they would not be learned.",
        "Give the message one call and no content, the others messages of their own, or choose another base.",
    )


def thinking_is_off() -> RenderError:
    """The template's prompt cannot be continued by an answer that thinks."""
    return RenderError(
        "The base's chat template begins every answer without thinking, so an answer that thinks cannot follow.",
        "Remove the thinking from the answers, or choose a base that thinks.",
    )


def no_end() -> RenderError:
    """The base has no token that ends a text."""
    return RenderError(
        "The base names no token that ends a text, so a tuned model would not know when to stop.",
        "Set eos_token in its tokenizer_config.json.",
    )


def not_after_prompt() -> RenderError:
    """An output of a preference row is no answer to its input."""
    return RenderError(
        "A preference answer must start with an assistant message right after the prompt.",
        "End the input with the user's turn, and write each output as one assistant message.",
    )


def nothing_to_learn() -> RenderError:
    """No token of the row is learned."""
    return RenderError(
        "There is no token to learn from: the row has no assistant message, or all of them have weight 0.",
        "Give at least one assistant message no weight, or weight 1.",
        "nothing_to_learn",
    )


def answer_cut(tokens: int, limit: int | None) -> RenderError:
    """The limit leaves nothing of the answer."""
    return RenderError(
        f"The row has {tokens} tokens and the limit is {limit}: the cut takes the whole answer.",
        "Shorten what comes before the answer.",
        "answer_cut",
    )


def _said(error: Exception) -> str:
    return str(error)[:MOST_SAID].strip().rstrip(".") or type(error).__name__
