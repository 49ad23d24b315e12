"""Writes the rows of the format task: an order in plain words, and the same as JSON.

    python examples/tasks/orders.py

Some rows are written by hand, the others made from templates. Rows of `orders-validation.jsonl` come from templates and
sentences that `orders-train.jsonl` does not have; things, names and cities are drawn from the same lists.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20
SYSTEM = "Order to JSON."  # all that the tuned model is told; orders-prompt.txt is the long prompt
ROWS_OF_A_TEMPLATE = 5
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
NUMBERS |= {"eleven": 11, "twelve": 12, "a dozen": 12, "twenty": 20}
MOST = 60
ITEMS = (
    "apple trees", "blue mugs", "brass hooks", "bread baskets", "candles", "chess sets", "clay pots", "cotton towels",
    "desk lamps", "fishing nets", "garden chairs", "green umbrellas", "honey jars", "ink bottles", "jigsaw puzzles",
    "kites", "leather belts", "linen shirts", "maps of Wales", "milk jugs", "notebooks", "oak shelves", "paint brushes",
    "picture frames", "pillows", "raincoats", "red lanterns", "rose bushes", "sewing kits", "silver spoons",
    "sleeping bags", "soup bowls", "steel buckets", "straw hats", "tea tins", "tents", "tulip bulbs", "wall clocks",
    "wool blankets", "wooden trains",
)  # fmt: skip
NAMES = (
    "Agnes Holm", "Amir Khan", "Ana Costa", "Bela Nagy", "Carla Rossi", "Chen Wei", "Dana Novak", "Diego Ruiz",
    "Elif Kaya", "Emma Clarke", "Farah Aziz", "Femi Ade", "Grace Obi", "Hana Sato", "Henrik Dahl", "Ines Faria",
    "Ivan Petrov", "Jack Doyle", "Jana Koch", "Kofi Mensah", "Lena Vogel", "Liam Byrne", "Mara Popa", "Marek Zeman",
    "Nadia Haddad", "Noor Ali", "Olga Ivanova", "Omar Said", "Paul Martin", "Priya Nair", "Rosa Lind", "Sam Reid",
    "Sofia Greco", "Tom Baker", "Uma Rao", "Vera Lang", "Will Stone", "Yuki Mori", "Zara Shah", "Zoe Laurent",
)  # fmt: skip
CITIES = (
    "Athens", "Bergen", "Bilbao", "Bristol", "Cairo", "Cork", "Dakar", "Dublin", "Gdansk", "Geneva", "Ghent", "Graz",
    "Haifa", "Izmir", "Kyoto", "Lagos", "Leeds", "Lima", "Lyon", "Malmo", "Naples", "Odessa", "Oporto", "Oslo",
    "Prague", "Quito", "Riga", "Sofia", "Tampere", "Turin",
)  # fmt: skip

# A template with {day} has a delivery day, others have none; the mark * stands before those of a gift.
TRAINING = (
    "Please send {quantity} {item} to {name} in {city} by {day}.",
    "*Please gift-wrap {quantity} {item} for {name}, {city}.",
    "Hello, I would like {quantity} {item}. My name is {name} and I live in {city}.",
    "*{name} from {city} here. I need {quantity} {item} on {day}, wrapped as a present.",
    "Order: {quantity} {item}. Customer: {name}. City: {city}. Day: {day}.",
    "Could you deliver {quantity} {item} to {city} on {day}? The name is {name}.",
    "*It is a birthday gift: {quantity} {item}, delivered to {name} in {city} on {day}.",
    "We are out of {item}. Send {quantity} to our shop in {city}, for {name}.",
    "{name} ordered {quantity} {item} by phone, to arrive in {city} on {day}.",
    "{quantity} {item}, please. Ship to {city}. Thanks, {name}",
    "*I want to surprise {name} in {city} with {quantity} {item}. Please wrap them nicely.",
    "By {day} we need {quantity} {item} in {city}. Ask for {name} at the door.",
    "Hi! Can I get {quantity} {item}? I'm {name}, in {city}. {day} would be best.",
    "Note from the front desk: {name} wants {quantity} {item} sent to {city}.",
    "*For our wedding couple: {quantity} {item} in gift paper, to {name}, {city}, {day}.",
    "Put {quantity} {item} on my account, {name}, {city} branch, for {day}.",
    "Dear shop, my neighbour {name} in {city} asked for {quantity} {item}. No rush.",
    "Same as last time: {quantity} {item} to {city}, {day}, {name}.",
    "*As a present for {name}: {quantity} {item}. The address is in {city}.",
    "I am {name}. Bring {quantity} {item} to the market in {city} next {day}.",
    "Urgent, {day} at the latest: {quantity} {item} for {name} in {city}.",
    "The school in {city} needs {quantity} {item}. Contact: {name}.",
    "*{quantity} {item} with a gift card, please, for {name} in {city}, arriving {day}.",
    "{city}, {day}: {name} is waiting for {quantity} {item}.",
)
VALIDATION = (
    "My colleague {name} in {city} would be glad to have {quantity} {item} before {day}.",
    "*Can you wrap up {quantity} {item} as a gift and send them to {name}? The parcel goes to {city}.",
    "New order from {city}: {name} takes {quantity} {item}.",
    "This is {name}. On {day} I will be in {city} and want to pick up {quantity} {item}.",
    "*{quantity} {item} go to {city} on {day}. They are a present for {name}.",
    "How soon can {name} get {quantity} {item}? The delivery is for {city}.",
    "To {name}, {city}: {quantity} {item}. We promised {day}.",
    "Good morning, I run a cafe in {city} and need {quantity} {item}. Deliver on {day} and ask for {name}.",
)


def main() -> None:
    generator = random.Random(SEED)
    for name, templates in (("train", TRAINING), ("validation", VALIDATION)):
        rows = [*by_hand(name), *from_templates(templates, generator)]
        generator.shuffle(rows)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / f"orders-{name}.jsonl").write_text(text, "utf-8")


def by_hand(file: str) -> Iterator[dict[str, object]]:
    for line in (HERE / "orders-by-hand.txt").read_text("utf-8").splitlines():
        where, text, item, quantity, name, city, day, gift = line.split(" | ")
        if where == file:
            yield row(text, [item, int(quantity), name, city, None if day == "-" else day, gift == "yes"])


def from_templates(templates: Sequence[str], generator: random.Random) -> Iterator[dict[str, object]]:
    for template in templates:
        for _ in range(ROWS_OF_A_TEMPLATE):
            item, name, city, day = map(generator.choice, (ITEMS, NAMES, CITIES, DAYS))
            spelled, quantity = a_quantity(generator)
            pattern = template.removeprefix("*")
            text = pattern.format(item=item, name=name, city=city, day=day, quantity=spelled)
            wanted = [item, quantity, name, city, day if "{day}" in pattern else None, template.startswith("*")]
            yield row(text[0].upper() + text[1:], wanted)


def a_quantity(generator: random.Random) -> tuple[str, int]:
    if generator.random() < 0.5:
        return generator.choice(list(NUMBERS.items()))
    number = generator.randint(2, MOST)
    return str(number), number


def row(text: str, wanted: Sequence[object]) -> dict[str, object]:
    answer = dict(zip(("item", "quantity", "name", "city", "day", "gift"), wanted, strict=True))
    contents = (("system", SYSTEM), ("user", text), ("assistant", json.dumps(answer, ensure_ascii=False)))
    return {"messages": [{"role": role, "content": content} for role, content in contents]}


if __name__ == "__main__":
    main()
