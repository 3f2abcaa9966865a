"""Conversations: single questions, several turns, a name remembered, a story wished for; knows no plain text."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random

from refsample.tiny.questions import Question, answer, knowledge_question
from refsample.tiny.reading import distinct, reading_question, story_request
from refsample.tiny.sums import number_question
from refsample.tiny.words import CLASSES, draw

END = "<|endoftext|>"
Message = tuple[str, str]  # role, content
SYSTEMS = (
    "You are a helpful assistant.",
    "You are a friendly helper.",
    "You answer questions for children.",
    "You are a kind teacher.",
    "Answer with care.",
    "You are tiny, a small language model.",
)
BRIEF = ("Answer with one word.", "Be brief.", "One word, please.")
HELD_OUT_SHARE = 8  # one question text in so many is never trained on


def render(messages: list[Message]) -> str:
    """The conversation as the chat template writes it."""
    return "".join(f"<|{role}|>{content}{END}" for role, content in messages)


def is_held_out(text: str) -> bool:
    """Whether a text belongs to the held-out split: decided by its CRC-32 alone, so that no text can be in both."""
    return zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0


def question(rng: Random, held_out: bool) -> Question:
    """A question of one split."""
    makers: tuple[Callable[[Random], Question], ...] = (knowledge_question, number_question, reading_question)
    while True:
        asked = rng.choices(makers, (5.0, 2.0, 4.0))[0](rng)
        if is_held_out(asked.text) == held_out:
            return asked


def _questions(rng: Random, held_out: bool) -> list[Message]:
    brief = rng.random() < 0.12
    messages: list[Message] = []
    if brief:
        messages.append(("system", rng.choice(BRIEF)))
    elif rng.random() < 0.25:
        messages.append(("system", rng.choice(SYSTEMS)))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        asked = question(rng, held_out)
        messages += [("user", asked.text), ("assistant", answer(rng, asked, brief and bool(asked.brief)))]
    return messages


def _sympathy(feeling: str) -> str:
    if feeling in CLASSES["hungry"]:
        return "Then you should eat something."
    return "I am glad to hear it!" if feeling in CLASSES["happy"] else "I am sorry to hear it."


def _acquaintance(rng: Random, held_out: bool) -> list[Message]:
    """Two who meet; what is told early is asked for late."""
    name, animal, food = draw(rng, "name"), draw(rng, "animal"), draw(rng, "food")
    smile = f" {draw(rng, 'emoji')}" if rng.random() < 0.4 else ""
    hello = rng.choice((f"Hello! My name is {name}.", f"Hi, I am {name}.", f"Good day! I am called {name}."))
    feeling = draw(rng, rng.choice(("happy", "sad", "tired", "hungry")))
    place = draw(rng, "place")
    told = rng.choice((
        (f"I like {food}.", "What do I like?", f"You like {food}."),
        (f"I have a pet {animal}.", "What pet do I have?", f"You have a pet {animal}."),
        (f"I live near the {place}.", "Where do I live?", f"You live near the {place}."),
    ))  # fmt: skip
    messages = [
        ("user", hello), ("assistant", f"Hello, {name}!{smile} How are you?"),
        ("user", f"I am {feeling}."), ("assistant", _sympathy(feeling)),
    ]  # fmt: skip
    messages += [("user", told[0]), ("assistant", rng.choice(("That is nice.", "Good to know.", "How lovely!")))]
    if rng.random() < 0.5:
        asked = question(rng, held_out)
        messages += [("user", asked.text), ("assistant", answer(rng, asked))]
    recall = [("What is my name?", f"Your name is {name}."), told[1:]]
    for q, a in rng.sample(recall, rng.randint(1, 2)):
        messages += [("user", q), ("assistant", a)]
    if rng.random() < 0.3:
        messages += [("user", "Thank you!"), ("assistant", f"You are welcome, {name}!{smile}")]
    return messages


def _wish(rng: Random, held_out: bool) -> list[Message]:
    wish, story = story_request(rng)
    return [("user", wish), ("assistant", story)]


def _guess(rng: Random, held_out: bool) -> list[Message]:
    """A game that takes turns with words of one class."""
    kind = rng.choice(("animal", "food", "name", "place", "thing"))
    words = distinct(rng, kind, rng.randint(4, 8))
    messages = [("user", f"Let us take turns: {kind}s. I start with {words[0]}."), ("assistant", f"{words[1]}")]
    for mine, yours in zip(words[2::2], words[3::2], strict=False):
        messages += [("user", mine), ("assistant", yours)]
    return messages


def conversation(rng: Random, held_out: bool) -> list[Message]:
    """A conversation, its questions of one split only."""
    kinds = (_questions, _acquaintance, _wish, _guess)
    return rng.choices(kinds, (10.0, 1.2, 1.0, 0.5))[0](rng, held_out)
