"""The corpus generator: deterministic, diverse, honest about what it holds out, with right answers that are right."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from refsample.tiny import facts
from refsample.tiny.chat import END, is_held_out, question
from refsample.tiny.corpus import documents, held_out_questions
from refsample.tiny.openings import KINDS, openings
from refsample.tiny.questions import Question, answer, is_right
from refsample.tiny.vocabulary import SPECIALS
from refsample.tiny.words import CLASSES, MEMBERS, article, draw, pronoun


def test_documents_are_a_function_of_seed_and_split() -> None:
    first = list(islice(documents(3, "train"), 300))
    assert first == list(islice(documents(3, "train"), 300))
    assert first != list(islice(documents(4, "train"), 300))
    assert first != list(islice(documents(3, "held_out"), 300))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"split='test': must be one of \('train', 'held_out'\)"):
        next(documents(0, "test"))


def test_tens_of_thousands_of_documents_differ() -> None:
    made = list(islice(documents(0, "train"), 20_000))
    assert len(set(made)) > 19_000  # short questions and facts come back now and then
    assert all(text.endswith(END) for text in made)
    long = [text for text in made if len(text) > 2500]
    assert len(long) > 100


def test_documents_of_every_kind_come_and_most_text_is_ascii() -> None:
    made = list(islice(documents(1, "train"), 4000))
    whole = "".join(made)
    assert all(special in whole for special in SPECIALS)
    assert any(word in whole for word in CLASSES["emoji"])
    assert "Zoë" in whole and "José" in whole and "café" in whole
    assert 0.0005 < sum(ord(c) > 127 for c in whole) / len(whole) < 0.01
    assert any(text.startswith('{"name": ') for text in made)
    assert any(text.startswith("<|fim_prefix|>") for text in made)
    assert any(text.count("<|user|>") >= 4 for text in made)


def test_fill_in_middle_puts_the_text_together_again() -> None:
    made = [text for text in islice(documents(2, "train"), 2000) if text.startswith("<|fim_prefix|>")]
    assert len(made) > 50
    for text in made:
        prefix, rest = text.removeprefix("<|fim_prefix|>").split("<|fim_suffix|>")
        suffix, middle = rest.removesuffix(END).split("<|fim_middle|>")
        assert middle
        assert "  " not in prefix + middle + suffix


def test_no_question_is_in_both_splits() -> None:
    asked = {q.text for q in held_out_questions(0, 400)}
    assert len(asked) == 400
    assert all(is_held_out(text) for text in asked)
    for text in islice(documents(0, "train"), 5000):
        for turn in text.split("<|user|>")[1:]:
            assert turn.split(END)[0] not in asked
    rng = Random(5)
    assert not any(is_held_out(question(rng, held_out=False).text) for _ in range(500))


def test_drawn_answers_are_right_and_others_are_not() -> None:
    rng = Random(1)
    for _ in range(2000):
        asked = question(rng, held_out=rng.random() < 0.5)
        reply = answer(rng, asked)
        assert is_right(asked, reply), asked
        assert not is_right(asked, reply + " no")
        assert not is_right(asked, "")


def test_a_list_needs_different_items_and_the_right_number() -> None:
    asked = Question("list", "List two animals.", ("fox", "cow", "owl"), items=2)
    assert is_right(asked, "- fox\n- owl")
    assert not is_right(asked, "- fox\n- fox")
    assert not is_right(asked, "- fox")
    assert not is_right(asked, "- fox\n- owl\n- cow")
    assert not is_right(asked, "- fox\n- car")


def test_facts_are_of_the_classes_they_speak_of() -> None:
    for group, kind in (
        ("an animal that can fly", "animal"), ("an animal that can swim", "animal"), ("a pet", "animal"),
        ("a fruit", "food"), ("a vegetable", "food"), ("a toy", "thing"), ("a place with water", "place"),
    ):  # fmt: skip
        assert set(facts.GROUPS[group]) <= MEMBERS[kind]
    assert all(len(set(words)) == len(words) for words in CLASSES.values())
    assert facts.AFTER["Sunday"] == "Monday" and facts.BEFORE["January"] == "December"
    assert facts.LEGS["spider"] == "eight" and facts.LEGS["cow"] == "four" and facts.LEGS["owl"] == "two"


def test_draws_slope_smoothly() -> None:
    rng = Random(0)
    drawn = [draw(rng, "animal") for _ in range(20_000)]
    weights = [(i + 1) ** -0.5 for i in range(len(CLASSES["animal"]))]
    for rank in (0, 3, 30):  # expected 1 250, 620 and 220 of 20 000: five standard deviations either way
        expected = 20_000 * weights[rank] / sum(weights)
        assert abs(drawn.count(CLASSES["animal"][rank]) - expected) < 5 * expected**0.5


def test_grammar_of_words() -> None:
    words = {"owl": "an owl", "fox": "a fox", "umbrella": "an umbrella", "unhappy": "an unhappy"}
    assert {word: article(word) for word in words} == words
    assert [pronoun("Mia", f) for f in ("he", "him", "his", "He", "His")] == ["she", "her", "her", "She", "Her"]
    assert pronoun("Tom", "His") == "His"


def test_openings_differ_take_turns_and_end_without_a_space() -> None:
    made = list(islice(openings(0), 1200))
    assert made == list(islice(openings(0), 1200))
    assert len({text for _, text in made}) == 1200
    assert {kind: sum(k == kind for k, _ in made) for kind in KINDS} == dict.fromkeys(KINDS, 300)
    assert not any(text.endswith(" ") for _, text in made)
    assert not any(text[-1] in ".?!" for kind, text in made if not kind.startswith("chat"))
