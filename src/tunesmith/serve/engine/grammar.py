"""Grammars for one base's vocabulary, compiled by llguidance.

A matcher tells which tokens may come next and is told which one did; docs/serving.md has the cost. Compiling takes
1 ms, but seconds for thousands of properties, so it is done in the request's thread and not in the engine's.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.render.renderer import Renderer

LIMITS = LLParserLimits(max_grammar_size=100_000)  # symbols of all schemas of a request; 40,000 may take 2 s
CACHED_GRAMMARS = 64  # one of a usual schema takes less than 1 MB


class CompiledGrammar:
    """A `protocol.Grammar`, equal only to itself."""

    def __init__(self, text: str, matcher: LLMatcher) -> None:
        self.text = text
        self._matcher = matcher  # never advanced: every choice starts with a copy

    def start(self) -> "GrammarMatcher":
        """A matcher at the start of the grammar."""
        return GrammarMatcher(self._matcher.deep_copy())


class GrammarMatcher:
    """A `protocol.Matcher`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher
        self.finished = matcher.is_stopped()

    def allowed(self) -> bytes:
        """The tokens that may come next, as a bit mask, least significant bit first."""
        bits = self._matcher.compute_bitmask()
        self._check()
        return bits

    def advance(self, token: int) -> None:
        """Moves past `token`. Raises ServerFault if it was not allowed."""
        self._matcher.consume_token(token)
        self._check()
        self.finished = self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ServerFault(
                "The answer could not be held to its grammar any further:"
                f" {_first_line(self._matcher.get_error())}. Simplify the schema."
            )


class Grammars:
    """A cache of the compiled grammars of one base. Thread-safe.

    llguidance holds the interpreter for 0.15 s while it reads a vocabulary. That is done here, as the base is loaded:
    later it would hold up everybody who is being answered.
    """

    def __init__(self, renderer: Renderer, adapt: Callable[[str], str] = str) -> None:
        """`adapt`: what becomes of a grammar's text first, for another server that reads the same."""
        self._adapt = adapt
        self._tokenizer = _tokenizer(renderer)
        self._compiled: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._lock = Lock()

    def compile(self, text: str) -> CompiledGrammar:
        """The compiled grammar. Raises InvalidRequest if it exceeds llguidance's limits."""
        text = self._adapt(text)
        with self._lock:
            if text in self._compiled:
                self._compiled.move_to_end(text)
                return self._compiled[text]
        compiled = CompiledGrammar(text, _matcher(self._tokenizer, text))
        with self._lock:
            self._compiled[text] = compiled
            while len(self._compiled) > CACHED_GRAMMARS:
                self._compiled.popitem(last=False)
        return compiled


def _matcher(tokenizer: LLTokenizer, text: str) -> LLMatcher:
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LIMITS)
    if matcher.is_error():
        raise InvalidRequest(
            "The schemas of 'response_format' and 'tools' cannot be turned into a grammar:"
            f" {_first_line(matcher.get_error())}. Make them smaller or simpler."
        )
    return matcher


def _first_line(message: str) -> str:
    """The message without llguidance's dump of its own state."""
    return message.partition("\n")[0].rstrip(".:; ")


class _Vocabulary:
    """A tokenizer as `TokenizerWrapper` expects it."""

    def __init__(self, renderer: Renderer) -> None:
        self.eos_token_id = min(renderer.eos_ids)
        self.bos_token_id: int | None = None
        self.tokens = [renderer.token_bytes(token) for token in range(renderer.vocab_size)]
        self.special_token_ids = sorted(renderer.hidden_ids)
        self._renderer = renderer

    def __call__(self, text: str) -> list[int]:
        return self._renderer.spell(text)


def _tokenizer(renderer: Renderer) -> LLTokenizer:
    wrapper = TokenizerWrapper(_Vocabulary(renderer))
    return LLTokenizer(wrapper, n_vocab=renderer.vocab_size, eos_token=sorted(renderer.eos_ids))
