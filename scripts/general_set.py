"""Writes the general questions of the probe for forgetting: `python scripts/general_set.py`.

All of it is original: lists of our own and templates. Each row has a grader of its own; the answers are facts that do
not change. `tests/evals/test_forgetting.py` holds that the file is what this script writes.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "src" / "tunesmith" / "evals" / "general.jsonl"

Row = dict[str, object]

SUMS = ((3, 4), (7, 5), (12, 9), (20, 15), (8, 8), (31, 6), (45, 10), (9, 13), (50, 25))
DIFFERENCES = ((9, 4), (15, 7), (20, 8), (100, 40), (13, 6))
PRODUCTS = ((3, 4), (6, 7), (5, 9), (8, 2), (10, 12), (7, 7))

CAPITALS = (
    ("France", "Paris", "法国", "巴黎"),
    ("Italy", "Rome", "意大利", "罗马"),
    ("Japan", "Tokyo", "日本", "东京"),
    ("Germany", "Berlin", "德国", "柏林"),
    ("Spain", "Madrid", "西班牙", "马德里"),
    ("Egypt", "Cairo", "埃及", "开罗"),
    ("Russia", "Moscow", "俄罗斯", "莫斯科"),
    ("England", "London", "英国", "伦敦"),
)
FACTS = (
    ("Which planet is known as the red planet?", ("Mars",)),
    ("What is the largest ocean on Earth?", ("Pacific",)),
    ("Which gas do plants take in from the air to grow?", ("carbon dioxide", "CO2")),
    ("How many legs does a spider have? Answer with a number or a word.", ("8", "eight")),
    ("What do bees make from nectar?", ("honey",)),
    ("What is frozen water called?", ("ice",)),
    ("Who wrote the play Romeo and Juliet?", ("Shakespeare",)),
    ("Which metal is liquid at room temperature?", ("mercury",)),
    ("What star does the Earth orbit?", ("Sun",)),
    ("On which continent is Kenya?", ("Africa",)),
)
FACTS_CHINESE = (
    ("一年有几个月?", ("12", "十二")),
    ("一个星期有几天?", ("7", "七")),
    ("水在摄氏多少度结冰?", ("0", "零")),
    ("地球围绕什么转?", ("太阳",)),
    ("中国的首都是哪里?", ("北京",)),
    ("蜘蛛有几条腿?", ("8", "八")),
    ("月亮围绕什么转?", ("地球",)),
    ("世界上最高的山峰是什么?", ("珠穆朗玛", "珠峰")),
    ("《静夜思》的作者是谁?", ("李白",)),
    ("彩虹有几种颜色?", ("7", "七")),
)
OPPOSITES = (
    ("hot", "cold"),
    ("big", "small"),
    ("up", "down"),
    ("light", "dark"),
    ("fast", "slow"),
    ("open", "closed"),
    ("happy", "sad"),
    ("wet", "dry"),
    ("full", "empty"),
    ("young", "old"),
)
ALSO = {"small": ("little",), "dark": ("heavy",), "closed": ("shut", "close"), "sad": ("unhappy",)}
OPPOSITES_CHINESE = (
    ("大", "小"),
    ("高", "低"),
    ("热", "冷"),
    ("快", "慢"),
    ("黑", "白"),
    ("多", "少"),
    ("新", "旧"),
    ("左", "右"),
    ("开", "关"),
    ("上", "下"),
)
ALSO_CHINESE = {"低": ("矮",), "冷": ("凉",), "旧": ("老",)}
PLURALS = (("cat", "cats"), ("child", "children"), ("box", "boxes"), ("mouse", "mice"), ("city", "cities"))
TRANSLATIONS = (
    ("water", "水"),
    ("book", "书"),
    ("dog", "狗"),
    ("apple", "苹果"),
    ("sun", "太阳"),
    ("tree", "树"),
)

PEOPLE = (("Ana", "安娜"), ("Ben", "小明"), ("Mia", "小红"), ("Tom", "小刚"))
THINGS = (("keys", "kitchen", "钥匙", "厨房"), ("bag", "garden", "书包", "花园"), ("book", "office", "书", "办公室"))
COLOURS = (("red", "红色"), ("blue", "蓝色"), ("green", "绿色"))
PETS = (("dog", "狗", 4), ("cat", "猫", 6))

TRIPLES = ((3, 9, 5), (12, 7, 10), (41, 14, 30), (8, 2, 6), (100, 55, 70), (19, 91, 9), (23, 32, 13))
TALLER = (("Ana", "Ben", "Mia"), ("Tom", "Eva", "Sam"), ("Leo", "Kim", "Zoe"))
TALLER_CHINESE = (("小明", "小红", "小刚"), ("小李", "小王", "小张"), ("小赵", "小陈", "小孙"))
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEK_CHINESE = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")

WORDS = ("yes", "blue", "river", "seven", "hello", "stone", "green", "winter")
WORDS_CHINESE = ("你好", "河流", "冬天", "石头", "绿色", "谢谢", "明天", "音乐")
OBJECTS = (
    ("name", "Ana", "age", 30),
    ("city", "Rome", "rank", 2),
    ("item", "lamp", "count", 5),
    ("day", "Friday", "hour", 9),
)


def rows() -> Iterator[Row]:
    """All questions, kind by kind."""
    yield from arithmetic()
    yield from facts()
    yield from words()
    yield from reading()
    yield from order()
    yield from form()


def arithmetic() -> Iterator[Row]:
    """Sums, differences and products of small numbers."""
    for sign, english, chinese, pairs in (
        ("+", "plus", "加", SUMS),
        ("-", "minus", "减", DIFFERENCES),
        ("*", "times", "乘以", PRODUCTS),
    ):
        for first, second in pairs:
            value = {"+": first + second, "-": first - second, "*": first * second}[sign]
            yield _row("arithmetic", "en", f"What is {first} {english} {second}?", "number", (str(value),))
            yield _row("arithmetic", "zh", f"{first}{chinese}{second}等于多少?", "number", (str(value),))


def facts() -> Iterator[Row]:
    """What every schoolbook says."""
    for land, city, land_chinese, city_chinese in CAPITALS:
        yield _row("facts", "en", f"What is the capital of {land}?", "contains", (city,))
        yield _row("facts", "zh", f"{land_chinese}的首都是哪里?", "contains", (city_chinese,))
    for question, answers in FACTS:
        yield _row("facts", "en", question, "contains", answers)
    for question, answers in FACTS_CHINESE:
        yield _row("facts", "zh", question, "contains", answers)


def words() -> Iterator[Row]:
    """Opposites, plurals and translations."""
    for word, opposite in OPPOSITES:
        question = f'What is the opposite of the word "{word}"? Answer with one word.'
        yield _row("words", "en", question, "contains", (opposite, *ALSO.get(opposite, ())))
    for word, opposite in OPPOSITES_CHINESE:
        question = f"“{word}”的反义词是什么?只回答一个字。"
        yield _row("words", "zh", question, "contains", (opposite, *ALSO_CHINESE.get(opposite, ())))
    for one, many in PLURALS:
        yield _row("words", "en", f'What is the plural of "{one}"?', "contains", (many,))
    for english, chinese in TRANSLATIONS:
        yield _row("words", "en", f'Translate "{english}" into Chinese.', "contains", (chinese,))
        yield _row("words", "zh", f"“{chinese}”用英语怎么说?", "contains", (english,))


def reading() -> Iterator[Row]:
    """A text of two sentences that holds the answer."""
    for (person, person_chinese), (thing, place, thing_chinese, place_chinese) in product(PEOPLE, THINGS):
        text = f"{person} put the {thing} in the {place} and went to work by bus."
        yield _row("reading", "en", f"{text} Where is {person}'s {thing}?", "contains", (place,))
        text = f"{person_chinese}把{thing_chinese}放在{place_chinese},然后坐公共汽车去上班。"
        yield _row("reading", "zh", f"{text}{person_chinese}的{thing_chinese}在哪里?", "contains", (place_chinese,))
    for (colour, colour_chinese), (pet, pet_chinese, years) in product(COLOURS, PETS):
        text = f"The {pet} of our neighbours is {years} years old and sleeps in a {colour} basket."
        yield _row("reading", "en", f"{text} What colour is the basket?", "contains", (colour,))
        text = f"邻居家的{pet_chinese}今年{years}岁,睡在一个{colour_chinese}的篮子里。"
        yield _row("reading", "zh", f"{text}篮子是什么颜色的?", "contains", (colour_chinese, colour_chinese[:1]))


def order() -> Iterator[Row]:
    """The largest, the tallest, the next."""
    for numbers in TRIPLES:
        shown = ", ".join(map(str, numbers))
        yield _row("order", "en", f"Which of these numbers is the largest: {shown}?", "number", (str(max(numbers)),))
        shown = "、".join(map(str, numbers))
        yield _row("order", "zh", f"{shown},这些数中最大的是哪一个?", "number", (str(max(numbers)),))
    for first, second, third in TALLER:
        text = f"{first} is taller than {second}. {second} is taller than {third}. Who is the tallest?"
        yield _row("order", "en", f"{text} Answer with the name only.", "first", (first,))
    for first, second, third in TALLER_CHINESE:
        text = f"{first}比{second}高,{second}比{third}高。谁最高?只回答名字。"
        yield _row("order", "zh", text, "first", (first,))
    for day, after in zip(WEEK, (*WEEK[1:], WEEK[0]), strict=True):
        question = f"Which day comes after {day}? Answer with the day only."
        yield _row("order", "en", question, "first", (after,))
    for day, after in zip(WEEK_CHINESE, (*WEEK_CHINESE[1:], WEEK_CHINESE[0]), strict=True):
        answers = (after, "星期天", "周日") if after == "星期日" else (after,)
        yield _row("order", "zh", f"{day}的后一天是星期几?只回答星期几。", "first", answers)


def form() -> Iterator[Row]:
    """An answer of a given form: a word and nothing else, capitals, JSON."""
    for word in WORDS:
        question = f'Reply with exactly this word and nothing else: "{word}"'
        yield _row("form", "en", question, "exact", (word, word.capitalize()))
        yield _row("form", "en", f'Write the word "{word}" in capital letters.', "exact", (word.upper(),))
    for word in WORDS_CHINESE:
        yield _row("form", "zh", f"请只回复这个词,不要写别的:“{word}”", "exact", (word,))
    for first, text, second, number in OBJECTS:
        value = {first: text, second: number}
        asked = f'{first} "{text}" and {second} {number}'
        yield _row("form", "en", f"Write a JSON object with {asked}. Reply with the JSON only.", "json", (), value)
        asked = f"{first} 为 “{text}”,{second} 为 {number}"
        yield _row("form", "zh", f"请写一个 JSON 对象:{asked}。只回复 JSON。", "json", (), value)


def _row(
    kind: str, language: str, question: str, grader: str, answers: tuple[str, ...], value: Row | None = None
) -> Row:
    row: Row = {"kind": kind, "language": language, "question": question, "grader": grader, "answers": list(answers)}
    return row if value is None else {**row, "value": value}


def text() -> str:
    """The file's content."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
