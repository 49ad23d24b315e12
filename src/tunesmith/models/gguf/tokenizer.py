"""The files of a tokenizer, from a GGUF file's."""

import json

from tokenizers import Tokenizer

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.gguf.bpe import bpe_tokenizer, rule_of
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.metadata import Metadata
from tunesmith.models.gguf.sentencepiece import sentencepiece_tokenizer

NAMES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # transformers' name of a token -> GGUF's
ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message
START, END = "<start_of_turn>", "<end_of_turn>"
# Gemma's turns, for one of its files without a template; a system message is read before the first user turn.
TEMPLATE = (
    "{{ bos_token }}{% set system = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim + '\n\n' %}{% endif %}"
    "{% for m in (messages[1:] if system else messages) %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    f"{START}{{{{ 'model' if m['role'] == 'assistant' else m['role'] }}}}\n"
    "{{ system if loop.first else '' }}{{ m['content'] | trim }}"
    f"{END}\n{{% endfor %}}{{% if add_generation_prompt %}}{START}model\n{{% endif %}}"
)


def check_tokenizer(model: GgufModel) -> None:
    """Raises InvalidRequest for a kind that is not read."""
    kind = model.metadata.value("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise InvalidRequest(
            f"GGUF tokenizer {kind!r} is not supported (only gpt2 and llama). Use the model's Hugging Face directory"
            " instead."
        )
    if kind == "gpt2":
        rule_of(model.metadata)
    elif model.architecture == "phi3":
        raise InvalidRequest(
            "GGUF tokenizer 'llama' of Phi-3 is not supported: which blanks its special tokens take is not in the file."
            " Use the model's Hugging Face directory instead."
        )


def tokenizer(model: GgufModel) -> JsonObject:
    """tokenizer.json.

    Raises InvalidRequest for a kind that is not read.
    """
    check_tokenizer(model)
    _check_tokens(model)
    bytes_only = model.metadata.get("tokenizer.ggml.model") == "gpt2"
    made = bpe_tokenizer(model.metadata) if bytes_only else sentencepiece_tokenizer(model)
    begins = rule_of(model.metadata).begins if bytes_only else True
    start = _id(model.metadata, "bos")
    if model.metadata.get("tokenizer.ggml.add_bos_token", begins) and start is not None:
        made["post_processor"] = _starting(model.metadata.strings("tokenizer.ggml.tokens")[start], start)
    return made


def _check_tokens(model: GgufModel) -> None:
    """Raises InvalidRequest for the id of a special token that is beyond the tokens."""
    tokens = len(model.metadata.strings("tokenizer.ggml.tokens"))
    named = [_id(model.metadata, key) for key in (*NAMES.values(), *ENDS)]
    highest = max((one for one in named if one is not None), default=0)
    if highest >= tokens:
        raise InvalidRequest(
            f"The GGUF file has {tokens:,} tokens, and its special tokens have ids up to {highest:,}: it is damaged."
            " Download it again."
        )


def check_readable(made: JsonObject) -> None:
    """Raises InvalidRequest for a tokenizer.json that the tokenizers library refuses."""
    try:
        Tokenizer.from_str(json.dumps(made))
    except Exception as error:  # the library raises nothing more special
        raise InvalidRequest(f"The GGUF file's tokenizer cannot be read: {error}. Download the file again.") from error


def _starting(token: str, index: int) -> JsonObject:
    """Puts `token` before a text."""
    special: JsonObject = {"SpecialToken": {"id": token, "type_id": 0}}
    first: JsonObject = {"Sequence": {"id": "A", "type_id": 0}}
    second: JsonObject = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [special, first],
        "pair": [special, first, second],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }


def tokenizer_config(model: GgufModel) -> JsonObject:
    """tokenizer_config.json; a file of Gemma's without a template gets its turns."""
    metadata = model.metadata
    tokens = metadata.strings("tokenizer.ggml.tokens")
    template = metadata.get("tokenizer.chat_template")
    if template is None and {START, END} <= set(tokens):
        template = TEMPLATE
    named = {name: _id(metadata, key) for name, key in NAMES.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **({"chat_template": str(template)} if template is not None else {}),
        **{f"{name}_token": tokens[index] for name, index in named.items() if index is not None},
        "model_max_length": model.context,
        "clean_up_tokenization_spaces": False,
    }


def ends(metadata: Metadata) -> JsonValue:
    """The tokens that end an answer, or the only one."""
    tokens = metadata.strings("tokenizer.ggml.tokens")
    named = [_id(metadata, key) for key in ENDS]
    turn = [index for index, token in enumerate(tokens) if token == END]
    found = list(dict.fromkeys(index for index in [*named, *turn] if index is not None))
    if not found:
        raise InvalidRequest("GGUF key tokenizer.ggml.eos_token_id is missing: the file is damaged.")
    return found[0] if len(found) == 1 else [*found]


def _id(metadata: Metadata, key: str) -> int | None:
    """The id of a token that a file may leave out."""
    name = f"tokenizer.ggml.{key}_token_id"
    return None if metadata.get(name) is None else metadata.integer(name)
