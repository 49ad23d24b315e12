"""Both catalogues say the same things, and the templates use all of them."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tunesmith.web import language

WEB = Path(language.__file__).parent
CALL = re.compile(r"""\bt\(\s*["']([\w.-]+)["']""")
BUILT = re.compile(r"""\bt\(\s*["']([\w-]+\.)["']\s*~""")  # t("status." ~ job.status)
PLACE = re.compile(r"{(\w+)}")


def sources() -> str:
    files = [*WEB.rglob("*.html"), *WEB.rglob("*.py")]
    return "\n".join(file.read_text("utf-8") for file in files)


def test_both_languages_have_the_same_keys_and_places() -> None:
    english, chinese = language.CATALOGUES["en"], language.CATALOGUES["zh"]
    assert set(english) == set(chinese)
    for key, value in english.items():
        places = {place for text in forms(value) for place in PLACE.findall(text)}
        assert places == {place for text in forms(chinese[key]) for place in PLACE.findall(text)}, key


CJK = "\u3400-\u9fff"
HALF_WIDTH = re.compile(rf"[{CJK}] *[,:;?!()]|[,:;?!()] *[{CJK}]|[,:;?!](?=[^0-9A-Za-z]|$)")
OTHER_WORDS = re.compile(rf"词元|Token|基础模型|[{CJK}]token|token[{CJK}]")  # "token" and "基座" are the terms


def test_chinese_has_its_own_punctuation_and_one_word_for_one_thing() -> None:
    faults = []
    for key, value in language.CATALOGUES["zh"].items():
        for text in forms(value):
            if re.search(f"[{CJK}]", text):
                faults += [(key, text) for pattern in (HALF_WIDTH, OTHER_WORDS) if pattern.search(text)]
    assert faults == []
    assert all(HALF_WIDTH.search(text) for text in ("完成,继续", "{n} 行;{m}", "名称(可选)", "步:"))
    assert not any(HALF_WIDTH.search(text) for text in ("1,000 行", "q_proj,v_proj", "完成，继续", "（可选）"))


def forms(value: language.Text) -> list[str]:
    return [value] if isinstance(value, str) else list(value.values())


def test_every_key_of_a_page_is_in_the_catalogue_and_used() -> None:
    text = sources()
    known = set(language.CATALOGUES["en"])
    named = set(CALL.findall(text)) | set(re.findall(r"""["']([a-z_]+\.[\w.-]+)["']""", text)) & known
    assert {key for key in CALL.findall(text) if not key.endswith(".")} <= known
    starts = tuple(BUILT.findall(text))
    assert {key for key in known if key not in named and not key.startswith(starts)} == set()


def test_no_template_has_a_text_of_its_own() -> None:
    """Between tags stand expressions, names of programs and numbers only."""
    found = []
    for file in WEB.rglob("*.html"):
        source = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", " ", file.read_text("utf-8"), flags=re.DOTALL)
        source = re.sub(r"<(code|pre|script)[^>]*>.*?</\1>|<[^>]*>", " ", source, flags=re.DOTALL)
        words = set(re.findall(r"[A-Za-z]{2,}", source)) - {"Tunesmith", "middot", "nbsp", "API", "JSON"}
        found += [(file.name, word) for word in sorted(words)]
    assert found == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de-DE,de;q=0.9", "en"), ("fr, zh-TW", "zh"), ("", "en"), ("en-US,zh", "en")],
)
def test_language_is_the_browsers(stranger: TestClient, header: str, expected: str) -> None:
    page = stranger.get("/ui/sign-in", headers={"accept-language": header}).text
    assert f'<html lang="{expected}"' in page


def test_a_chosen_language_and_theme_stay(stranger: TestClient) -> None:
    stranger.get("/ui/sign-in?language=zh")
    stranger.get("/ui/sign-in?theme=dark")
    page = stranger.get("/ui/sign-in", headers={"accept-language": "en"}).text
    assert '<html lang="zh" data-theme="dark">' in page


def test_numbers_have_two_forms() -> None:
    catalogue = {"rows": {"one": "{n} row", "other": "{n} rows"}, "plain": "Rows"}
    language_texts = {**language.CATALOGUES, "xx": catalogue}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "CATALOGUES", language_texts)
        assert language.text("xx", "rows", n=1) == "1 row"
        assert language.text("xx", "rows", n=12_000) == "12,000 rows"
        assert language.text("xx", "plain") == "Rows"
        with pytest.raises(KeyError):
            language.text("xx", "none")
