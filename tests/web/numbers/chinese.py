"""What a Chinese page still says in Latin letters."""

import re
from html.parser import HTMLParser

UNSEEN = frozenset(
    {"script", "style", "template", "pre", "textarea", "code", "time", "bdi"}
)  # names, ids, lines to type
EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta"})
WORD = re.compile(r"[A-Za-z][\w&-]*[A-Za-z\d]", re.ASCII)
SAID = ("aria-label", "placeholder", "title", "alt")
# Names, and terms that Chinese texts write so.
NAMES = """
Tunesmith OpenAI API JSON JSONL token LoRA DPO GGUF PEFT W&B Weights Biases AdamW worker SQLite Python Linux UTC
JavaScript curl SHA ID Apache apache GPU CPU CUDA XGrammar Hugging Face llama cpp ollama Modelfile transformers vLLM
QLoRA bitsandbytes peft safetensors gguf kB MB GB TB Ctrl Enter ROUGE English entity auto schema F1 SHA-256 Top Holm
Beta alpha WANDB_API_KEY bf16 f32 f16 float32 bfloat16 AVX512-BF16 AMX q8_0 nf4 int8 int4 lora none all-linear
attention mlp q_proj v_proj linear cosine constant torch cpu numba sqlalchemy fastapi browser
"""  # the last lines: what is chosen in forms by its own name, and what the page of health lists
ALLOWED = frozenset(WORD.findall(NAMES))


class Latin(HTMLParser):
    """The Latin words of a page that are neither marked as English nor somebody's name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[tuple[str, str]] = []  # with what is around them
        self._unseen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        named = {"mono", "model-card"} & {*(given.get("class") or "").split()}
        hidden = tag in UNSEEN or given.get("lang") == "en" or named
        if tag not in EMPTY and (self._unseen or hidden):
            self._unseen.append(tag)
        if not self._unseen:
            for name in SAID:
                self._read(given.get(name) or "")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen and tag == self._unseen[-1]:
            self._unseen.pop()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._read(data)

    def _read(self, text: str) -> None:
        self.words += [(one, text.strip()[:80]) for one in WORD.findall(text)]


def latin(text: str) -> set[str]:
    """The words of a text."""
    return {*WORD.findall(text)}


def english(page: str, known: set[str]) -> list[tuple[str, str]]:
    """The words of a page that are not in `known` and not allowed, each once."""
    found = dict(Latin(page).words)
    return [(word, around) for word, around in found.items() if word not in known | ALLOWED]
