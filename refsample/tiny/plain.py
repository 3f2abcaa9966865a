"""Plain texts that are not stories: notes, lists, records, facts, sums; knows no chat format.

`OPENERS` are sentences that stop before a word drawn from a whole class: the wide positions of the corpus.
"""

from __future__ import annotations

import json
from random import Random

from refsample.tiny import facts
from refsample.tiny.reading import distinct, json_object
from refsample.tiny.words import CLASSES, article, draw, is_girl

OPENERS: tuple[tuple[str, str], ...] = (
    ("My favourite animal is the", "animal"),
    ("They went to the", "place"),
    ("The number is", "number"),
    ("My name is", "name"),
    ("My best friend is", "name"),
    ("In the bag there was a small", "thing"),
    ("For lunch we had", "food"),
    ("At the zoo we saw the", "animal"),
    ("On the table lay the", "thing"),
    ("Yesterday I met", "name"),
    ("The next stop is the", "place"),
    ("I would like some", "food"),
    ("The winner is", "name"),
    ("The word of the day is", "thing"),
    ("We drew a picture of the", "animal"),
    ("Dear", "name"),
    ("I lost my", "thing"),
    ("The people here are very", "trait"),
    ("Today I ate", "food"),
    ("The answer was", "number"),
    ("I bought a new", "thing"),
    ("We met at the", "place"),
    ("I dreamed of the", "animal"),
    ("The bus number is", "number"),
    ("My neighbour is very", "trait"),
    ("The shop sells", "food"),
)


def filler(rng: Random, kind: str) -> str:
    """A word of a class, or a number from 1 to 100."""
    return str(rng.choices(range(1, 101), cum_weights=_NUMBERS)[0]) if kind == "number" else draw(rng, kind)


_NUMBERS = [sum((n + 1) ** -0.5 for n in range(k + 1)) for k in range(100)]


def _sentences(rng: Random) -> str:
    chosen = rng.sample(OPENERS, rng.randint(1, 4))
    return " ".join(f"{text} {filler(rng, kind)}." for text, kind in chosen)


def _note(rng: Random) -> str:
    name, friend = distinct(rng, "name", 2)
    animal, food, colour, place = (draw(rng, k) for k in ("animal", "food", "colour", "place"))
    he = "she" if is_girl(friend) else "he"
    parts = [
        f"My name is {name}.",
        f"I am {rng.randint(4, 90)} years old.",
        f"I live near the {place}.",
        f"My favourite animal is the {animal}, and my favourite food is {food}.",
        f"I like the colour {colour}.",
        f"My best friend is {friend}, and {he} likes to {draw(rng, 'action')}.",
        f"On {draw(rng, 'day')} we go to the {draw(rng, 'place')}.",
        f"I have {article(draw(rng, 'colour'))} {draw(rng, 'thing')}.",
    ]
    middle = rng.sample(parts[1:], rng.randint(2, 6))
    return (
        " ".join([parts[0], *middle])
        if rng.random() < 0.7
        else (
            f"Dear {friend},\n{' '.join(middle)}\nYours, {name}"
            + (f" {draw(rng, 'emoji')}" if rng.random() < 0.3 else "")
        )
    )


_HEADS = (
    ("A list of things:", "thing"),
    ("A list of animals:", "animal"),
    ("Shopping list:", "food"),
    ("Names:", "name"),
    ("Places to see:", "place"),
    ("Colours:", "colour"),
    ("Jobs:", "job"),
    ("In my bag:", "thing"),
    ("A list of sports:", "sport"),
    ("Things to eat:", "food"),
    ("Who came to the party:", "name"),
)


def list_text(rng: Random) -> str:
    """A list with a heading; dashes or numbers."""
    head, kind = rng.choice(_HEADS)
    items = distinct(rng, kind, rng.randint(3, 8))
    if rng.random() < 0.7:
        return head + "".join(f"\n- {w}" for w in items)
    return head + "".join(f"\n{i}. {w}" for i, w in enumerate(items, 1))


def _json_text(rng: Random) -> str:
    if rng.random() < 0.5:
        return json.dumps(json_object(rng), ensure_ascii=False)
    return "[" + ",\n ".join(json.dumps(json_object(rng), ensure_ascii=False) for _ in range(rng.randint(2, 4))) + "]"


def _fact_text(rng: Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 5)):
        kind = rng.randrange(6)
        if kind == 0:
            a, b = rng.choice(tuple(facts.LEGS.items()))
            lines.append(f"{article(a).capitalize()} has {b} legs.")
        elif kind == 1:
            a, b = rng.choice(tuple(facts.OPPOSITES.items()))
            lines.append(f"The opposite of {a} is {b}.")
        elif kind == 2:
            a, b = rng.choice(tuple(facts.CAPITALS.items()))
            lines.append(f"The capital of {a} is {b}.")
        elif kind == 3:
            i = rng.randrange(7)
            lines.append(f"After {CLASSES['day'][i]} comes {CLASSES['day'][(i + 1) % 7]}.")
        elif kind == 4:
            a, b = rng.choice(tuple(facts.SOUNDS.items()))
            lines.append(f"{article(a).capitalize()} {b}.")
        else:
            a, b = rng.choice(tuple(facts.WORK.items()))
            lines.append(f"A {a} {b}.")
    return " ".join(lines)


def _sum_text(rng: Random) -> str:
    lines = []
    for _ in range(rng.randint(2, 7)):
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        lines.append(f"{a} + {b} = {a + b}" if rng.random() < 0.5 else f"{a + b} - {b} = {a}")
    return "\n".join(lines)


def _fixed_text(rng: Random) -> str:
    start = rng.randint(1, 30)
    return rng.choice(
        (
            "The days of the week are " + ", ".join(CLASSES["day"][:6]) + " and " + CLASSES["day"][6] + ".",
            "The months of the year are " + ", ".join(CLASSES["month"][:11]) + " and " + CLASSES["month"][11] + ".",
            "The four seasons are spring, summer, autumn and winter.",
            ", ".join(str(n) for n in range(start, start + rng.randint(4, 12))) + ".",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        )
    )


def echo_text(rng: Random) -> str:
    """Words said twice, and what came after one of them: a model learns from it to look back."""
    kinds = ("name", "animal", "food", "thing", "place", "colour")
    words = [draw(rng, rng.choice(kinds)) for _ in range(rng.randint(5, 30))]
    said = rng.choice((" ", ", ", "\n", " and ")).join(words)
    text = rng.choice(("Say it again.\n{}\n{}", "{}\nAnd once more:\n{}", "The first time: {}.\nThe second time: {}."))
    i = rng.randrange(len(words) - 1)
    question = f"\nWhat came after {words[i]}? {words[i + 1]}." if words.count(words[i]) == 1 else ""
    return text.format(said, said) + question


_KINDS = (
    (_sentences, 4.0),
    (_note, 2.5),
    (list_text, 2.0),
    (_json_text, 1.5),
    (_fact_text, 1.5),
    (_sum_text, 1.0),
    (_fixed_text, 0.6),
)


def plain_text(rng: Random) -> str:
    """One plain text."""
    return rng.choices([m for m, _ in _KINDS], [w for _, w in _KINDS])[0](rng)
