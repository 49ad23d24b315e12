"""A base's vocabulary: the tokens of a text, and what each token spells."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Literal, TypeAlias, cast

import orjson
from tokenizers import AddedToken, Tokenizer

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.detokenizer import token_bytes_table
from tunesmith.render.tool_text import CALL_START, CALL_TAG_END

Kind: TypeAlias = Literal["literal", "written", "content", "calls"]

# Tokens that are part of what the assistant says, whether or not a vocabulary calls them special.
_SAID = frozenset((CALL_START, CALL_TAG_END, "<think>", "</think>", "<tool_response>", "</tool_response>"))
LONG_CHARS = 2000  # 2 ms

_TAG = re.compile(r"</?[a-z_]+>")
_MARK_LIKE = re.compile(r"[<\[|\]>｜]")


class Vocabulary:
    """The tokens of one base.

    A text is `literal` (special tokens are read in it), `written` (they are too, but such texts do not recur),
    `content` (none is) or `calls`. In `calls`, which we write ourselves, the tags of a call are tokens where the
    vocabulary has them. `every_mark`: not only what the template writes, but every added token that looks like a mark
    is text in a content.

    `text_start` are the tokens that the tokenizer's own post-processor puts before a text. `rows`: of the base's
    embedding; an added token without one, such as Gemma 3's for images in its text models, is no token here.
    """

    def __init__(
        self, tokenizer_json: str, template: str, *, every_mark: bool = False, rows: int | None = None
    ) -> None:
        value = _within(_read(tokenizer_json), rows)
        special = {str(one["content"]): bool(one["special"]) for one in _added(value)}
        marks = [one for one in special if _MARK_LIKE.search(one)]
        template = "".join([template, *marks]) if every_mark else template
        self._first = _Spelling(value, template)
        bare = _without_prefix(value)
        self._following = self._first if bare is None else _Spelling(bare, template)
        self._prefixes_sections = bare is not None and not _prefixes_start_only(value)
        literal = self._first.literal
        self.size = _ids_of(value, literal)
        self.bytes = token_bytes_table(literal, self.size, value.get("decoder"))
        added = literal.get_added_tokens_decoder()
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self.hidden_ids = frozenset(index for index in self.special_ids if not _is_said(added[index].content, special))
        self.any_mark = _any_of([one for one, named in special.items() if named or _MARK_LIKE.search(one)])
        self.special_mark = _any_of([added[index].content for index in self.hidden_ids])
        self.marks = _any_of([added[index].content for index in self.special_ids])
        self.has_call_tags = CALL_START in {token.content for token in added.values()}
        self.longest = max(map(len, self.bytes), default=1)
        self.text_start = _text_start(literal)

    def any_of(self, marks: Sequence[str]) -> re.Pattern[str]:
        """Finds those of `marks` that are tokens."""
        return _any_of([mark for mark in marks if self.id_of(mark) is not None])

    def id_of(self, token: str | None) -> int | None:
        """The id of a token; None if there is none of this name."""
        found: int | None = None if token is None else self._first.literal.token_to_id(token)
        return found

    def after(self, ids: Sequence[int], text: str, kind: Kind) -> Sequence[int]:
        """The tokens of `text` where it follows `ids`.

        A tokenizer that puts a blank before a text does so at its start, or after each special token.
        """
        starts = not ids or (self._prefixes_sections and ids[-1] in self.special_ids)
        if not starts and kind in {"literal", "written"} and self._prefixes_sections:
            mark = self.marks.search(text)
            if mark is not None:
                head, rest = text[: mark.start()], text[mark.start() :]
                return [*self._following.encode(head, kind), *self._first.encode(rest, kind)]
        return (self._first if starts else self._following).encode(text, kind)


class _Spelling:
    """One tokenizer in its three ways of reading special tokens."""

    def __init__(self, value: JsonObject, template: str) -> None:
        self.literal = _tokenizer(_marked(value, template))
        self._content = copied(self.literal)
        self._content.encode_special_tokens = True
        tags = {CALL_START, CALL_TAG_END}
        self._calls = self._content
        if tags & {str(token["content"]) for token in _added(value)}:
            self._calls = copied(self.literal, plain=tags)
            self._calls.encode_special_tokens = True
        self._literal_ids = lru_cache(maxsize=4096)(self._encode_literal)

    def encode(self, text: str, kind: Kind) -> Sequence[int]:
        if kind == "literal":
            return self._literal_ids(text)
        if kind == "written":
            return _ids(self.literal, text)
        return _ids(self._calls if kind == "calls" else self._content, text)

    def _encode_literal(self, literal: str) -> tuple[int, ...]:
        return tuple(_ids(self.literal, literal))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Of a long text as a batch of one: for a single text the library holds the interpreter, seconds for a megabyte."""
    if len(text) < LONG_CHARS:
        encoded = tokenizer.encode(text, add_special_tokens=False)
    else:
        (encoded,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    ids: list[int] = encoded.ids
    return ids


def _added(value: JsonObject) -> list[JsonObject]:
    added = value.get("added_tokens")
    return [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []


def _within(value: JsonObject, rows: int | None) -> JsonObject:
    """Without the added tokens whose ids the embedding does not have."""
    if rows is None:
        return value
    kept: list[JsonValue] = [token for token in _added(value) if cast(int, token["id"]) < rows]
    return value if len(kept) == len(_added(value)) else {**value, "added_tokens": kept}


def _ids_of(value: JsonObject, tokenizer: Tokenizer) -> int:
    """One more than the highest id: where some are missing between others, it is more than there are tokens."""
    model = value.get("model")
    plain = model.get("vocab") if isinstance(model, dict) else None
    ids = [*plain.values()] if isinstance(plain, dict) else []
    highest = max(
        [*tokenizer.get_added_tokens_decoder(), *(index for index in ids if isinstance(index, int))], default=-1
    )
    return max(highest + 1, tokenizer.get_vocab_size())


def _marked(value: JsonObject, template: str) -> str:
    """With every added token that the template writes marked special, so that no content can produce it.

    One that is listed twice is special if it is in one place.
    """
    special = {str(token["content"]) for token in _added(value) if token["special"]}
    changed: list[JsonValue] = [
        {**token, "special": token["content"] in special or str(token["content"]) in template}
        for token in _added(value)
    ]
    return _written({**value, "added_tokens": changed})


def _read(text: str) -> JsonObject:
    """A tokenizer's JSON, of megabytes: the quicker parser takes half a surrogate or a long number for a fault."""
    try:
        value: JsonObject = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = json.loads(text)
    return value


def _written(value: JsonObject) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # as above
        return json.dumps(value, ensure_ascii=False)


def _tokenizer(text: str) -> Tokenizer:
    tokenizer: Tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def copied(tokenizer: Tokenizer, plain: Collection[str] = ()) -> Tokenizer:
    """A tokenizer with the same model; the added tokens in `plain` are not special.

    A model, which never changes, is most of a tokenizer's memory and of the 0.2 to 0.6 s that one takes to read.
    """
    made = Tokenizer(tokenizer.model)
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if (found := getattr(tokenizer, part)) is not None:
            setattr(made, part, found)
    tokens = [
        AddedToken(
            token.content,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=token.special and token.content not in plain,
        )
        for _, token in sorted(tokenizer.get_added_tokens_decoder().items())  # new ones were numbered in their order
    ]
    for special, run in groupby(tokens, key=lambda token: token.special):  # each call reads all added tokens again
        (made.add_special_tokens if special else made.add_tokens)([*run])
    return made


def _is_said(token: str, special: Mapping[str, bool]) -> bool:
    """Whether a special token is shown in an answer."""
    if token in _SAID:
        return True
    return not special[token] and "turn" not in token and _TAG.fullmatch(token) is not None


def _any_of(tokens: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")


def _text_start(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What the tokenizer's post-processor puts before a text. What it puts after one does not belong to a prompt.

    As in transformers, `add_bos_token` in tokenizer_config.json changes nothing.
    """
    encoded = tokenizer.encode("a", add_special_tokens=True)
    mask: list[int] = encoded.special_tokens_mask
    return tuple(encoded.ids[: mask.index(0)]) if 0 in mask else ()


def _without_prefix(value: JsonObject) -> JsonObject | None:
    """The tokenizer without the blank that it puts before a text; None if it puts none."""
    changed = {**value, **{key: _bare(value.get(key)) for key in ("normalizer", "pre_tokenizer")}}
    return None if changed == value else changed


def _bare(part: JsonValue) -> JsonValue:
    if not isinstance(part, dict):
        return part
    changed = {key: [_bare(one) for one in inner] if isinstance(inner, list) else inner for key, inner in part.items()}
    if part.get("type") == "Prepend":
        return {"type": "Sequence", "normalizers": []}
    if part.get("type") == "Metaspace":
        changed["prepend_scheme"] = "never"
    if changed.get("add_prefix_space"):
        changed["add_prefix_space"] = False
    return changed


def _prefixes_start_only(value: JsonObject) -> bool:
    return '"prepend_scheme": "first"' in json.dumps(value.get("pre_tokenizer"))
