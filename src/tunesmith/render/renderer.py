"""The renderer: messages -> token ids and loss weights, prompts, and text back.

The check, the mask preview, training and serving all use this object, so a tuned model sees at serving exactly the
tokens it was trained on: `prompt(messages)` is an example of `messages + answer` up to what the model writes, by
construction (`render.layout`).

A template that knows tools writes whole conversations in its own words (`render.native`), and answers are read in its
own form (`render.formats`); others get ours (`render.turns`, `render.layout`).

A content is encoded with special tokens switched off: `<|im_end|>` inside a message is text. Only what the assistant
writes and the token that ends its turn are learned.

What is not covered: `name` of a user or system message is not rendered (the check warns); images and audio.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from tunesmith.errors import ServerFault
from tunesmith.families.config_file import embedding_rows
from tunesmith.jsonvalue import JsonValue
from tunesmith.render.chat_template import (
    ANSWER,
    SLOT_PATTERN,
    ChatTemplate,
    Form,
    generation_ends,
    read_object,
    special_tokens,
    working_template,
)
from tunesmith.render.detokenizer import Detokenizer, spelling
from tunesmith.render.faults import (
    RenderError,
    no_end,
    not_after_prompt,
)
from tunesmith.render.formats.reader import answer_reader
from tunesmith.render.formats.table import HERMES
from tunesmith.render.layout import Layout, Layouts
from tunesmith.render.native.habits import Habits, find_habits
from tunesmith.render.native.tokens import NativeTokens
from tunesmith.render.rendered import Opening, Rendered, RenderedPair, RenderedRow, finish
from tunesmith.render.tool_call_reader import ParsedReply, Reader, ReplyReader, parse_reply
from tunesmith.render.tool_text import CALL_START, OUR_WORDS, CallWords
from tunesmith.render.turns import Turn, Turns
from tunesmith.render.vocabulary import Vocabulary
from tunesmith.rows.messages import Message, Tool
from tunesmith.rows.row import ChatRow, CompletionRow, PreferenceRow

# Raise when the same messages would yield other tokens. Bases for which they yield what they did keep the older number.
# Version 3 writes conversations in the words of templates that know tools; the others are at 1 and 2.
NATIVE_VERSION, RENDERER_VERSION, OLDER_VERSION = 3, 2, 1
_SWITCHES = ("enable_thinking", "reasoning_effort")
END_TOKENS = 32  # of a prompt tell whether it has begun a thought
_NEWLY_READ = ("think", "strftime_now", "generation %", "tool_response", "tool_call>")  # in a template, since 2


class Renderer:
    """Renders for one base; made by `load_renderer`.

    Thread-safe: nothing changes after construction but caches. `template` may be a RenderError, which says why the base
    has none: then it renders plain text only.
    """

    def __init__(
        self,
        template: ChatTemplate | RenderError,
        tokenizer_json: str,
        eos_token: str | None,
        eos_ids: set[int],
        *,
        native: bool = True,
        rows: int | None = None,
    ) -> None:
        """`native`: False for an adapter that was trained before version 3. `rows`: of the base's embedding."""
        text = template.text if isinstance(template, ChatTemplate) else ""
        self._template = template
        habits = find_habits(template.write) if native and isinstance(template, ChatTemplate) else Habits()
        self._vocabulary = vocabulary = Vocabulary(tokenizer_json, text, every_mark=habits.any, rows=rows)
        self.special_ids, self.hidden_ids = vocabulary.special_ids, vocabulary.hidden_ids
        # Bytes for which the vocabulary has no token (SmolLM2 lacks 0xF1 and up): characters with them are lost.
        self.missing_bytes = frozenset(range(256)) - {token[0] for token in vocabulary.bytes if len(token) == 1}
        self.vocab_size = vocabulary.size
        text_end = vocabulary.id_of(eos_token)
        ends = {one for one in {*eos_ids, text_end} if one is not None and 0 <= one < vocabulary.size}
        self._native: NativeTokens | None = None
        if isinstance(template, ChatTemplate):
            ends |= self._read_template(template, habits, ends)
        text_end = min(ends, default=None) if text_end is None else text_end
        if text_end is None:
            raise ServerFault(no_end().message)
        self._text_end = text_end
        self.eos_ids = frozenset(ends)
        self.name = f"chat-template-v{self._version(text)}-{_digest(text, tokenizer_json)}"

    def _version(self, template: str) -> int:
        if self._native is not None:
            return NATIVE_VERSION
        older = not self._vocabulary.text_start and not any(word in template for word in _NEWLY_READ)
        return OLDER_VERSION if older else RENDERER_VERSION

    def _read_template(self, template: ChatTemplate, habits: Habits, ends: set[int]) -> set[int]:
        """Makes what turns messages into tokens; returns the tokens that end an answer."""
        if not habits.any:
            self._turns, self._layouts = Turns(template), Layouts(template, self._vocabulary.marks)
            return self._turn_ends(template)
        self._native = native = NativeTokens(template, self._vocabulary, habits, ends)
        shown = {self._vocabulary.id_of(mark) for mark in native.form.marks}
        self.hidden_ids = frozenset(self.hidden_ids - (shown - ends - native.ends))
        return native.ends

    @property
    def lost_bytes(self) -> bytes:
        """The `missing_bytes` of a vocabulary that spells by bytes.

        Of one that does not, nothing is known (b"").
        """
        spells = any(byte >= 0x80 for byte in range(256) if byte not in self.missing_bytes)
        return bytes(sorted(self.missing_bytes)) if spells else b""

    @property
    def reads_reasoning(self) -> bool:
        """Whether the reasoning of an answer (`reasoning_content`) is learned."""
        template = self._template
        return isinstance(template, ChatTemplate) and (template.reads_reasoning or template.reads_thinking)

    @property
    def takes_variables(self) -> bool:
        """Whether the template is given more variables than the messages."""
        return self._native is not None

    @property
    def switches(self) -> frozenset[str]:
        """The variables by which the template is told how much to reason."""
        text = self.require_template().text if self._native is not None else ""
        return frozenset(name for name in _SWITCHES if re.search(rf"\b{name}\b", text))

    @property
    def chat_fault(self) -> RenderError | None:
        """Why this base cannot chat; None if it can."""
        return None if isinstance(self._template, ChatTemplate) else self._template

    def require_template(self) -> ChatTemplate:
        """The base's chat template. Raises RenderError if it has none."""
        if isinstance(self._template, ChatTemplate):
            return self._template
        why = self._template
        raise RenderError(why.what, why.fix, why.finding)

    def row(self, row: ChatRow | CompletionRow, max_tokens: int | None = None) -> Rendered:
        """The last of a row's `examples`, which for most bases is the only one."""
        return self.examples(row, max_tokens).examples[-1]

    def examples(self, row: ChatRow | CompletionRow, max_tokens: int | None = None) -> RenderedRow:
        """A training row as tokens. Raises RenderError when no token would be learned."""
        if isinstance(row, CompletionRow):
            ids = self.text_prompt(row.prompt)
            prompt = len(ids)
            ids += self._vocabulary.after(ids, row.completion, "content")
            ids.append(self._text_end)
            return finish([(ids, [*[0.0] * prompt, *[1.0] * (len(ids) - prompt)])], max_tokens)
        return finish(self._compose(row.messages, row.tools), max_tokens)

    def left_out(self, row: ChatRow | CompletionRow) -> list[tuple[int, str]]:
        """The messages of which text or reasoning beside calls is not written, and which."""
        if self._native is None or isinstance(row, CompletionRow):
            return []
        return self._native.left_out(row.messages)

    def pair(self, row: PreferenceRow, max_tokens: int | None = None) -> RenderedPair:
        """A preference row as tokens. `max_tokens` bounds prompt and answer together."""
        prompt = self.prompt(row.prompt, row.tools)

        def answer(messages: tuple[Message, ...]) -> Rendered:
            whole = finish(self._compose((*row.prompt, *messages), row.tools, len(row.prompt)), max_tokens)
            (example,) = whole.examples[-1:]
            if example.ids[: len(prompt)] != prompt:
                raise not_after_prompt()
            return Rendered(example.ids[len(prompt) :], example.weights[len(prompt) :], whole.truncated)

        return RenderedPair(prompt, answer(row.preferred), answer(row.non_preferred))

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        opened: bool = False,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> list[int]:
        """What the model is given to answer `messages`.

        It ends exactly where the assistant begins to write. `opened`: where its answer's text begins, after what the
        template writes before that (an empty block of thinking); of a template that knows tools, `call_words` has that.
        `variables`: the template's, where it `takes_variables`.
        """
        self.require_template()
        if self._native is not None:
            return self._native.prompt(messages, tools, variables)
        turns = self._turns_of(messages, tools)
        prompt = self._layouts.prompt(tuple(turn.form for turn in turns))
        ids, _ = self._fill(prompt.layout, turns)
        return [*ids, *self._vocabulary.after(ids, prompt.opening, "literal")] if opened else ids

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool], prompt: Sequence[int]) -> Opening:
        """What an answer to `messages` begins with besides its text; `prompt` is theirs."""
        if self._native is not None:
            end = b"".join(map(self.token_bytes, prompt[-END_TOKENS:])).decode("utf-8", errors="replace")
            return Opening((), "", end, tuple(tools))
        forms = tuple(turn.form for turn in self._turns_of(messages, tools))
        laid = self._layouts.prompt(forms)
        last = laid.layout[-1].literal if laid.layout else ""
        begun = last[last.rindex("<think>") :] if last.rstrip().endswith("<think>") else ""
        return Opening(tuple(self._vocabulary.after((0,), laid.opening, "literal")), begun)

    def text_prompt(self, text: str) -> list[int]:
        """The prompt of a plain completion (prompt/completion rows, POST /v1/completions).

        It starts as the base's tokenizer starts a text: with a begin-of-text token, if it has one.
        """
        return [*self._vocabulary.text_start, *self._vocabulary.after((), text, "content")]

    def encode(self, text: str) -> list[int]:
        """Tokens of a content; special-token text in it stays text."""
        return [*self._vocabulary.after((), text, "content")]

    def spell(self, text: str) -> list[int]:
        """Tokens of what a grammar demands.

        The marks of the base's form of calls are read, no others.
        """
        if self._native is None:
            return self.encode(text)
        ids: list[int] = []
        at = 0
        for mark in self._native.marks.finditer(text):
            ids += self._vocabulary.after(ids or (0,), text[at : mark.start()], "content")
            ids += self._vocabulary.after(ids or (0,), mark[0], "literal")
            at = mark.end()
        return [*ids, *self._vocabulary.after(ids or (0,), text[at:], "content")]

    def least_tokens(self, chars: int) -> int:
        """The fewest tokens that so many characters of contents can have."""
        return chars // self._vocabulary.longest

    def count(self, text: str) -> int:
        """How many tokens a content has."""
        return len(self._vocabulary.after((), text, "content"))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out."""
        detokenizer = self.detokenizer()
        return "".join([detokenizer.add(token) for token in ids]) + detokenizer.flush()

    def detokenizer(self) -> Detokenizer:
        """A detokenizer for one answer."""
        return Detokenizer(self._vocabulary.bytes, self.hidden_ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token."""
        return spelling(self._vocabulary.bytes, token)

    def token_text(self, token: int) -> str:
        """The token's text as people read it, broken UTF-8 shown as U+FFFD."""
        return self.token_bytes(token).decode("utf-8", errors="replace")

    @property
    def call_words(self) -> CallWords:
        """What is written around names and arguments of calls.

        They are our words where arguments are not JSON.
        """
        return OUR_WORDS if self._native is None else self._native.words

    def reader(self, opening: Opening | None = None, *, with_calls: bool, held: bool = False) -> Reader | None:
        """A reader of one answer, in the form in which the base writes calls.

        None where all of it is content, as in a plain completion, which has no `opening`. Without calls, they are
        content. `held`: a grammar holds the answer to `call_words`.
        """
        if opening is None and not with_calls:
            return None
        if self._native is not None:
            form = HERMES if held and self._native.words.mark == CALL_START else self._native.form
            known = opening or Opening((), "")
            return answer_reader(form, known.tools, with_calls=with_calls, begun=known.prompt_end)
        if self.reads_reasoning:
            return answer_reader(HERMES, (), with_calls=with_calls)
        return ReplyReader() if with_calls else None

    def parse(self, text: str, tools: Sequence[Tool] = ()) -> ParsedReply:
        """What an assistant's text says: content, thought and calls."""
        return parse_reply(text, self.reader(Opening((), "", "", tuple(tools)), with_calls=True))

    def _turns_of(self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int = 0) -> list[Turn]:
        self.require_template()
        return self._turns.of(messages, tools, learn_from)

    def _compose(
        self, messages: Sequence[Message], tools: Sequence[Tool], learn_from: int = 0
    ) -> list[tuple[list[int], list[float]]]:
        """(ids, weights) of each example."""
        self.require_template()
        if self._native is not None:
            return self._native.examples(messages, tools, learn_from)
        turns = self._turns_of(messages, tools, learn_from)
        learned = tuple(index for index, turn in enumerate(turns) if turn.learned)
        layouts = self._layouts.examples(tuple(turn.form for turn in turns), learned)
        return [self._fill(layout, turns) for layout in layouts]

    def _fill(self, layout: Layout, turns: Sequence[Turn]) -> tuple[list[int], list[float]]:
        """Ids and weights of a layout with the turns' texts."""
        ids: list[int] = []
        weights: list[float] = []
        for segment in layout:
            if segment.message >= 0:
                self._add_text(
                    ids, segment.strips.of(turns[segment.message].text(segment.slot)), turns[segment.message]
                )
                learned = len(ids) - len(weights) if segment.learned else 0
            else:
                ids += self._vocabulary.after(ids, segment.literal, "literal")
                learned = len(ids) - len(weights) if segment.learned else 0
                if segment.ends:
                    learned = self._ends_after(ids, len(weights), last=segment is layout[-1])
            weights += [1.0] * learned
            weights += [0.0] * (len(ids) - len(weights))
        return ids, weights

    def _add_text(self, ids: list[int], text: str, turn: Turn) -> None:
        calls = turn.calls if turn.calls and text.endswith(turn.calls) and self._vocabulary.has_call_tags else ""
        content = text.removesuffix(calls)
        if content or not calls:
            ids += self._vocabulary.after(ids, content, "content")
        if calls:
            ids += self._vocabulary.after(ids, calls, "calls")

    def _ends_after(self, ids: list[int], start: int, *, last: bool) -> int:
        """How many tokens from `start` end an answer.

        That is up to the first special token. Where nothing follows the last answer, the end of the text is added.
        """
        for at in range(start, len(ids)):
            if ids[at] in self.special_ids:
                return at + 1 - start
        if last:
            ids.append(self._text_end)
            return len(ids) - start
        return 0

    def _turn_ends(self, template: ChatTemplate) -> set[int]:
        """The special token that ends an assistant's turn: the first one after its text.

        Where a template ends the last turn with nothing (GLM's), it is the one that begins the next turn.
        """
        for forms in ((Form("user"), ANSWER), (Form("user"), ANSWER, Form("user"))):
            text = template.render(forms)
            answer = next(one for one in SLOT_PATTERN.finditer(text) if one[1] == "1")
            mark = self._vocabulary.marks.search(text, answer.end())
            if mark is not None:
                found = self._vocabulary.id_of(mark[0])
                return set() if found is None else {found}
        raise ServerFault(
            "The base's chat template marks the end of the assistant's turn with no special token, so a model trained"
            " with it would not know when to stop. Use an instruct model with such a token."
        )


def _digest(template: str, tokenizer_json: str) -> str:
    return sha256(f"{template}\0{tokenizer_json}".encode()).hexdigest()[:12]


def load_renderer(model_dir: Path, *, native: bool = True) -> Renderer:
    """The renderer of the Hugging Face directory `model_dir`; about 0.2 s, no torch.

    A base without a chat template that works renders plain text only. `native`: False for what was trained before
    templates wrote tools in their own words.
    """
    tokenizer_json = (model_dir / "tokenizer.json").read_text(encoding="utf-8")
    tokens = special_tokens(read_object(model_dir / "tokenizer_config.json"))
    ends, rows = generation_ends(model_dir), embedding_rows(read_object(model_dir / "config.json"))
    return Renderer(
        working_template(model_dir), tokenizer_json, tokens.get("eos_token"), ends, native=native, rows=rows
    )
