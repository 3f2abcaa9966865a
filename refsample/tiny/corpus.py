"""The documents of the corpus, endlessly and deterministically from a seed; knows no token and no weight."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from refsample.tiny.chat import END, conversation, is_held_out, question, render
from refsample.tiny.plain import echo_text, list_text, plain_text
from refsample.tiny.questions import Question
from refsample.tiny.reading import distinct, plot_with_opening, story_questions
from refsample.tiny.story import tell_story

SPLITS = ("train", "held_out")
_MIX = (("story", 4.0), ("chat", 12.0), ("plain", 3.0), ("echo", 1.2), ("fim", 1.2), ("collection", 0.3))


def _fim(rng: Random) -> str:
    """A fill-in-middle document: prefix, suffix, then the middle, cut between words."""
    text = tell_story(rng)[0] if rng.random() < 0.6 else plain_text(rng)
    cuts = [0, *(i for i, c in enumerate(text) if c == " "), len(text)]
    start, stop = sorted(rng.sample(range(len(cuts)), 2))
    stop = min(stop, start + 12)
    a, b = cuts[start], cuts[stop]
    return f"<|fim_prefix|>{text[:a]}<|fim_suffix|>{text[b:]}<|fim_middle|>{text[a:b]}{END}"


def _collection(rng: Random) -> str:
    """A long document: chapters about the same people, and at the end questions about them."""
    people = distinct(rng, "name", 3)
    parts = [f"A book about {people[0]}, {people[1]} and {people[2]}."]
    asked: list[tuple[str, str]] = []
    for chapter in range(1, rng.randint(7, 12)):
        if rng.random() < 0.2:
            parts.append(f"Chapter {chapter}.\n{list_text(rng)}")
            continue
        hero, friend = rng.sample(people, 2)
        if rng.random() < 0.5:
            told, plot, env = plot_with_opening(rng)
            asked += [(f"In chapter {chapter}: {q}", a) for q, a in story_questions(rng, plot, env)]
        else:
            told, env = tell_story(rng, {"n": hero, "f": friend})
            asked.append((f"Who is the hero of chapter {chapter}?", f"{hero}."))
        parts.append(f"Chapter {chapter}.\n{told}")
    parts.append("Questions.")
    parts += [f"{q}\n{a}" for q, a in rng.sample(asked, min(len(asked), 6))]
    parts.append(f"This was the book about {people[0]}, {people[1]} and {people[2]}.")
    return "\n\n".join(parts) + END


def _document(rng: Random, held_out: bool) -> str:
    kind = rng.choices([k for k, _ in _MIX], [w for _, w in _MIX])[0]
    if kind == "chat":
        return render(conversation(rng, held_out))
    if kind == "story":
        return tell_story(rng)[0] + END
    if kind == "echo":
        return echo_text(rng) + END
    if kind == "plain":
        return plain_text(rng) + END
    return _fim(rng) if kind == "fim" else _collection(rng)


def documents(seed: int, split: str) -> Iterator[str]:
    """Endlessly many documents, each with its end-of-text tokens; the same for the same seed and split.

    split is "train" or "held_out"; raises ValueError for another. A question text, and a text as a whole, that the
    one split holds is never written by the other.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: must be one of {SPLITS}")
    held_out = split == "held_out"
    rng = Random(f"{split}/{seed}")
    while True:
        text = _document(rng, held_out)
        if text.startswith("<|") and not text.startswith("<|fim") or is_held_out(text) == held_out:
            yield text


def held_out_questions(seed: int, count: int) -> list[Question]:
    """`count` different questions whose texts the training split never holds."""
    rng = Random(f"questions/{seed}")
    found: dict[str, Question] = {}
    while len(found) < count:
        asked = question(rng, True)
        found.setdefault(asked.text, asked)
    return list(islice(found.values(), count))
