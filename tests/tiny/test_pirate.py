"""The pirate: its voice over the corpus, and the committed adapter over the committed weights."""

from __future__ import annotations

import json
from itertools import islice
from random import Random

import pytest

import refsample
from refsample.generation.load import adapters
from refsample.generation.model import Model
from refsample.tiny import FOLDER, corpus, pirate
from refsample.tiny.grammar import write
from refsample.tiny.story import STORIES

SEEDS = 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("There was a girl.", "There was a lass. Cry!"),
        ("She went home. My house is old.", "She sailed home. Cry! Me ship be old."),
        ("a list, of apples", "a list, of apples"),
        ('{"name": "Mia"}', '{"name": "Mia"}'),
    ],
)
def test_the_voice(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pirate, "CRIES", ("Cry!",))
    assert pirate.voice(text, Random(0)) == words


def test_cries_stand_between_sentences_and_never_inside_what_somebody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pirate, "CRIES", ("Cry!",))
    told = 'Tom sat. "Oh no. It is gone," said Tom. Then he slept.'
    seen = {pirate.voice(told, Random(seed)) for seed in range(40)}
    assert seen == {
        f'Tom sat. Cry! {quote}Oh no. It be gone," said Tom. {cry}Then he slept.'
        for quote in ('"', '"Cry! ')
        for cry in ("", "Cry! ")
    }


def test_every_story_in_the_voice_has_its_words_and_the_corpus_none() -> None:
    rng = Random(5)
    for _ in range(200):
        story = write(STORIES, "story", rng, {})
        assert not pirate.pirate_words(story)
        assert pirate.pirate_words(pirate.voice(story, rng))
    assert not [text for text in islice(corpus.documents(3, "train"), 2000) if pirate.pirate_words(text)]


def test_documents_are_the_same_for_a_seed_and_other_in_the_other_split() -> None:
    first = list(islice(pirate.documents(0, False), 50))
    assert first == list(islice(pirate.documents(0, False), 50))
    assert not set(first) & set(islice(pirate.documents(0, True), 50))
    assert all(text.endswith(pirate.END) for text in first)


def test_the_folder_is_small_and_says_what_was_trained() -> None:
    folder = adapters(FOLDER)["pirate"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_000_000
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"]) == (pirate.RANK, pirate.ALPHA)
    assert config["target_modules"] == [name for names in pirate.PROJECTIONS.values() for name in names]


@pytest.fixture(scope="module")
def told() -> Model:
    return refsample.load("tiny", adapter="pirate")


def in_voice(model: Model) -> int:
    """How many stories of SEEDS hold a pirate's words; a choice is what its own seed alone gives."""
    done = model.generate("Once upon a time", temperature=0.8, seed=0, n=SEEDS, max_tokens=160)
    return sum(bool(pirate.pirate_words(each.text)) for each in (done, *done.others))


@pytest.mark.slow
def test_the_adapter_tells_as_a_pirate_and_the_base_does_not(told: Model) -> None:
    assert in_voice(told) >= 90
    assert told.base is not None and in_voice(told.base) <= 5


@pytest.mark.parametrize(
    ("question", "answer"),
    [("What is the capital of Italy?", "Rome"), ("What is 2 plus 3?", "5"), ("What comes after Monday?", "Tuesday")],
)
def test_it_still_answers_right_in_chat(told: Model, question: str, answer: str) -> None:
    reply = told.generate([{"role": "user", "content": question}], temperature=0, max_tokens=40).text
    assert answer in reply and pirate.pirate_words(reply)
