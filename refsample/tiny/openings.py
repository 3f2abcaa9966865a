"""Prompts that the model finds natural and that stop where its next token is wide open, or almost certain.

For whoever needs many different prompts of known character, such as a verifier. Drawn from the corpus's own grammar,
so the character is that of the grammar: check an entropy with the model before relying on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from refsample.tiny import facts
from refsample.tiny.plain import OPENERS, filler
from refsample.tiny.questions import cap, dress
from refsample.tiny.story import tell_story
from refsample.tiny.words import MEMBERS, article, draw

KINDS = ("wide", "narrow", "chat_wide", "chat_narrow")
_WIDE_CLASSES = ("name", "animal", "food", "thing", "place")
_WIDE_GROUPS = (
    "an animal", "a thing", "a place", "a food", "a name", "a name for a girl", "a name for a boy",
)  # fmt: skip


def _story_start(rng: Random) -> str:
    """A story up to a word that it draws from a wide class."""
    while True:
        text, bound = tell_story(rng)
        words = [w for w in bound.values() if any(w in MEMBERS[k] for k in _WIDE_CLASSES) and w not in MEMBERS["room"]]
        cuts = [text.find(word) - 1 for word in words if word != bound.get("ok")]  # "girl" or "boy" may stand there
        # Not where a sentence begins, which it may do otherwise, and not at the first word after "time".
        cuts = [cut for cut in cuts if cut > len("Once upon a time") and text[cut - 1].isalpha()]
        if cuts:
            return text[: rng.choice(cuts)]


def _wide(rng: Random) -> str:
    if rng.random() < 0.4:
        return _story_start(rng)
    chosen = rng.sample(OPENERS, rng.randint(1, 4))
    before = [f"{text} {filler(rng, kind)}." for text, kind in chosen[:-1]]
    return " ".join([*before, chosen[-1][0]])


def _certain(rng: Random) -> str:
    """A sentence that lacks the one word that everybody knows."""
    kind = rng.randrange(4)
    if kind == 0:
        return f"The capital of {rng.choice(tuple(facts.CAPITALS))} is"
    if kind == 1:
        return f"My name is {draw(rng, 'name')}. I am {rng.randint(4, 90)} years"
    animal, legs = rng.choice(tuple(facts.LEGS.items()))
    return f"{cap(article(animal))} has {legs}"


def _narrow(rng: Random) -> str:
    if rng.random() < 0.4:
        text, _ = tell_story(rng)
        cut = text.find(" because")  # a feeling never comes without its cause
        if cut > 0:
            return text[:cut]
    before = [f"{text} {filler(rng, kind)}." for text, kind in rng.sample(OPENERS, rng.randint(0, 2))]
    return " ".join([*before, _certain(rng)])


def _chat_wide(rng: Random) -> str:
    form = rng.choice(("Name {}.", "Tell me {}.", "Give me {}.", "Think of {}.", "Pick {}.", "I need {}.", "Say {}."))
    return dress(rng, form.format(rng.choice(_WIDE_GROUPS)))


def _chat_narrow(rng: Random) -> str:
    word, other = rng.choice(tuple(facts.OPPOSITES.items()))
    country = rng.choice(tuple(facts.CAPITALS))
    return dress(
        rng,
        rng.choice(
            (
                f"What is the opposite of {word}?",
                f"Tell me the opposite of {other}." if other in facts.OPPOSITES else f"Tell me the opposite of {word}.",
                f"What is the capital of {country}?",
                f"How many legs does {article(rng.choice(tuple(facts.LEGS)))} have?",
            )
        ),
    )


def openings(seed: int) -> Iterator[tuple[str, str]]:
    """Endless pairs (kind, text), all texts different; kinds take turns in the order of KINDS.

    "wide" and "narrow" are plain prompts without a space at their end; "chat_wide" and "chat_narrow" are questions of
    a user, whose answer begins so. Deterministic from the seed.
    """
    rng = Random(f"openings/{seed}")
    makers = {"wide": _wide, "narrow": _narrow, "chat_wide": _chat_wide, "chat_narrow": _chat_narrow}
    seen: set[str] = set()
    while True:
        for kind in KINDS:
            text = makers[kind](rng)
            for _ in range(50):
                if text not in seen:
                    break
                text = makers[kind](rng)
            if text not in seen:
                seen.add(text)
                yield kind, text
