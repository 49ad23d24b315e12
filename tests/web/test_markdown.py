"""Markdown of cards as HTML that is safe whatever stands in it."""

import re

import pytest
from tests.export.test_cards import RECORD

from tunesmith.export.cards.model_card import model_card
from tunesmith.web.views.markdown import markdown

TAGS = {"h1", "h2", "h3", "h4", "p", "ul", "li", "code", "pre", "div", "table", "thead", "tbody", "tr", "th", "td"}


def test_parts_become_elements() -> None:
    text = """# A `b`

## C

one
two

- x
- y

    █▄

| | |
| --- | --- |
| a\\|b | `c` |

| k | v |
| --- | --- |
| 1 | 2 |"""
    table = '<div class="scroll" tabindex="0"><table>{}</table></div>'
    rows = '<tbody><tr><th scope="row">{}</th><td>{}</td></tr></tbody>'
    assert markdown(text, below=1).split("\n") == [
        "<h2>A <code>b</code></h2>",
        "<h3>C</h3>",
        "<p>one two</p>",
        "<ul><li>x</li><li>y</li></ul>",
        "<pre>█▄</pre>",
        table.format(rows.format("a|b", "<code>c</code>")),
        table.format('<thead><tr><th scope="col">k</th><th scope="col">v</th></tr></thead>' + rows.format(1, 2)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "# <img src=x onerror=alert(1)>",
        "| <b> | `<i>` |",
        "- &lt;script>",
        "    <pre>",
        "[a](javascript:alert(1))",
        "`<code>",
        "|",
        "||",
        "#",
        "\\| | `",
    ],
)
def test_no_other_element_comes_out(text: str) -> None:
    found = markdown(text)
    assert {tag.strip("</>").split()[0] for tag in re.findall(r"<[^>]*>", found)} <= TAGS
    assert not re.search(r"<[^>]*\b(on\w+|href|src)=", found)


def test_a_card_is_whole() -> None:
    found = markdown(model_card(RECORD))
    assert "<h1>ft:tiny:acme:a|b:x</h1>" in found
    assert "A &lt;CPU&gt; (avx2)" in found
    assert '<th scope="row"><code>seed</code></th><td>7</td>' in found
    assert "<pre>█▄▂▁</pre>" in found
