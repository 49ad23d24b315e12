"""Writes `vectors/tiktoken.json`: texts with their token counts by tiktoken itself.

python tests/tokens/make_vectors.py     (in an environment with tiktoken, and litellm where there is no network:
                                             its wheel carries the ranks that tiktoken would download)
"""

import json
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

TEXTS = [
    "",
    " ",
    "\n\n\n   \t\t  \n",
    "hello world",
    "Hello, World! It's 2023-10-12, isn't it? We'll see; they'VE said so.",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft",
    "1234567890 3.14159 1,000,000 0xDEADBEEF 1e-10 ½ ² Ⅷ ٣ ४",
    'def f(x: int) -> str:\n    return f"{x!r}"  # comment\n\n\nclass A:\n\tpass\n',
    '{"name": "get_weather", "arguments": "{\\"place\\": \\"武汉\\"}"}',
    "SELECT * FROM users WHERE id = 1; -- drop\r\n\r\n",
    "<html><body class='x'>&nbsp;</body></html>",
    "https://example.com/a/b?c=d&e=%20f#g  user@example.org",
    "<|endoftext|><|im_start|>system<|im_end|>",
    "今天北京的天气怎么样?上海明天会下雨吗?",
    "你是一个会讲笑话的天气助理。就像我的幽默感一样无处不在!",
    "繁體中文:請問今天會下雨嗎?",
    "これは日本語のテストです。カタカナ、ひらがな、漢字。",
    "안녕하세요, 오늘 날씨가 어떻습니까?",
    "Привет, как дела? Сегодня хорошая погода.",
    "Γειά σου Κόσμε, τι κάνεις σήμερα;",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "שלום עולם, מה שלומך היום?",
    "नमस्ते दुनिया, आज मौसम कैसा है?",
    "বাংলা ভাষায় একটি বাক্য।",
    "வணக்கம் உலகம்",
    "สวัสดีชาวโลก วันนี้อากาศเป็นอย่างไร",
    "Xin chào thế giới, hôm nay thời tiết thế nào?",
    "Größe, Übermut, Straße, naïve café, Ångström, smørrebrød, çalışkan, łódź, žluťoučký kůň",
    "¿Cómo estás? ¡Qué día tan bonito! La niña comió piñata.",
    "Não há razão; coração, avó e avô.",
    "Türkçe: İstanbul'da yağmur yağıyor mu?",
    "Magyarország: árvíztűrő tükörfúrógép",
    "Kiswahili: Habari ya leo? Hali ya hewa ikoje?",
    "😀😃 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ ☕ 🇨🇳",
    "∑_{i=1}^{n} x_i² ≤ ∫₀^∞ e^{−t} dt ≈ π·√2 ⇒ ∀x∈ℝ",
    "e\u0301 (combining) \u00e9 (composed) \u200b\u200d\ufeff zero width",
    "\x00\x01\x1b[31mred\x7f",
    "a\u2028b\u2029c\u00a0d\u3000e",
    "ÃƒÂ© ï»¿ â€œmojibakeâ€\x9d",
    "x" * 300,
    " " * 300,
    "ab" * 500 + "\n" * 50,
    "\U0001d400\U0001d401 \U00020000\U0002a6d6",
]


def main() -> None:
    spec = find_spec("litellm")
    if spec is not None and spec.origin is not None:
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"))
    tiktoken = import_module("tiktoken")
    names = ("cl100k_base", "o200k_base")
    encodings = {name: tiktoken.get_encoding(name) for name in names}
    rows = [
        {"text": text} | {name: len(encodings[name].encode(text, disallowed_special=())) for name in names}
        for text in TEXTS
    ]
    target = Path(__file__).parent / "vectors" / "tiktoken.json"
    content = {"tiktoken": tiktoken.__version__, "rows": rows}
    target.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
