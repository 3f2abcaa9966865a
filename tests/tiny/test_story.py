"""The story grammar: it parses all that it writes, and little else."""

from __future__ import annotations

from random import Random

import pytest

from refsample.tiny.grammar import compile_grammar, parse, write
from refsample.tiny.story import PLOTS, parse_story, tell_plot, tell_story
from refsample.tiny.words import CLASSES, is_girl

TINY = compile_grammar({
    "s": ("{n:name} saw {a x:animal}. <end>", "{n:name} slept."),
    "end": ("{n.He} gave the {x} to {f:name}.", "{X x} and {n} left."),
})  # fmt: skip


@pytest.mark.parametrize(
    "text", ["Mia saw an owl. She gave the owl to Tom.", "Tom saw a fox. Fox and Tom left.", "Zoë slept."]
)
def test_a_grammar_by_hand_parses(text: str) -> None:
    assert parse(TINY, "s", text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Mia saw a owl. She gave the owl to Tom.",  # article
        "Mia saw an owl. He gave the owl to Tom.",  # pronoun
        "Mia saw an owl. She gave the fox to Tom.",  # reference
        "Mia saw an owl. She gave the owl to Mia.",  # two names must differ
        "Mia saw an owlet. She gave the owlet to Tom.",  # no such word
        "Mia saw an owl.",  # unfinished
        "Mia slept. Mia slept.",  # more than a story
        "",
    ],
)
def test_a_grammar_by_hand_refuses(text: str) -> None:
    assert parse(TINY, "s", text) is None


def test_words_but_people_may_come_again_in_another_sentence() -> None:
    grammar = compile_grammar({"s": ("{n:name} ate {x:food} and {y:food}. {m:name} ate {z:food}.",)})
    assert parse(grammar, "s", "Mia ate honey and cheese. Tom ate honey.") is not None
    assert parse(grammar, "s", "Mia ate honey and honey. Tom ate cheese.") is None
    assert parse(grammar, "s", "Mia ate honey and cheese. Mia ate bread.") is None


def test_words_bound_beforehand_are_used_and_must_agree() -> None:
    env = {"n": "Mia"}
    assert write(TINY, "s", Random(0), env).startswith("Mia ")
    with pytest.raises(ValueError, match="no production of 's' agrees"):
        write(TINY, "s", Random(0), {"n": "fox"})


def test_unknown_symbols_and_classes_are_errors() -> None:
    with pytest.raises(KeyError):
        compile_grammar({"s": ("<t>",)})
    with pytest.raises(KeyError):
        compile_grammar({"s": ("{x:unheard}",)})


def test_every_story_parses_to_what_it_was_made_of() -> None:
    rng = Random(0)
    for _ in range(3000):
        story, bound = tell_story(rng)
        assert parse_story(story) == bound, story


def test_stories_keep_the_people_they_are_given() -> None:
    rng = Random(1)
    for _ in range(300):
        story, bound = tell_story(rng, {"n": "Zoë", "f": "Omar"})
        assert bound["n"] == "Zoë" and "Zoë" in story
    told = {plot: tell_plot(rng, plot, {"n": "Tom"})[0] for plot in PLOTS}
    assert len(told) == 10


def _mutants(story: str, bound: dict[str, str], rng: Random) -> list[str]:
    """The story with its hero's name changed in one place, a pronoun turned, the opening or the end cut off, two
    sentences swapped, a word misspelt."""
    hero = bound["n"]
    other = next(n for n in CLASSES["girl" if is_girl(hero) else "boy"][rng.randrange(40) :] if n not in story)
    at = story.rindex(hero)
    sentences = story.split(". ")
    made = [
        story[:at] + other + story[at + len(hero) :],
        ". ".join(sentences[1:]),
        ". ".join(sentences[:-2]) + ".",
        ". ".join([*sentences[1:], sentences[0]]),
        story.replace(" the ", " teh ", 1),
        story + " The end.",
    ]
    turned = {" he ": " she ", " she ": " he ", " He ": " She ", " She ": " He "}
    first = next((p for p in turned if p in story), None)
    if first is not None:
        made.append(story.replace(first, turned[first], 1))
    return made


def test_mutated_stories_do_not_parse() -> None:
    rng = Random(2)
    passed = total = 0
    for _ in range(500):
        story, bound = tell_story(rng)
        for mutant in _mutants(story, bound, rng):
            if mutant != story:
                total += 1
                passed += parse_story(mutant) is not None
    assert total > 2500
    assert passed / total < 0.01, f"{passed} of {total} mutants still parse"
