"""POST /v1/completions in process: shapes, echo, best_of, stops, usage, seeds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import refsample
from refsample.api.answer import default_behaviour
from refsample.api.completions import complete
from refsample.errors import ParameterError
from refsample.generation.model import Model
from refsample.spec.provider import Reading, provider
from refsample_kernels.softmax import row_log_softmax
from tests.api import schemas
from tests.api.joined import comparable
from tests.generation.scripted import byte, scripted
from tests.text.vocabularies import byte_level

ONCE = "Once upon a time"


def answer(model: Model, prompt: Any = ONCE, **fields: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "seed": 1, "max_tokens": 8, **fields}
    result = complete(model, json.loads(json.dumps(body)))
    schemas.check(result, schemas.COMPLETION)
    return result


def texts(result: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in result["choices"]]


def test_front_door(model: Model) -> None:
    assert comparable(refsample.complete(model, {"prompt": ONCE, "seed": 3})) == comparable(
        complete(model, {"prompt": ONCE, "seed": 3, "model": "tiny"})
    )


def test_same_seed_same_bytes(model: Model) -> None:
    one, two = (answer(model, logprobs=5, n=3, temperature=1.3) for _ in range(2))
    assert json.dumps(comparable(one)) == json.dumps(comparable(two))
    assert one["id"] != two["id"]


def test_the_seed_in_the_answer_repeats_it(model: Model) -> None:
    one = answer(model, seed=None)
    assert texts(answer(model, seed=one["refsample"]["seed"])) == texts(one)
    other = answer(model, seed=-1)
    assert other["refsample"]["seed"] not in (-1, one["refsample"]["seed"])


def test_choices_are_their_seeds(model: Model) -> None:
    """Choice i of n draws as a request with seed + i would; every prompt the same."""
    several = answer(model, [ONCE, "The cat"], n=3, seed=40)
    assert [choice["index"] for choice in several["choices"]] == list(range(6))
    alone = [texts(answer(model, prompt, seed=40 + i))[0] for prompt in (ONCE, "The cat") for i in range(3)]
    assert texts(several) == alone


def test_prompt_forms_agree(model: Model) -> None:
    ids = model.tokenizer.encode(ONCE)
    forms = [ONCE, [ONCE], ids, [ids]]
    answers = [comparable(answer(model, form, logprobs=1)) for form in forms]
    assert all(each == answers[0] for each in answers)


def test_null_prompt_is_a_new_document(model: Model) -> None:
    start = (
        list(model.tokenizer.eos_token_ids[:1]) if model.config.bos_token_id is None else [model.config.bos_token_id]
    )
    assert texts(answer(model, None)) == texts(answer(model, start))


def test_usage_counts_prompts_once_and_every_sampled_token(model: Model) -> None:
    prompts = [ONCE, "The cat sat"]
    result = answer(model, prompts, n=3, max_tokens=4, logit_bias={"0": -100})
    sizes = [len(model.tokenizer.encode(prompt)) for prompt in prompts]
    assert result["usage"] == {"prompt_tokens": sum(sizes), "completion_tokens": 24, "total_tokens": sum(sizes) + 24}


def test_an_end_token_counts_and_is_listed(model: Model) -> None:
    (eos,) = model.tokenizer.eos_token_ids
    result = answer(model, logit_bias={str(eos): 100}, logprobs=0)
    (choice,) = result["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert result["usage"]["completion_tokens"] == 1
    assert choice["logprobs"]["tokens"] == [model.tokenizer.token_text(eos)]


def test_length_and_zero_tokens(model: Model) -> None:
    assert answer(model, max_tokens=1)["choices"][0]["finish_reason"] == "length"
    nothing = answer(model, max_tokens=0, n=2)
    assert [(c["text"], c["finish_reason"]) for c in nothing["choices"]] == [("", "length")] * 2
    assert nothing["usage"]["completion_tokens"] == 0


def test_stop_text_goes_and_its_tokens_count(model: Model) -> None:
    whole = answer(model, temperature=0, max_tokens=12, logprobs=0)
    tokens = whole["choices"][0]["logprobs"]["tokens"]
    stop = tokens[2] + tokens[3][:2]  # across a token border
    cut = answer(model, temperature=0, max_tokens=12, stop=[stop], logprobs=0)
    (choice,) = cut["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == texts(whole)[0][: texts(whole)[0].index(stop)]
    assert cut["usage"]["completion_tokens"] == 4 == len(choice["logprobs"]["tokens"])
    kept = answer(model, temperature=0, max_tokens=12, stop=stop, include_stop_str_in_output=True)
    assert texts(kept)[0] == choice["text"] + stop


def test_a_provider_that_keeps_the_stop(model: Model) -> None:
    page = provider("openai")
    kept = Reading(printed="kept", effective="removed", source="test", grade="C")
    page = replace(page, behaviours={**page.behaviours, "stop_text": kept})
    whole = texts(answer(model, temperature=0))[0]
    body = {"prompt": ONCE, "max_tokens": 8, "temperature": 0, "stop": whole[:5]}
    assert complete(model, body, page)["choices"][0]["text"] == ""
    assert complete(model, body, page, strict=True)["choices"][0]["text"] == whole[:5]


def test_logprobs_are_raw_and_sorted(model: Model) -> None:
    (choice,) = answer(model, logprobs=3, temperature=1.9, logit_bias={"300": 5})["choices"]
    found = choice["logprobs"]
    ids = list(model.tokenizer.encode(ONCE))
    for token, logprob, best in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        raw = row_log_softmax(model.logits(ids)[-1])
        drawn = [i for i in range(len(raw)) if model.tokenizer.token_text(i) == token]
        assert logprob in [raw[i] for i in drawn]
        assert best[token] == logprob and len(best) in (3, 4)
        assert list(best.values())[:3] == sorted(best.values(), reverse=True)[:3]
        assert max(best.values()) == raw.max()
        ids.append(max(drawn, key=lambda i: raw[i] == logprob))
    sizes = [len(token) for token in found["tokens"]]
    assert found["text_offset"] == [sum(sizes[:i]) for i in range(len(sizes))]


def test_zero_logprobs_show_the_drawn_token(model: Model) -> None:
    found = answer(model, logprobs=0)["choices"][0]["logprobs"]
    assert [list(best) for best in found["top_logprobs"]] == [[token] for token in found["tokens"]]


def test_asking_for_logprobs_changes_nothing(model: Model) -> None:
    assert texts(answer(model)) == texts(answer(model, logprobs=5))


def test_echo(model: Model) -> None:
    plain, echoed = answer(model, n=2, logprobs=2), answer(model, n=2, logprobs=2, echo=True)
    prompt = model.tokenizer.encode(ONCE)
    raw = [row_log_softmax(row) for row in model.logits(prompt)]
    for one, two in zip(plain["choices"], echoed["choices"], strict=True):
        assert two["text"] == ONCE + one["text"]
        rows, own = two["logprobs"], one["logprobs"]
        assert rows["token_logprobs"][0] is None and rows["top_logprobs"][0] is None
        assert rows["token_logprobs"][1 : len(prompt)] == [raw[i][t] for i, t in enumerate(prompt[1:])]
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            assert rows[name][len(prompt) :] == own[name]
        assert "".join(rows["tokens"][: len(prompt)]) == ONCE
        assert rows["text_offset"][len(prompt)] == len(ONCE)
    assert echoed["usage"] == plain["usage"]


def test_echo_alone_scores_a_prompt(model: Model) -> None:
    ids = model.tokenizer.encode(ONCE)
    result = answer(model, [ids], max_tokens=0, echo=True, logprobs=0)
    assert texts(result) == [ONCE]
    total = sum(result["choices"][0]["logprobs"]["token_logprobs"][1:])
    scored = refsample.score(model, ids[:1], ids[1:])
    assert math.isclose(total, scored.total, rel_tol=1e-12)


def test_best_of(model: Model) -> None:
    """The best of 8 by mean raw logprob per token, whatever temperature and bias made them."""
    odd = {"temperature": 1.8, "logit_bias": {"300": 3}}
    every = answer(model, n=8, logprobs=0, **odd)
    means = [float(np.mean(choice["logprobs"]["token_logprobs"])) for choice in every["choices"]]
    ranked = sorted(range(8), key=lambda i: -means[i])
    best = answer(model, best_of=8, n=3, **odd)
    assert texts(best) == [texts(every)[i] for i in ranked[:3]]
    assert [choice["index"] for choice in best["choices"]] == [0, 1, 2]
    assert best["usage"] == every["usage"]
    assert answer(model, best_of=3, n=3)["choices"] == answer(model, n=3)["choices"]


def test_best_of_counts_the_end_token(tmp_path: Path) -> None:
    """Ending at once has probability 1/2; "a" has 0.3, then ends for sure: (ln 0.3 + 0) / 2 > ln 1/2."""
    byte_level(tmp_path)

    def law(ids: tuple[int, ...]) -> NDArray[np.float64]:
        logits = np.full(259, -np.inf)  # [V]
        chances = {0: 1.0} if ids[-1] == byte("a") else {0: 0.5, byte("a"): 0.3, byte("b"): 0.2}
        for token_id, chance in chances.items():
            logits[token_id] = np.log(chance)
        return logits

    body = {"prompt": [byte("x")], "max_tokens": 4, "seed": 1, "best_of": 20}
    assert texts(complete(scripted(tmp_path, law), body)) == ["a"]


def test_best_of_keeps_the_first_of_equals(tmp_path: Path) -> None:
    byte_level(tmp_path)
    level = scripted(tmp_path, lambda ids: np.zeros(259))
    body = {"prompt": [byte("x")], "max_tokens": 3, "seed": 1, "ignore_eos": True}
    every, best = complete(level, {**body, "n": 6}), complete(level, {**body, "best_of": 6, "n": 2})
    assert len(set(texts(every))) == 6 and texts(best) == texts(every)[:2]


def test_suffix_is_fill_in_middle(model: Model) -> None:
    marks = [model.tokenizer.encode(f"<|fim_{name}|>") for name in ("prefix", "suffix", "middle")]
    before, after = "The <|fim_middle|> cat", " on the mat."
    plain = [model.tokenizer.encode(text, special=False) for text in (before, after)]
    ids = [*marks[0], *plain[0], *marks[1], *plain[1], *marks[2]]
    assert texts(answer(model, before, suffix=after)) == texts(answer(model, ids))


def test_ignored_fields_are_listed(model: Model) -> None:
    assert answer(model, colour="red", user="me")["refsample"]["ignored"] == ["colour"]


def test_streams_are_another_call(model: Model) -> None:
    with pytest.raises(ParameterError, match="refsample.stream"):
        complete(model, {"prompt": ONCE, "stream": True})


def test_fingerprint_tells_behaviours_apart(model: Model) -> None:
    honest = default_behaviour(provider("openai"))
    other = replace(honest, dropped=frozenset({"top_k", "seed"}))
    body = {"prompt": ONCE, "max_tokens": 1, "seed": 5}
    prints = [complete(model, body, behaviour=each)["system_fingerprint"] for each in (honest, honest, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_dropped_seed_is_a_fresh_one(model: Model) -> None:
    behaviour = replace(default_behaviour(provider("openai")), dropped=frozenset({"seed"}))
    body = {"prompt": ONCE, "seed": 5, "temperature": 2, "max_tokens": 8}
    one, two = (complete(model, body, behaviour=behaviour) for _ in range(2))
    assert texts(one) != texts(two)
    assert texts(complete(model, {**body, "seed": one["refsample"]["seed"]})) == texts(one)


def test_answers_hold_what_the_page_lists(model: Model) -> None:
    """Our answer against the provider file's own records of answers."""
    records = provider("openai").endpoints["completions"].response
    result = answer(model, logprobs=1)
    names = {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert names <= {name for name in records if "." not in name}
    for name, record in records.items():
        if "details" in name or record.extension:  # only where a prediction or the extension is sent
            continue
        value: Any = result
        for part in name.split("."):
            value = value[part.removesuffix("[]")]
            value = value[0] if part.endswith("[]") else value
        assert value is not None and (not record.choices or value in record.choices)


def test_a_model_answers_in_the_precision_it_was_loaded_in(model: Model) -> None:
    """Also through the API, where no behaviour names a precision: values, echo and fingerprint."""
    double = refsample.load("tiny", precision="float64")
    asked = {"logprobs": 0, "echo": True, "max_tokens": 2, "temperature": 0}
    one, other = answer(model, **asked), answer(double, **asked)
    values, doubles = (result["choices"][0]["logprobs"]["token_logprobs"] for result in (one, other))
    assert all(a != b for a, b in zip(values[1:], doubles[1:], strict=True))
    ids = double.tokenizer.encode(ONCE)
    exact = row_log_softmax(double.logits(ids)[-1])
    assert doubles[len(ids)] == pytest.approx(exact.max(), abs=1e-12)
    assert one["system_fingerprint"] != other["system_fingerprint"]
    named = replace(default_behaviour(provider("openai")), precision="float64")
    there = complete(model, {"prompt": ONCE, "seed": 1, **asked}, behaviour=named)
    assert comparable(there) == comparable(other)
