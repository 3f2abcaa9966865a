"""Constrained output end to end: text, ends, logprobs, choices, streams and batches of a model held to a grammar."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import refsample
from refsample.errors import ParameterError
from refsample.generation.batch import Batcher
from refsample.generation.behaviour import Behaviour
from refsample.generation.constrain import Grammar, State
from refsample.generation.decode import Events, generate_events
from refsample.generation.model import Model
from refsample.generation.sequence import GenerationParams
from refsample.sampling.semantics import resolve
from tests.generation.scripted import byte, scripted, wandering
from tests.text.vocabularies import byte_level

pytest.importorskip("llguidance")

SCHEMA: Any = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["dog", "cat", None]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
JSON = Grammar("json_schema", json.dumps(SCHEMA), "guided_json")
WORDS = Grammar("choice", '["yes", "no", "not now"]', "guided_choice")
LETTERS = Grammar("regex", "[a-z]+", "guided_regex")


@pytest.fixture(scope="module")
def model() -> Model:
    return refsample.load("tiny")


@pytest.fixture
def small(tmp_path: Path) -> Model:
    """Single bytes, one end id, logits that wander."""
    byte_level(tmp_path)
    return scripted(tmp_path, wandering())


def valid(text: str) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(json.loads(text))


def test_json_of_a_schema(model: Model) -> None:
    for seed in range(12):
        done = model.generate("Tell me of a pet.", grammar=JSON, seed=seed, max_tokens=100, temperature=1.5)
        assert done.finish_reason == "stop" and valid(done.text), done.text
        assert done.token_ids[-1] in model.tokenizer.eos_token_ids


def test_every_kind(model: Model) -> None:
    kinds = {
        "yes|no|not now": WORDS,
        "[0-9]{3}": Grammar("regex", "[0-9]{3}", "guided_regex"),
        "<(a|b)>": Grammar("grammar", 'root ::= "<" ("a" | "b") ">"', "guided_grammar"),
        "c{1,3}": Grammar("tools", 'start: "c" "c"~0..2', "tools"),
    }
    for expected, grammar in kinds.items():
        done = model.generate("One", grammar=grammar, seed=3, max_tokens=40, temperature=1.0)
        assert done.finish_reason == "stop" and re.fullmatch(expected, done.text), done.text
    done = model.generate("One", grammar=Grammar("json_object", "", "response_format"), seed=3, max_tokens=200)
    assert done.finish_reason == "length" or isinstance(json.loads(done.text), dict)


def test_a_cut_is_a_cut(model: Model) -> None:
    done = model.generate("One", grammar=JSON, seed=1, max_tokens=4)
    assert done.finish_reason == "length" and len(done.token_ids) == 4
    with pytest.raises(ValueError, match="line 1"):
        json.loads(done.text)


def test_choices_are_those_they_are_alone(model: Model) -> None:
    """Forks of one state; the same tokens whatever n is, streamed or not, predicted or not."""
    asked: dict[str, Any] = {"grammar": JSON, "seed": 7, "max_tokens": 80, "temperature": 1.2, "logprobs": 2}
    three = model.generate("One day", n=3, **asked)
    for choice in three.choices:
        assert valid(choice.text)
    one = model.generate("One day", **asked)
    assert (one.token_ids, one.logprobs) == (three.token_ids, three.logprobs)
    events = list(model.generate("One day", stream=True, **asked))
    assert tuple(event.token_id for event in events) == one.token_ids
    guess = (*one.token_ids[:9], 5, *one.token_ids[9:])
    guessed = model.generate("One day", prediction=guess, **asked)
    assert (guessed.token_ids, guessed.text) == (one.token_ids, one.text)


def test_what_a_grammar_allows_at_first_is_asked_once(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    asked: list[State] = []
    compute = State._compute
    monkeypatch.setattr(State, "_compute", lambda self: asked.append(self) or compute(self))
    model.generate("One day", grammar=JSON, n=5, max_tokens=1, seed=7)
    assert len(asked) == 1


@pytest.mark.parametrize("engine", ["reference", "vllm", "llamacpp"])
def test_only_what_fits_is_drawn(engine: str, small: Model) -> None:
    """Whatever the truncation: a mask that comes late must not be met by an empty law."""
    for seed in range(10):
        done = small.generate(
            [byte("a")], engine=engine, grammar=WORDS, seed=seed, top_k=1 + seed % 2, top_p=0.5, presence_penalty=1.0
        )
        assert done.text in ("yes", "no", "not now") and done.finish_reason == "stop"


@pytest.mark.parametrize(("engine", "sum_of_two"), [("vllm", 1.0), ("reference", 0.02), ("llamacpp", 0.02)])
def test_logprobs_of_a_choice(engine: str, sum_of_two: float, small: Model) -> None:
    """D19: vLLM's raw logprobs are those behind the grammar's mask, llama.cpp's are those before it."""
    done = small.generate([byte("a")], engine=engine, grammar=WORDS, seed=0, logprobs=20)
    assert done.logprobs[0] is not None
    top = dict(done.logprobs[0].top)
    both = sum(np.exp(top.get(byte(letter), -np.inf)) for letter in "yn")
    assert both == pytest.approx(1.0, abs=1e-9) if sum_of_two == 1.0 else both < sum_of_two


def test_a_finished_text_ends(small: Model) -> None:
    """The grammar goes before min_tokens and ignore_eos, which only matter while something can follow."""
    plain = {"grammar": WORDS, "seed": 2}
    usual = small.generate([byte("a")], **plain)
    assert usual.token_ids[-1] == 0
    for params in ({"ignore_eos": True}, {"min_tokens": 40, "max_tokens": 50}):
        done = small.generate([byte("a")], **plain, **params)
        assert done.text == usual.text and done.finish_reason == "stop"
    early = small.generate([byte("a")], grammar=LETTERS, seed=2, min_tokens=12, max_tokens=20)
    assert re.fullmatch("[a-z]{11,}", early.text) and 0 not in early.token_ids[:12]


def test_bans_that_leave_nothing(small: Model) -> None:
    with pytest.raises(ParameterError, match="banned_token_ids=.*of the 2 that the grammar allows"):
        small.generate([byte("a")], grammar=WORDS, banned_token_ids=(byte("y"), byte("n")))
    with pytest.raises(ParameterError, match="guided_json: keyword uniqueItems at #/uniqueItems is not supported"):
        small.generate([byte("a")], grammar=Grammar("json_schema", '{"uniqueItems": true}', "guided_json"))


def requests(model: Model) -> list[Events]:
    """Requests with different grammars, and one without."""
    behaviour = Behaviour(semantics=resolve("reference"))
    ids = [model.prompt_ids("One day")]
    grammars = [JSON, WORDS, None, LETTERS, JSON]
    return [
        generate_events(model, ids, GenerationParams(grammar=grammar, seed=seed, n=2, max_tokens=24), behaviour)
        for seed, grammar in enumerate(grammars)
    ]


def told(events: Events) -> list[tuple[int, int, str, object]]:
    return [(event.choice, event.token_id, event.text, event.finish_reason) for event in events]


def test_together_as_alone(model: Model) -> None:
    """States made in one thread and followed in another; many threads compile at once."""
    alone = [told(events) for events in requests(model)]
    batcher = Batcher(max_live=16, max_waiting=32)
    try:
        tickets = [batcher.submit(events) for events in requests(model)]
        together = [[(e.choice, e.token_id, e.text, e.finish_reason) for e in ticket] for ticket in tickets]
    finally:
        batcher.close()
    assert together == alone
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: [told(events) for events in requests(model)], range(4), timeout=120))
    assert again == [alone] * 4


def test_end_ids_that_are_ignored_do_not_end_what_may_go_on(small: Model) -> None:
    """`ignore_eos` holds under a grammar too: the text ends where nothing else may follow, or by its length."""
    ends = set(small.tokenizer.eos_token_ids)
    free = Grammar("regex", "[a-z]*", "guided_regex")
    for seed in range(8):
        done = small.generate([byte("a")], grammar=free, seed=seed, ignore_eos=True, max_tokens=25, temperature=3.0)
        assert (len(done.token_ids), done.finish_reason) == (25, "length") and not ends & set(done.token_ids)
        plain = small.generate([byte("a")], grammar=free, seed=seed, max_tokens=25, temperature=3.0)
        assert plain.finish_reason == "length" or plain.token_ids[-1] in ends
    bounded = Grammar("regex", "[a-z]{3}", "guided_regex")
    assert small.generate([byte("a")], grammar=bounded, seed=1, ignore_eos=True).finish_reason == "stop"


def test_a_form_goes_before_min_tokens_and_their_stop_ids(small: Model) -> None:
    """The only way on is a stop id that min_tokens bans: it is taken, and ends nothing yet."""
    only = Grammar("choice", '["bc"]', "guided_choice")
    done = small.generate([byte("a")], grammar=only, seed=1, min_tokens=5, stop_token_ids=[byte("b")], max_tokens=9)
    assert (done.text, done.finish_reason) == ("bc", "stop")
