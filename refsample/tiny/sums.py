"""Questions about small numbers, each with every right answer; knows no document."""

from __future__ import annotations

from random import Random

from refsample.tiny.questions import Question, dress


def _one(rng: Random, kind: str, texts: tuple[str, ...], reply: str) -> Question:
    return Question(kind, dress(rng, rng.choice(texts)), (reply + ".",), (reply + ".",))


def _plus(rng: Random) -> Question:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    return _one(
        rng,
        "plus",
        (
            f"What is {a} plus {b}?",
            f"How much is {a} and {b}?",
            f"Add {a} and {b}.",
            f"{a} + {b} = ?",
            f"What is {a} + {b}?",
        ),
        f"{a} + {b} = {a + b}",
    )


def _minus(rng: Random) -> Question:
    b = rng.randint(0, 10)
    a = b + rng.randint(0, 10)
    return _one(
        rng,
        "minus",
        (f"What is {a} minus {b}?", f"Take {b} from {a}.", f"{a} - {b} = ?", f"What is {a} - {b}?"),
        f"{a} - {b} = {a - b}",
    )


def _times(rng: Random) -> Question:
    a, b = rng.randint(1, 6), rng.randint(1, 6)
    return _one(
        rng,
        "times",
        (f"What is {a} times {b}?", f"{a} x {b} = ?", f"How much is {a} times {b}?"),
        f"{a} x {b} = {a * b}",
    )


def _next(rng: Random) -> Question:
    a = rng.randint(1, 40)
    if rng.random() < 0.5:
        return _one(
            rng,
            "after",
            (f"What number comes after {a}?", f"Which number is after {a}?", f"What comes after {a}?"),
            f"After {a} comes {a + 1}",
        )
    return _one(
        rng,
        "before",
        (f"What number comes before {a}?", f"Which number is before {a}?", f"What comes before {a}?"),
        f"Before {a} comes {a - 1}",
    )


def _count(rng: Random) -> Question:
    a = rng.randint(1, 20)
    b = a + rng.randint(2, 6)
    return _one(
        rng,
        "count",
        (f"Count from {a} to {b}.", f"Write the numbers from {a} to {b}."),
        ", ".join(map(str, range(a, b + 1))),
    )


def _larger(rng: Random) -> Question:
    a, b = rng.sample(range(1, 31), 2)
    return _one(
        rng,
        "larger",
        (f"Which number is larger, {a} or {b}?", f"Which is more, {a} or {b}?"),
        f"{max(a, b)} is more than {min(a, b)}",
    )


def pick_number(rng: Random) -> Question:
    """Asks for any number; small ones come a little more often."""
    low, high = (1, 100) if rng.random() < 0.6 else (rng.randint(1, 8), rng.randint(12, 20))
    span = "" if high == 100 else f" between {low} and {high}"
    text = rng.choice(
        (
            "Pick a number{}.",
            "Tell me a number{}.",
            "Name a number{}.",
            "Think of a number{}.",
            "Give me a number{}.",
            "Say a number{}.",
        )
    ).format(span)
    replies = tuple(f"{n}." for n in range(low, high + 1))
    return Question("number", dress(rng, text), replies, replies)


_MAKERS = ((_plus, 3.0), (_minus, 3.0), (_times, 1.0), (_next, 1.0), (_count, 0.7), (_larger, 0.8), (pick_number, 1.5))


def number_question(rng: Random) -> Question:
    """A question about numbers."""
    return rng.choices([m for m, _ in _MAKERS], [w for _, w in _MAKERS])[0](rng)
