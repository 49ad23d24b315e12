"""The renderer: messages -> token ids and loss weights, prompts, and text back.

The check, the mask preview, training and serving all use this object, so a tuned model sees at serving exactly the
tokens it was trained on: `prompt(messages)` is `row(messages + answer)` up to the answer, by construction.

A content is encoded with special tokens switched off: `<|im_end|>` inside a message is text. Only the assistant's
content and the token that ends its turn are learned.

What is not covered: `name` of a user or system message is not rendered (the check warns); images and audio.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from tokenizers import Tokenizer

from tunesmith.errors import DataError, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.render import tool_text
from tunesmith.render.chat_template import ChatTemplate, read_template, special_tokens
from tunesmith.render.detokenizer import Detokenizer, token_bytes_table
from tunesmith.render.tool_call_reader import ParsedReply, parse_reply
from tunesmith.rows.messages import Message, Tool
from tunesmith.rows.row import ChatRow, CompletionRow, PreferenceRow

RENDERER_VERSION = 1  # raise when the same messages would yield other tokens


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as tokens.

    `weights[i]` is 1.0 where token i is learned (predicted from the tokens before it), else 0.0.

    The last token is a learned one: what follows it could teach nothing. `truncated` tokens were cut off the end.
    """

    ids: list[int]
    weights: list[float]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """A preference row as tokens.

    Both answers continue `prompt_ids`; their ids and weights start where the prompt ends.
    """

    prompt_ids: list[int]
    preferred: Rendered
    non_preferred: Rendered


@dataclass(frozen=True, slots=True)
class _Turn:
    role: str
    content: str
    learned: bool = False


class Renderer:
    """Renders for one base; made by `load_renderer`.

    Thread-safe: nothing changes after construction but caches.
    """

    def __init__(self, template: ChatTemplate, tokenizer_json: str, eos_token: str | None, eos_ids: set[int]) -> None:
        self.template = template
        self._content = _tokenizer(tokenizer_json, template.text)
        self._content.encode_special_tokens = True
        self._literal = _tokenizer(tokenizer_json, template.text)
        self._prefix_stable = template.is_prefix_stable()
        self._literal_ids = lru_cache(maxsize=4096)(self._encode_literal)
        self._bytes = token_bytes_table(self._literal, tokenizer_json)
        # Bytes for which the vocabulary has no token (SmolLM2 lacks 0xF1 and up): characters with them are lost.
        self.missing_bytes = frozenset(range(256)) - {token[0] for token in self._bytes if len(token) == 1}
        added = self._literal.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        ends = self._turn_end()
        text_end = self._literal.token_to_id(eos_token) if eos_token else None
        self._text_end = text_end if text_end is not None else ends
        self.eos_ids = frozenset({ends, self._text_end, *eos_ids})
        self.vocab_size = self._literal.get_vocab_size()
        digest = sha256(f"{template.text}\0{tokenizer_json}".encode()).hexdigest()[:12]
        self.name = f"chat-template-v{RENDERER_VERSION}-{digest}"

    @property
    def lost_bytes(self) -> bytes:
        """The `missing_bytes` of a vocabulary that spells by bytes.

        Of one that does not, nothing is known (b"").
        """
        spells = any(byte >= 0x80 for byte in range(256) if byte not in self.missing_bytes)
        return bytes(sorted(self.missing_bytes)) if spells else b""

    def row(self, row: ChatRow | CompletionRow, max_tokens: int | None = None) -> Rendered:
        """A training row as tokens. Raises DataError when no token would be learned."""
        if isinstance(row, CompletionRow):
            prompt = self.text_prompt(row.prompt)
            answer = [*self.encode(row.completion), self._text_end]
            return _finish([*prompt, *answer], [*[0.0] * len(prompt), *[1.0] * len(answer)], max_tokens)
        return _finish(*self._compose(row.messages, row.tools), max_tokens)

    def pair(self, row: PreferenceRow, max_tokens: int | None = None) -> RenderedPair:
        """A preference row as tokens. `max_tokens` bounds prompt and answer together."""
        prompt = self.prompt(row.prompt, row.tools)

        def answer(messages: tuple[Message, ...]) -> Rendered:
            ids, weights = self._compose((*row.prompt, *messages), row.tools, learn_from=len(row.prompt))
            if ids[: len(prompt)] != prompt:
                raise DataError("A preference answer must start with an assistant message right after the prompt.")
            whole = _finish(ids, weights, max_tokens)
            return Rendered(whole.ids[len(prompt) :], whole.weights[len(prompt) :], whole.truncated)

        return RenderedPair(prompt, answer(row.preferred), answer(row.non_preferred))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> list[int]:
        """What the model is given to answer `messages`.

        It ends exactly where the assistant's content begins.
        """
        turns = self._turns(messages, tools)
        literals = self.template.literals((*(turn.role for turn in turns), "assistant"))
        ids: list[int] = []
        for literal, turn in zip(literals, turns, strict=False):
            ids += self._literal_ids(literal)
            ids += self.encode(turn.content)
        ids += self._literal_ids(literals[len(turns)])
        return ids

    def text_prompt(self, text: str) -> list[int]:
        """The prompt of a plain completion (prompt/completion rows, POST /v1/completions)."""
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """Tokens of a content; special-token text in it stays text."""
        return self._content.encode(text, add_special_tokens=False).ids

    def count(self, text: str) -> int:
        """How many tokens a content has."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out."""
        detokenizer = self.detokenizer()
        return "".join([detokenizer.add(token) for token in ids]) + detokenizer.flush()

    def detokenizer(self) -> Detokenizer:
        """A detokenizer for one answer."""
        return Detokenizer(self._bytes, self.special_ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token."""
        return self._bytes[token]

    def token_text(self, token: int) -> str:
        """The token's text as people read it, broken UTF-8 shown as U+FFFD."""
        return self._bytes[token].decode("utf-8", errors="replace")

    def parse(self, text: str) -> ParsedReply:
        """What an assistant's text says: content and calls."""
        return parse_reply(text)

    def _compose(
        self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int = 0
    ) -> tuple[list[int], list[float]]:
        turns = self._turns(messages, tools, learn_from)
        if any(turn.learned for turn in turns[:-1]) and not self._prefix_stable:
            raise DataError(
                "This base renders earlier assistant turns differently from the last one, so only the last can be"
                ' learned: give the earlier assistant messages "weight": 0.'
            )
        literals = self.template.literals(tuple(turn.role for turn in turns))
        ids = [*self._literal_ids(literals[0])]
        weights = [0.0] * len(ids)
        for turn, literal in zip(turns, literals[1:], strict=True):
            content_ids, literal_ids = self.encode(turn.content), self._literal_ids(literal)
            ends = self._end_position(literal_ids) + 1
            ids += [*content_ids, *literal_ids]
            weights += [float(turn.learned)] * (len(content_ids) + ends) + [0.0] * (len(literal_ids) - ends)
        return ids, weights

    def _turns(self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int = 0) -> list[_Turn]:
        """What the template gets: tools as text, developer as system, tool results as user turns."""
        turns = [self._turn(message, index >= learn_from) for index, message in enumerate(messages)]
        if tools:
            declared = tool_text.declare(tools)
            if turns and turns[0].role == "system":
                content = turns[0].content
                turns[0] = _Turn("system", f"{content}\n\n{declared}" if content else declared)
            else:
                turns.insert(0, _Turn("system", declared))
        if not self.template.has_system_role:
            turns = _fold_system(turns)
        return [replace(turn, content=turn.content.strip()) for turn in turns] if self.template.trims else turns

    def _turn(self, message: Message, learn: bool) -> _Turn:
        match message.role:
            case "assistant":
                return _Turn("assistant", tool_text.assistant_text(message), learn and message.weight != 0)
            case "tool" | "function":
                return _Turn("user", tool_text.result_text(message))
            case "developer":
                return _Turn("system", message.content or "")
            case role:
                return _Turn(role, message.content or "")

    def _encode_literal(self, literal: str) -> tuple[int, ...]:
        return tuple(self._literal.encode(literal, add_special_tokens=False).ids)

    def _turn_end(self) -> int:
        """The special token that ends an assistant's turn: the first one after its content."""
        literal_ids = self._literal_ids(self.template.literals(("user", "assistant"))[2])
        for token in literal_ids:
            if token in self.special_ids:
                return token
        raise ServerFault(
            "The base's chat template marks the end of the assistant's turn with no special token, so a model trained"
            " with it would not know when to stop. Use an instruct model with such a token."
        )

    def _end_position(self, literal_ids: tuple[int, ...]) -> int:
        """The place of the turn's end token in the literal after it; -1 if this turn ends without one."""
        return next((index for index, token in enumerate(literal_ids) if token in self.special_ids), -1)


def load_renderer(model_dir: Path) -> Renderer:
    """The renderer of the Hugging Face directory `model_dir`; about 0.2 s, no torch."""
    tokenizer_json = (model_dir / "tokenizer.json").read_text(encoding="utf-8")
    config = json.loads((model_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = special_tokens(config)
    return Renderer(read_template(model_dir), tokenizer_json, tokens.get("eos_token"), _generation_ends(model_dir))


def _generation_ends(model_dir: Path) -> set[int]:
    path = model_dir / "generation_config.json"
    if not path.is_file():
        return set()
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return set(ends) if isinstance(ends, list) else {ends} if isinstance(ends, int) else set()


def _tokenizer(tokenizer_json: str, template: str) -> Tokenizer:
    """With every added token that the template writes marked special, so that no content can produce it."""
    value: JsonObject = json.loads(tokenizer_json)
    added = value.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and str(token["content"]) in template:
            token["special"] = True
    tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(value, ensure_ascii=False))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _finish(ids: list[int], weights: list[float], max_tokens: int | None) -> Rendered:
    """Cuts at `max_tokens` from the end (as OpenAI does), then after the last learned token."""
    full = _last_learned(weights)
    if full == 0:
        raise DataError(
            "There is no token to learn from: the row has no assistant message, or all of them have weight 0. Give at"
            " least one assistant message no weight, or weight 1."
        )
    kept = _last_learned(weights[:max_tokens]) if max_tokens is not None else full
    if kept == 0:
        raise DataError(
            f"The row has {full} tokens and the limit is {max_tokens}: the cut takes the whole answer. Shorten what"
            " comes before the answer."
        )
    return Rendered(ids[:kept], weights[:kept], truncated=full - kept)


def _last_learned(weights: Sequence[float]) -> int:
    return next((position for position in range(len(weights), 0, -1) if weights[position - 1]), 0)


def _fold_system(turns: list[_Turn]) -> list[_Turn]:
    """For templates without a system role (Gemma): system texts go before the user turn that follows."""
    folded: list[_Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif waiting and turn.role == "user":
            folded.append(_Turn("user", "\n\n".join([*waiting, turn.content])))
            waiting = []
        else:
            folded.append(turn)
    if waiting:
        folded.append(_Turn("user", "\n\n".join(waiting)))
    return folded
