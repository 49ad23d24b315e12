"""The older completions: plain text continued.

A request has any number of prompts, each with `n` choices.

`echo` puts the prompt before each choice, with `logprobs` how likely the model finds it: `max_tokens` 0 is for that.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from tunesmith.errors import InvalidRequest
from tunesmith.serve.chat.answer import Piece, Reply, TokenLogprob, Usage, check_context, generate_request
from tunesmith.serve.chat.request import Options, sampling_options
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.wire.completions import CreateCompletion

DEFAULT_MAX_TOKENS = 16
MAX_ECHOED = 16_000_000  # characters of prompts in all choices together
MAX_ECHOED_LOGPROBS = 250_000  # and tokens, with theirs


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What the engine side needs of a request."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]  # text or token ids
    options: Options
    echo: bool
    top_logprobs: int | None
    best_of: int  # choices to generate; the `n` likeliest of them are answered


def completion_request(body: CreateCompletion) -> CompletionRequest:
    """The engine's request of a body."""
    return CompletionRequest(
        model=body.model,
        prompts=tuple(prompt if isinstance(prompt, str) else tuple(prompt) for prompt in body.prompt),
        options=sampling_options(body, DEFAULT_MAX_TOKENS),
        echo=body.echo,
        top_logprobs=body.logprobs,
        best_of=body.best_of or body.n,
    )


class Continuation:
    """The continuation of one prompt, under way.

    Like `answer.Reply`, but where it echoes, each choice begins with the prompt.
    """

    def __init__(self, reply: Reply, echoed: str | None, options: Options, *, with_logprobs: bool) -> None:
        """`echoed`: the prompt's text; None: it is not asked for."""
        self._reply = reply
        self._echoed = echoed
        self._options = options
        self._with_logprobs = with_logprobs
        self._echoed_logprobs: tuple[TokenLogprob, ...] = ()

    async def pieces_async(self) -> AsyncIterator[Piece]:
        """Yields the pieces of all choices as they come."""
        begun: set[int] = set()
        async for piece in self._reply.pieces_async():
            if not begun:
                await self._score_prompt()
            if piece.choice not in begun:
                begun.add(piece.choice)
                for echo in self._echo(piece.choice):
                    yield echo
            yield self._moved(piece)
        if self._options.max_tokens == 0:  # nothing was written, so no choice has ended yet
            await self._score_prompt()
            for choice in range(self._options.n):
                for echo in self._echo(choice):
                    yield echo
                yield Piece(choice, "", finish="length")

    def close(self) -> None:
        """Stops the generation."""
        self._reply.close()

    @property
    def usage(self) -> Usage:
        """The tokens used so far."""
        return self._reply.usage

    async def _score_prompt(self) -> None:
        """Once for all choices, and on a thread: a long prompt takes long."""
        if self._echoed is not None and self._with_logprobs:
            self._echoed_logprobs = await asyncio.to_thread(lambda: self._reply.prompt_logprobs)

    def _echo(self, choice: int) -> Iterator[Piece]:
        if self._echoed is not None:
            yield Piece(choice, self._echoed, self._echoed_logprobs, echo=True)

    def _moved(self, piece: Piece) -> Piece:
        """Offsets of what the model wrote, counted from the start of the prompt."""
        if not self._echoed or not piece.logprobs:
            return piece
        length = len(self._echoed)
        return replace(piece, logprobs=tuple(replace(one, offset=one.offset + length) for one in piece.logprobs))


def start_completions(request: CompletionRequest, loaded: LoadedModel) -> list[Continuation]:
    """Queues the answer to each prompt.

    Raises InvalidRequest when one leaves no room.
    """
    room = min(1, request.options.max_tokens or 0)
    prompts = [_ids(prompt, loaded, room) for prompt in request.prompts]
    echoed = [loaded.renderer.decode(ids) if request.echo else None for ids in prompts]
    _check_echoed(request, sum(map(len, prompts)), sum(len(text or "") for text in echoed))
    started: list[Continuation] = []
    try:
        for ids, text in zip(prompts, echoed, strict=True):
            started.append(_start(ids, text, request, loaded))
    except BaseException:
        for continuation in started:
            continuation.close()
        raise
    return started


def _check_echoed(request: CompletionRequest, tokens: int, chars: int) -> None:
    """Raises InvalidRequest where the prompts, which each choice repeats, would make too large an answer."""
    if not request.echo:
        return
    scored = request.top_logprobs is not None
    if request.best_of * chars > MAX_ECHOED or (scored and request.best_of * tokens > MAX_ECHOED_LOGPROBS):
        raise InvalidRequest(
            f"Invalid 'echo': {len(request.prompts)} prompts of {chars:,} characters ({tokens:,} tokens) would be "
            f"repeated in {request.best_of} choices each. At most {MAX_ECHOED:,} characters are, and "
            f"{MAX_ECHOED_LOGPROBS:,} tokens with log-probabilities. Ask for fewer choices, or fewer prompts at once.",
            param="echo",
            code="invalid_value",
        )


def _start(ids: list[int], echoed: str | None, request: CompletionRequest, loaded: LoadedModel) -> Continuation:
    several = request.best_of > request.options.n
    top = 0 if several and request.top_logprobs is None else request.top_logprobs  # choices are compared by theirs
    options = replace(request.options, n=request.best_of)
    scored = request.echo and request.top_logprobs is not None
    generate = generate_request(ids, options, loaded, DEFAULT_MAX_TOKENS, top)
    generate = replace(generate, prompt_logprobs=scored)
    return Continuation(Reply(loaded, generate, options.stop), echoed, options, with_logprobs=scored)


def likeliest(choices: list[list[Piece]], n: int) -> list[list[Piece]]:
    """The `n` choices with the highest mean log-probability per token, best first.

    Where there are no more than `n`, they keep their order.
    """
    return sorted(choices, key=_mean_logprob, reverse=True)[:n] if len(choices) > n else choices


def _mean_logprob(pieces: list[Piece]) -> float:
    """Of what the model wrote. An empty choice says nothing, with certainty."""
    entries = [entry for piece in pieces if not piece.echo for entry in piece.logprobs]
    values = [entry.logprob for entry in entries if entry.logprob is not None]
    return sum(values) / len(values) if values else 0.0


def _ids(prompt: str | tuple[int, ...], loaded: LoadedModel, room: int) -> list[int]:
    """The tokens of a prompt, which leave `room` for as many more; one that is far too long is not made into tokens."""
    least = loaded.renderer.least_tokens(len(prompt)) if isinstance(prompt, str) else len(prompt)
    check_context(least, loaded, "prompt", room, at_least=isinstance(prompt, str))
    ids = loaded.renderer.text_prompt(prompt) if isinstance(prompt, str) else list(prompt)
    check_context(len(ids), loaded, "prompt", room)
    for token in ids:
        if not 0 <= token < loaded.renderer.vocab_size:
            raise InvalidRequest(
                f"Invalid 'prompt': token {token} does not exist; this model's token ids are 0 to"
                f" {loaded.renderer.vocab_size - 1}.",
                param="prompt",
                code="invalid_value",
            )
    return ids or [min(loaded.renderer.eos_ids)]  # OpenAI's default prompt too is the token between two texts
