"""The older completions: plain text continued, one request with any number of prompts, each with `n` choices.

What is not covered, and refused by name: `suffix`, log-probabilities of an echoed prompt.
"""

from dataclasses import dataclass, replace

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.serve.chat import Piece, Reply, check_context, generate_request
from tunesmith.serve.fields import Fields, as_array, invalid_value, missing, too_long, unsupported, wrong_type
from tunesmith.serve.pool import Opened
from tunesmith.serve.request import Options, parse_options

DEFAULT_MAX_TOKENS = 16
MAX_PROMPTS = 128


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    model: str
    prompts: tuple[str | tuple[int, ...], ...]  # text or token ids
    options: Options
    echo: bool
    top_logprobs: int | None
    best_of: int  # choices to generate; the `n` likeliest of them are answered


def parse_completion_request(body: JsonValue) -> CompletionRequest:
    """Raises InvalidRequest with the field's name in `param`."""
    fields = Fields(body)
    fields.ignore("user")
    if fields.text("suffix"):
        raise unsupported("suffix", "text can be continued, not filled in.")
    options = parse_options(fields, DEFAULT_MAX_TOKENS)
    request = CompletionRequest(
        model=fields.required_text("model"),
        prompts=_prompts(fields.raw("prompt")),
        options=options,
        echo=fields.boolean("echo"),
        top_logprobs=fields.integer("logprobs", 0, 5),
        best_of=_best_of(fields, options),
    )
    if request.echo and request.top_logprobs is not None:
        raise unsupported("echo", "log-probabilities of a prompt are not computed; leave 'echo' or 'logprobs' out.")
    fields.finish()
    return request


def start_completions(request: CompletionRequest, opened: Opened) -> list[tuple[str, Reply]]:
    """(text to echo, reply) of each prompt, all queued. Raises InvalidRequest when one leaves no room."""
    prompts = [_ids(prompt, opened) for prompt in request.prompts]
    for ids in prompts:
        check_context(len(ids), opened, "prompt")
    several = request.best_of > request.options.n
    top = 0 if several and request.top_logprobs is None else request.top_logprobs  # choices are compared by theirs
    options = replace(request.options, n=request.best_of)
    started = []
    for ids in prompts:
        generate = generate_request(ids, options, opened, DEFAULT_MAX_TOKENS, top)
        echoed = opened.renderer.decode(ids) if request.echo else ""
        started.append((echoed, Reply(opened, generate, request.options.stop)))
    return started


def likeliest(choices: list[list[Piece]], n: int) -> list[list[Piece]]:
    """The `n` choices of the highest mean log-probability a token, likeliest first; no more than `n`: as they are."""
    return sorted(choices, key=_mean_logprob, reverse=True)[:n] if len(choices) > n else choices


def _mean_logprob(pieces: list[Piece]) -> float:
    """An empty choice says nothing, with certainty."""
    values = [entry.logprob for piece in pieces for entry in piece.logprobs]
    return sum(values) / len(values) if values else 0.0


def _best_of(fields: Fields, options: Options) -> int:
    best_of = fields.integer("best_of", 0, 20) or options.n
    if best_of < options.n:
        raise invalid_value("best_of", f"Invalid 'best_of': {best_of} is less than 'n', which is {options.n}.")
    if options.stream and best_of > options.n:
        raise invalid_value("best_of", "Invalid 'best_of': the best is known at the end, so it cannot be streamed.")
    return best_of


def _prompts(value: JsonValue) -> tuple[str | tuple[int, ...], ...]:
    if value is None:
        raise missing("prompt")
    if isinstance(value, str):
        return (value,)
    items = as_array(value, "prompt")
    if not items:
        raise invalid_value("prompt", "Invalid 'prompt': an empty array has nothing to continue.")
    if any(isinstance(item, int) for item in items):
        return (_tokens(items, "prompt"),)
    if len(items) > MAX_PROMPTS:
        raise too_long("prompt", MAX_PROMPTS, len(items))
    return tuple(
        item if isinstance(item, str) else _tokens(as_array(item, f"prompt[{index}]"), f"prompt[{index}]")
        for index, item in enumerate(items)
    )


def _tokens(items: list[JsonValue], path: str) -> tuple[int, ...]:
    tokens = []
    for index, item in enumerate(items):
        if isinstance(item, bool) or not isinstance(item, int):
            raise wrong_type(f"{path}[{index}]", "an integer", item)
        tokens.append(item)
    return tuple(tokens)


def _ids(prompt: str | tuple[int, ...], opened: Opened) -> list[int]:
    ids = opened.renderer.text_prompt(prompt) if isinstance(prompt, str) else list(prompt)
    for token in ids:
        if not 0 <= token < opened.renderer.vocab_size:
            raise InvalidRequest(
                f"Invalid 'prompt': token {token} does not exist; this model's token ids are 0 to"
                f" {opened.renderer.vocab_size - 1}.",
                param="prompt",
                code="invalid_value",
            )
    return ids or [min(opened.renderer.eos_ids)]  # OpenAI's default prompt too is the token between two texts
