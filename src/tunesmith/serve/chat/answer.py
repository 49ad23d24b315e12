"""Answers a chat request: messages -> prompt -> engine -> pieces of the answer.

A piece has text, tool calls and log-probabilities.
"""

import secrets
import string
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.rendered import Opening
from tunesmith.render.tool_call_reader import CallPart
from tunesmith.serve.chat.answer_grammar import answer_grammar
from tunesmith.serve.chat.request import ChatRequest, Options
from tunesmith.serve.chat.schema_limits import schemas_in_time
from tunesmith.serve.chat.text import ChoiceText, TextPart
from tunesmith.serve.chat.tools import ToolUse
from tunesmith.serve.chat.variables import template_variables
from tunesmith.serve.engine.protocol import Delta, Finish, GenerateRequest, Generation
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.system.deadline import OutOfTime, time_limit

LAYOUT_SECONDS = 5.0  # 200 answers that were never seen before take a second

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "function_call"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float | None  # None: nothing comes before it
    bytes: bytes
    top: tuple["TokenLogprob", ...] = ()
    offset: int = 0  # characters of the choice's text before it


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of the arguments of call number `index`.

    `id` and `name` are set on its first delta only.
    """

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of one choice; the last one has `finish`."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    calls: tuple[CallDelta, ...] = ()
    finish: FinishReason | None = None
    echo: bool = False  # the prompt, which comes before what the model wrote
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took."""

    prompt_tokens: int
    completion_tokens: int  # of all choices, without the tokens that end a turn
    cached_tokens: int = 0  # of the prompt's: those that did not have to be read again
    reasoning_tokens: int = 0  # of the completion's


def start_chat(request: ChatRequest, loaded: LoadedModel, default_max_tokens: int) -> "Reply":
    """Queues the generation. Raises InvalidRequest when the messages leave no room."""
    chars = sum(len(message.content or "") for message in request.messages)
    check_context(max(len(request.messages), loaded.renderer.least_tokens(chars)), loaded, "messages", at_least=True)
    with schemas_in_time():
        text = answer_grammar(request.response_schema, request.tools, loaded.renderer.call_words)
    variables = template_variables(request, loaded.renderer)
    held_to_text = text is not None and not loaded.renderer.takes_variables  # else its words have what comes before
    prompt, opening = _laid_out(request, loaded, variables, opened=held_to_text)
    check_context(len(prompt), loaded, "messages")
    generate = generate_request(prompt, request.options, loaded, default_max_tokens, request.top_logprobs)
    if text is not None:
        generate = replace(generate, grammar=loaded.grammars.compile(text))
    return Reply(loaded, generate, request.options.stop, request.tools, opening)


def _laid_out(
    request: ChatRequest, loaded: LoadedModel, variables: JsonObject, *, opened: bool
) -> tuple[list[int], Opening | None]:
    """The prompt, and what an answer begins with.

    Each answer of a conversation is laid out after all that comes before it, so a thousand of them take long. What was
    laid out is kept: where it took too long, the next request goes on from there.
    """
    messages, tools = request.messages, request.tools.declared
    try:
        with time_limit(LAYOUT_SECONDS):
            prompt = loaded.renderer.prompt(messages, tools, opened=opened, variables=variables)
            opening = None if opened else loaded.renderer.opening(messages, tools, prompt)
            return prompt, opening
    except OutOfTime:
        raise InvalidRequest(
            f"Your {len(messages)} messages take too long to be made into a prompt. Please send fewer of them.",
            param="messages",
            code="context_length_exceeded",
        ) from None


def check_context(prompt_tokens: int, loaded: LoadedModel, what: str, room: int = 1, *, at_least: bool = False) -> None:
    """Raises InvalidRequest for a prompt that is too long for the model.

    `room`: tokens that must fit after the prompt. `at_least`: it was not made into tokens, as it is so long.
    """
    context = loaded.engine.context_length
    if prompt_tokens + room > context:
        raise InvalidRequest(
            f"This model's maximum context length is {context} tokens. However, your {what} resulted in"
            f" {'at least ' if at_least else ''}{prompt_tokens} tokens. Please reduce the length of the {what}.",
            param=what,
            code="context_length_exceeded",
        )


def generate_request(
    prompt: list[int],
    options: Options,
    loaded: LoadedModel,
    default_max_tokens: int,
    top_logprobs: int | None,
) -> GenerateRequest:
    """The engine's request for a prompt of token ids, without a grammar.

    `max_tokens` is an upper bound, so one beyond the context is reduced to what is left of it.
    """
    _check_bias(options, loaded)
    wanted = default_max_tokens if options.max_tokens is None else options.max_tokens
    return GenerateRequest(
        prompt=tuple(prompt),
        max_tokens=min(wanted, loaded.engine.context_length - len(prompt)),
        eos_ids=loaded.renderer.eos_ids,
        n=options.n,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        logit_bias=options.logit_bias,
        top_logprobs=top_logprobs,
        adapter=loaded.adapter,
        project=loaded.project,
        background=loaded.background,
    )


class Reply:
    """A request under way.

    Iterate over its pieces once, in a thread or on an event loop; then read `usage`.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        generate: GenerateRequest,
        stops: tuple[str, ...],
        tools: ToolUse | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.fingerprint = loaded.fingerprint
        self.tuned = loaded.tuned
        self._renderer = loaded.renderer
        self._tools = tools or ToolUse()
        self._prompt = generate.prompt
        self._ends_early = bool(stops) or self._tools.single
        self._choices = [
            ChoiceText(
                loaded.renderer,
                stops,
                with_tools=bool(self._tools.callable),  # without tools, a call is text
                single_call=self._tools.single,
                grammar=generate.grammar,
                opening=opening,
            )
            for _ in range(generate.n)
        ]
        self._generation = loaded.engine.submit(generate) if _needs_model(generate) else _ended(generate.n)

    def __iter__(self) -> Iterator[Piece]:
        for delta in self._generation:
            yield from self._pieces(delta)

    async def pieces_async(self) -> AsyncIterator[Piece]:
        """The pieces as they come, on an event loop."""
        async for delta in self._generation.deltas_async():
            for piece in self._pieces(delta):
                yield piece

    async def whole_async(self) -> list[Piece]:
        """All pieces, on an event loop that is left alone until the last has come.

        But where the text may end the answer, the engine is to know of it at once.
        """
        if self._ends_early:
            return [piece async for piece in self.pieces_async()]
        return [piece for delta in await self._generation.all_async() for piece in self._pieces(delta)]

    def close(self) -> None:
        """Stops reading: the engine drops the request."""
        self._generation.close()

    @property
    def usage(self) -> Usage:
        """The tokens used so far."""
        made = sum(choice.tokens for choice in self._choices)
        thought = sum(choice.reasoning_tokens for choice in self._choices)
        return Usage(len(self._prompt), made, self._generation.cached_tokens, thought)

    @property
    def prompt_logprobs(self) -> tuple[TokenLogprob, ...]:
        """The prompt's log-probabilities, if requested; known with the first piece."""
        entries, text, read = [], self._renderer.detokenizer(), 0
        for delta in [Delta(0, self._prompt[0]), *self._generation.prompt]:
            entries.append(self._logprob(delta, read))
            read += len(text.add(delta.token))
        return tuple(entries)

    def _pieces(self, delta: Delta) -> Iterator[Piece]:
        choice = self._choices[delta.choice]
        if choice.finished:
            return
        part = choice.add(delta)
        if choice.finished and delta.finish is None:
            self._generation.stop(delta.choice)
        if part.text or part.tokens or part.calls or part.finish or part.reasoning:
            yield self._piece(delta.choice, part)

    def _piece(self, choice: int, part: TextPart) -> Piece:
        return Piece(
            choice,
            part.text,
            tuple(self._logprob(token, before) for before, token in part.tokens if token.logprob is not None),
            tuple(_call_delta(call) for call in part.calls),
            self._finish(part.finish, self._choices[choice].called),
            reasoning=part.reasoning,
        )

    def _finish(self, finish: Finish | None, called: bool) -> FinishReason | None:
        if finish == "stop" and called:
            return "function_call" if self._tools.legacy else "tool_calls"
        return finish

    def _logprob(self, delta: Delta, before: int) -> TokenLogprob:
        top = tuple(self._entry(token, logprob) for token, logprob in delta.top)
        return replace(self._entry(delta.token, delta.logprob), top=top, offset=before)

    def _entry(self, token: int, logprob: float | None) -> TokenLogprob:
        return TokenLogprob(self._renderer.token_text(token), logprob, self._renderer.token_bytes(token))


def random_id(prefix: str, length: int) -> str:
    """An id: `prefix` and `length` random letters and digits."""
    return prefix + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


def _needs_model(generate: GenerateRequest) -> bool:
    return generate.max_tokens > 0 or (generate.prompt_logprobs and len(generate.prompt) > 1)


def _ended(choices: int) -> Generation:
    generation = Generation(choices)
    generation.end()
    return generation


def _call_delta(part: CallPart) -> CallDelta:
    call_id = None if part.name is None else random_id("call_", 24)
    return CallDelta(part.index, part.arguments, call_id, part.name)


def _check_bias(options: Options, loaded: LoadedModel) -> None:
    for token, _ in options.logit_bias:
        if token >= loaded.renderer.vocab_size:
            raise InvalidRequest(
                f"Invalid 'logit_bias': token {token} does not exist; this model's token ids are below"
                f" {loaded.renderer.vocab_size}.",
                param="logit_bias",
                code="invalid_value",
            )
