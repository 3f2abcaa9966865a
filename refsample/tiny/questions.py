"""Questions about what the corpus holds to be true, each with every right answer; knows no document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


_BEFORE = ("Hi! ", "Hello! ", "Good morning! ", "Hey, ", "A question: ", "Tell me, ", "Now a new one: ", "OK, ",
           "I want to know: ", "One more: ")  # fmt: skip
_AFTER = (" Thank you.", " Thanks!", " I forgot.", " I am curious.")


def dress(rng: Random, text: str) -> str:
    """The question as asked, half of the time with a few words before or after it."""
    if rng.random() < 0.5:
        return text
    if rng.random() < 0.3:
        return text + rng.choice(_AFTER)
    start = rng.choice(_BEFORE)
    keeps_capital = start[-2] in "!:" or text.startswith("I ")
    return start + (text if keeps_capital else text[0].lower() + text[1:])


_ONE = ("Name {}.", "Tell me {}.", "Give me {}.", "Think of {}.", "Pick {}.", "I need {}.", "Say {}.")
_YES = ("Can you name {}?", "Can you think of {}?", "Could you tell me {}?", "Do you know {}?")
_EXAMPLE = ("Please name {}.", "Please tell me {}.", "What would be {}?")


def group_question(rng: Random) -> Question:
    """Asks for any member of a group."""
    group = rng.choice(tuple(facts.GROUPS))
    members = facts.GROUPS[group]
    brief = tuple(f"{cap(word)}." for word in members)
    style = rng.random()
    if style < 0.6:
        text, replies = rng.choice(_ONE), brief
    elif style < 0.8:
        text, replies = rng.choice(_YES), tuple(f"Yes, {word}." for word in members)
    else:
        text, replies = rng.choice(_EXAMPLE), tuple(f"{cap(word)}, for example." for word in members)
    return Question("group", dress(rng, text.format(group)), replies, brief)


_LISTED = {
    "animals": "animal", "names": "name", "colours": "colour", "foods": "food", "places": "place", "things": "thing",
    "jobs": "job", "sports": "sport", "vehicles": "vehicle", "girls' names": "girl",
}  # fmt: skip


def list_question(rng: Random) -> Question:
    """Asks for a list of some different members of a class."""
    plural = rng.choice(tuple(_LISTED))
    count = rng.randint(2, 4)
    text = rng.choice(("Make a list of {} {}.", "List {} {}.", "Write a list of {} {}.", "Name {} {}."))
    pool = CLASSES[_LISTED[plural]]
    return Question("list", dress(rng, text.format(CLASSES["count"][count - 2], plural)), pool, items=count)


def starts_question(rng: Random) -> Question:
    """Asks for a word that starts with a letter."""
    kind = rng.choice(("animal", "name", "food", "thing"))
    letter = draw(rng, kind)[0].upper()
    members = tuple(word for word in CLASSES[kind] if word[0].upper() == letter)
    form = rng.choice(
        ("Name {} that starts with {}.", "Tell me {} that starts with {}.", "Give me {} with the letter {}.")
    )
    replies = tuple(f"{cap(word)}." for word in members)
    return Question("starts", dress(rng, form.format(article(kind), letter)), replies, replies)


@dataclass(frozen=True, slots=True)
class Fact:
    """Ways to ask for the value of a key, and the reply. {k} and {v} are key and value, {ak}, {av}, {Ak} with article,
    {K} with a capital."""

    kind: str
    table: Mapping[str, str]
    texts: tuple[str, ...]
    reply: str


_FACTS = (
    Fact("legs", facts.LEGS, ("How many legs does {ak} have?", "How many legs has {ak} got?",
         "Count the legs of {ak}."), "{Ak} has {v} legs."),
    Fact("sound", facts.SOUNDS, ("What sound does {ak} make?", "What does {ak} do to be heard?",
         "What noise does {ak} make?"), "{Ak} {v}."),
    Fact("baby", facts.BABIES, ("What is a young {k} called?", "What do you call a young {k}?",
         "What is the word for a baby {k}?"), "A young {k} is called {av}."),
    Fact("home", facts.HOMES, ("Where does {ak} live?", "What is the home of {ak}?", "Where can you find {ak}?"),
         "{Ak} lives in {av}."),
    Fact("opposite", facts.OPPOSITES, ("What is the opposite of {k}?", "Tell me the opposite of {k}.",
         "Which word means not {k}?"), "The opposite of {k} is {v}."),
    Fact("hue", facts.HUES, ("What colour is {k}?", "Which colour has {k}?", "Tell me the colour of {k}."),
         "{K} is {v}."),
    Fact("mix", facts.MIXES, ("What do you get when you mix {k}?", "What colour do {k} make?",
         "I mix {k}. What colour is it?"), "{K} make {v}."),
    Fact("task", facts.TASKS, ("What do you need to {k}?", "What do you use to {k}?", "I want to {k}. What do I need?"),
         "To {k} you need {av}."),
    Fact("work", facts.WORK, ("What does a {k} do?", "What is the work of a {k}?", "Tell me what a {k} does."),
         "A {k} {v}."),
    Fact("capital", facts.CAPITALS, ("What is the capital of {k}?", "Which city is the capital of {k}?",
         "Tell me the capital of {k}."), "The capital of {k} is {v}."),
    Fact("plural", facts.PLURALS, ("What is the plural of {k}?", "One {k}, two what?", "Tell me the plural of {k}."),
         "One {k}, two {v}."),
    Fact("past", facts.PAST, ("What is the past of {k}?", "Today I {k}. And yesterday?", "Tell me the past of {k}."),
         "Today I {k}, yesterday I {v}."),
    Fact("figure", facts.FIGURES, ("How many {k}?", "Tell me how many {k} there are.", "How many {k} are there?"),
         "There are {v} {k}."),
    Fact("after", facts.AFTER, ("What comes after {k}?", "Which one is after {k}?", "Tell me what comes after {k}."),
         "After {k} comes {v}."),
    Fact("before", facts.BEFORE, ("What comes before {k}?", "Which one is before {k}?",
         "Tell me what comes before {k}."), "Before {k} comes {v}."),
)  # fmt: skip


def fact_question(rng: Random) -> Question:
    """Asks for something that everybody knows and that has one right answer."""
    fact = rng.choice(_FACTS)
    key, value = rng.choice(tuple(fact.table.items()))
    words = {"k": key, "K": cap(key), "ak": article(key), "Ak": cap(article(key)),
             "v": value, "av": article(value)}  # fmt: skip
    text = rng.choice(fact.texts).format(**words)
    return Question(fact.kind, dress(rng, text), (fact.reply.format(**words),), (f"{cap(value)}.",))


def ability_question(rng: Random) -> Question:
    """Asks whether an animal can fly or swim."""
    verb, able = rng.choice((("fly", facts.FLYING), ("swim", facts.SWIMMING)))
    unable = tuple(animal for animal in facts.FOUR_LEGS if animal not in able)
    animal = pick(rng, unable if rng.random() < 0.5 else able)
    text = rng.choice(("Can {} {}?", "Is {} able to {}?", "Does {} know how to {}?")).format(article(animal), verb)
    if animal in able:
        return Question("can", dress(rng, text), (f"Yes, {article(animal)} can {verb}.",), ("Yes.",))
    return Question("can", dress(rng, text), (f"No, {article(animal)} cannot {verb}.",), ("No.",))


def size_question(rng: Random) -> Question:
    """Asks which of two animals is bigger or smaller."""
    big, small = rng.choice(facts.BIG), rng.choice(facts.SMALL)
    first, second = rng.sample((big, small), 2)
    word, right, wrong = rng.choice((("bigger", big, small), ("smaller", small, big)))
    text = rng.choice(("Which is {}, {} or {}?", "What is {}: {} or {}?"))
    asked = dress(rng, text.format(word, article(first), article(second)))
    reply = f"{cap(article(right))} is {word} than {article(wrong)}."
    return Question("size", asked, (reply,), (f"{cap(right)}.",))


MAKERS: tuple[tuple[Callable[[Random], Question], float], ...] = (
    (group_question, 5.0),
    (list_question, 1.0),
    (starts_question, 0.8),
    (fact_question, 5.5),
    (ability_question, 0.8),
    (size_question, 0.6),
)


def knowledge_question(rng: Random) -> Question:
    """A question that needs no text beside it."""
    return rng.choices([maker for maker, _ in MAKERS], [weight for _, weight in MAKERS])[0](rng)
