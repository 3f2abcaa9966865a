"""Questions about what the corpus holds to be true, each with every right answer; knows no document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from refsample.tiny import facts
from refsample.tiny.words import CLASSES, article, draw, pick


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks. `replies` are all the right replies, most frequent first; `brief` the one-word ones.

    With `items` > 0 a right reply is instead that many different lines "- word", each word from `replies`.
    """

    kind: str
    text: str
    replies: tuple[str, ...]
    brief: tuple[str, ...] = ()
    items: int = 0


def is_right(question: Question, reply: str) -> bool:
    """Whether a reply is one of the right ones, to the letter."""
    if not question.items:
        return reply in question.replies
    lines = reply.split("\n")
    chosen = {line[2:] for line in lines if line.startswith("- ")}
    return len(lines) == len(chosen) == question.items and chosen <= set(question.replies)


def answer(rng: Random, question: Question, brief: bool = False) -> str:
    """A right reply, drawn with a smooth slope."""
    if not question.items:
        return pick(rng, question.brief if brief else question.replies)
    chosen: list[str] = []
    while len(chosen) < question.items:
        word = pick(rng, question.replies)
        if word not in chosen:
            chosen.append(word)
    return "\n".join(f"- {word}" for word in chosen)


def cap(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


GREETINGS = ("Hi! ", "Hello! ", "Good morning! ", "Hey, ", "A question: ", "Tell me, ", "Now a new one: ", "OK, ",
             "I want to know: ", "One more: ")


def dress(rng: Random, text: str) -> str:
    """The question as asked, half of the time with a few words before or after it."""
    if rng.random() < 0.5:
        return text
    if rng.random() < 0.3:
        return text + rng.choice((" Thank you.", " Thanks!", " I forgot.", " I am curious."))
    start = rng.choice(GREETINGS)
    return start + (text if start[-2] in "!:" else text[0].lower() + text[1:] if text[:2] != "I " else text)


_ONE = ("Name {}.", "Tell me {}.", "Give me {}.", "Think of {}.", "Pick {}.", "I need {}.", "Say {}.")
_YES = ("Can you name {}?", "Can you think of {}?", "Could you tell me {}?", "Do you know {}?")
_EXAMPLE = ("Please name {}.", "Please tell me {}.", "What would be {}?")


def group_question(rng: Random) -> Question:
    """Asks for any member of a group."""
    group = rng.choice(tuple(facts.GROUPS))
    members = facts.GROUPS[group]
    brief = tuple(f"{cap(w)}." for w in members)
    style = rng.random()
    if style < 0.6:
        text, replies = rng.choice(_ONE), brief
    elif style < 0.8:
        text, replies = rng.choice(_YES), tuple(f"Yes, {w}." for w in members)
    else:
        text, replies = rng.choice(_EXAMPLE), tuple(f"{cap(w)}, for example." for w in members)
    return Question("group", dress(rng, text.format(group)), replies, brief)


_PLURAL = {"animals": "animal", "names": "name", "colours": "colour", "foods": "food", "places": "place",
           "things": "thing", "jobs": "job", "sports": "sport", "vehicles": "vehicle", "girls' names": "girl"}


def list_question(rng: Random) -> Question:
    """Asks for a list of some different members of a class."""
    plural = rng.choice(tuple(_PLURAL))
    count = rng.randint(2, 4)
    text = rng.choice(("Make a list of {} {}.", "List {} {}.", "Write a list of {} {}.", "Name {} {}."))
    pool = CLASSES[_PLURAL[plural]]
    return Question("list", dress(rng, text.format(CLASSES["count"][count - 2], plural)), pool, items=count)


def starts_question(rng: Random) -> Question:
    """Asks for a word that starts with a letter."""
    kind = rng.choice(("animal", "name", "food", "thing"))
    letter = draw(rng, kind)[0].upper()
    members = tuple(w for w in CLASSES[kind] if w[0].upper() == letter)
    text = rng.choice(("Name {} that starts with {}.", "Tell me {} that starts with {}.", "Give me {} with the letter {}."))
    replies = tuple(f"{cap(w)}." for w in members)
    return Question("starts", dress(rng, text.format(article(kind), letter)), replies, replies)


def single(kind: str, rng: Random, texts: tuple[str, ...], reply: str, word: str) -> Question:
    """A question with one right answer: the sentence, or only the word when asked to be brief."""
    return Question(kind, dress(rng, rng.choice(texts)), (reply,), (f"{cap(word)}.",))


def _animal_fact(rng: Random) -> Question:
    kind = rng.randrange(4)
    if kind == 0:
        a, n = rng.choice(tuple(facts.LEGS.items()))
        return single("legs", rng, (f"How many legs does {article(a)} have?", f"How many legs has {article(a)} got?",
                      f"Count the legs of {article(a)}."), f"{cap(article(a))} has {n} legs.", n)
    if kind == 1:
        a, s = rng.choice(tuple(facts.SOUNDS.items()))
        return single("sound", rng, (f"What sound does {article(a)} make?", f"What does {article(a)} do to be heard?",
                      f"What noise does {article(a)} make?"), f"{cap(article(a))} {s}.", s)
    if kind == 2:
        a, b = rng.choice(tuple(facts.BABIES.items()))
        return single("baby", rng, (f"What is a young {a} called?", f"What do you call a young {a}?",
                      f"What is the word for a baby {a}?"), f"A young {a} is called {article(b)}.", b)
    a, h = rng.choice(tuple(facts.HOMES.items()))
    return single("home", rng, (f"Where does {article(a)} live?", f"What is the home of {article(a)}?",
                  f"Where can you find {article(a)}?"), f"{cap(article(a))} lives in {article(h)}."
                  .replace(" a water.", " water."), h)


def _yes_no(rng: Random) -> Question:
    verb, able = rng.choice((("fly", facts.FLYING), ("swim", facts.SWIMMING)))
    others = tuple(a for a in facts.FOUR_LEGS if a not in able) if rng.random() < 0.5 else able
    a = pick(rng, others)
    text = rng.choice((f"Can {article(a)} {verb}?", f"Is {article(a)} able to {verb}?", f"Does {article(a)} know how to {verb}?"))
    reply = f"Yes, {article(a)} can {verb}." if a in able else f"No, {article(a)} cannot {verb}."
    return Question("can", dress(rng, text), (reply,), ("Yes." if a in able else "No.",))


def _bigger(rng: Random) -> Question:
    a, b = rng.choice(facts.BIG), rng.choice(facts.SMALL)
    first, second = (a, b) if rng.random() < 0.5 else (b, a)
    big = rng.random() < 0.5
    word, right, wrong = ("bigger", a, b) if big else ("smaller", b, a)
    texts = (f"Which is {word}, {article(first)} or {article(second)}?",
             f"What is {word}: {article(first)} or {article(second)}?")
    return single("size", rng, texts, f"{cap(article(right))} is {word} than {article(wrong)}.", right)


def _world(rng: Random) -> Question:
    kind = rng.randrange(8)
    if kind == 0:
        a, b = rng.choice(tuple(facts.OPPOSITES.items()))
        return single("opposite", rng, (f"What is the opposite of {a}?", f"Tell me the opposite of {a}.",
                      f"Which word means not {a}?"), f"The opposite of {a} is {b}.", b)
    if kind == 1:
        a, b = rng.choice(tuple(facts.HUES.items()))
        return single("hue", rng, (f"What colour is {a}?", f"Which colour has {a}?", f"Tell me the colour of {a}."),
                      f"{cap(a)} is {b}.", b)
    if kind == 2:
        (a, b), c = rng.choice(tuple(facts.MIXES.items()))
        if rng.random() < 0.5:
            a, b = b, a
        return single("mix", rng, (f"What do you get when you mix {a} and {b}?", f"What colour do {a} and {b} make?",
                      f"I mix {a} and {b}. What colour is it?"), f"{cap(a)} and {b} make {c}.", c)
    if kind == 3:
        a, b = rng.choice(tuple(facts.TASKS.items()))
        t = b if b == "scissors" else article(b)
        return single("task", rng, (f"What do you need to {a}?", f"What do you use to {a}?", f"I want to {a}. What do I need?"),
                      f"To {a} you need {t}.", b)
    if kind == 4:
        a, b = rng.choice(tuple(facts.WORK.items()))
        return single("work", rng, (f"What does a {a} do?", f"What is the work of a {a}?", f"Tell me what a {a} does."),
                      f"A {a} {b}.", b)
    if kind == 5:
        a, b = rng.choice(tuple(facts.CAPITALS.items()))
        return single("capital", rng, (f"What is the capital of {a}?", f"Which city is the capital of {a}?",
                      f"Tell me the capital of {a}."), f"The capital of {a} is {b}.", b)
    if kind == 6:
        a, b = rng.choice(tuple(facts.PLURALS.items()))
        return single("plural", rng, (f"What is the plural of {a}?", f"One {a}, two what?", f"Tell me the plural of {a}."),
                      f"One {a}, two {b}.", b)
    a, b = rng.choice(tuple(facts.PAST.items()))
    return single("past", rng, (f"What is the past of {a}?", f"Today I {a}. And yesterday?", f"Tell me the past of {a}."),
                  f"Today I {a}, yesterday I {b}.", b)


def _time(rng: Random) -> Question:
    kind = rng.randrange(3)
    if kind == 2:
        a, b = rng.choice(tuple(facts.FIGURES.items()))
        verb = "is" if b == "one" else "are"
        return single("figure", rng, (f"How many {a}?", f"Tell me how many {a} there are.", f"How many {a} are there?"),
                      f"There {verb} {b} {a}." if b != "one" else "There is one nose on a face.", b)
    names = CLASSES["day" if kind else "month"]
    i = rng.randrange(len(names))
    unit = "day" if kind else "month"
    if rng.random() < 0.5:
        a, b, word = names[i], names[(i + 1) % len(names)], "after"
    else:
        a, b, word = names[i], names[i - 1], "before"
    return single(unit, rng, (f"What {unit} comes {word} {a}?", f"Which {unit} is {word} {a}?", f"Tell me the {unit} {word} {a}."),
                  f"{b} comes {word} {a}.", b)


MAKERS: tuple[tuple[Callable[[Random], Question], float], ...] = (
    (group_question, 5.0), (list_question, 1.0), (starts_question, 0.8), (_animal_fact, 2.0), (_yes_no, 0.8),
    (_bigger, 0.6), (_world, 2.5), (_time, 1.2),
)


def knowledge_question(rng: Random) -> Question:
    """A question that needs no text beside it."""
    return rng.choices([m for m, _ in MAKERS], [w for _, w in MAKERS])[0](rng)
