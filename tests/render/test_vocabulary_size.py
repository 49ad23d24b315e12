"""Tokenizers that have fewer or more ids than the base has rows, or gaps between them."""

import json
from pathlib import Path

import pytest
from tests.render.bases import SPECIAL, VOCABULARY, make_base

from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.serve.engine.grammar import Grammars

CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
GAP = VOCABULARY + 50


@pytest.fixture
def gapped(base_dir: Path, tmp_path: Path) -> Renderer:
    """With the token <far>, whose id is 50 beyond the others."""
    made = make_base(base_dir, tmp_path, CHAT)
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["<far>"] = GAP  # else the library counts on from the others
    tokenizer["added_tokens"].append({**SPECIAL, "id": GAP, "content": "<far>", "special": False})
    (made / "tokenizer.json").write_text(json.dumps(tokenizer))
    return load_renderer(made)


def test_an_id_that_the_tokenizer_lacks_spells_nothing(gapped: Renderer) -> None:
    """Qwen's output layers have 151,936 rows for 151,669 tokens."""
    for token in (VOCABULARY + 1, GAP + 1, GAP + 100_000):
        assert (gapped.token_bytes(token), gapped.token_text(token)) == (b"", "")
        assert gapped.decode([*gapped.encode("one"), token, *gapped.encode(" two")]) == "one two"


def test_a_token_behind_a_gap_is_one(gapped: Renderer) -> None:
    assert gapped.vocab_size == GAP + 1
    assert gapped.token_text(GAP) == "<far>"
    assert gapped.encode("<far>") == [GAP]
    assert gapped.decode([GAP]) == "<far>"


def test_no_grammar_allows_an_id_in_a_gap(gapped: Renderer) -> None:
    mask = Grammars(gapped).compile('start: "a" /.*/').start().allowed()
    allowed = [token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1]
    assert allowed
    assert max(allowed) < VOCABULARY


def test_no_text_becomes_a_token_without_a_row(base_dir: Path, tmp_path: Path) -> None:
    """Gemma 3's text models have 262,144 rows, and their tokenizer <image_soft_token> as token 262,144."""
    made = make_base(base_dir, tmp_path, CHAT, plain=("<image>",))
    whole = load_renderer(made)
    assert whole.encode("<image>") == [VOCABULARY]
    (made / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
    without = load_renderer(made)
    assert max(without.encode("<image>")) < VOCABULARY == without.vocab_size
    assert without.decode(without.encode("<image>")) == "<image>"
    assert without.name == whole.name, "adapters of the base stay valid"
