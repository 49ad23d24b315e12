"""What a request gives the base's chat template beside its messages."""

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer
from tunesmith.serve.chat.request import ChatRequest
from tunesmith.wire.faults import invalid_value, unsupported

# What the renderer gives itself, or what would replace the template.
RESERVED = frozenset(
    ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize")
)
NO_REASONING = ("none", "minimal")


def template_variables(request: ChatRequest, renderer: Renderer) -> JsonObject:
    """The variables that a request gives the template.

    Raises InvalidRequest for those that the base's template cannot follow.
    """
    variables = {} if request.reasoning_effort is None else _effort(request.reasoning_effort, renderer)
    given = request.template_kwargs or {}
    if given and not renderer.takes_variables:
        raise unsupported("chat_template_kwargs", "the template of this model's base is given none; leave it out.")
    for name in given:
        if name in RESERVED or name.endswith("_token"):
            message = f"Invalid 'chat_template_kwargs': {name!r} is set by the server; leave it out."
            raise invalid_value("chat_template_kwargs", message)
    return {**variables, **given}


def _effort(effort: str, renderer: Renderer) -> JsonObject:
    if "reasoning_effort" in renderer.switches and effort != "none":
        return {"reasoning_effort": effort}
    switches = renderer.switches - {"reasoning_effort"}
    if not switches:
        raise unsupported("reasoning_effort", "the template of this model's base has no switch for it; leave it out.")
    return dict.fromkeys(sorted(switches), effort not in NO_REASONING)
