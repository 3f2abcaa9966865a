"""Model.generate and score on a model with chosen logits: prompts in all forms, names of parameters, results."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from refsample.errors import ContextLengthError, ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.model import Model, parameters
from refsample.generation.scoring import prompt_logprobs, score
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution
from refsample.sampling.semantics import resolve
from tests.generation.scripted import ScriptedTransformer, byte, scripted, speaking, wandering
from tests.text.vocabularies import byte_level

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    byte_level(path)
    named = [{"name": "default", "template": TEMPLATE}, {"name": "bare", "template": "{{ messages[0].content }}"}]
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return scripted(folder, wandering())


def test_prompts_in_all_forms(model: Model) -> None:
    assert model.prompt_ids("a<|user|>") == (byte("a"), 1)
    assert model.prompt_ids([5, 6]) == (5, 6)
    assert model.prompt_ids(np.array([5, 6])) == (5, 6)  # type: ignore[arg-type]
    talk = [{"role": "user", "content": "b"}]
    assert model.prompt_ids(talk) == (1, byte("b"), 2)
    assert model.prompt_ids(talk, "bare") == (byte("b"),)
    with pytest.raises(ParameterError, match="templates: bare, default"):
        model.prompt_ids(talk, "none")
    for nothing in ([], ""):
        with pytest.raises(ParameterError, match="prompt=.*at least one token"):
            model.prompt_ids(nothing)
        with pytest.raises(ParameterError, match="prompt=.*at least one token"):
            score(model, nothing, "a")
    with pytest.raises(ParameterError, match="messages=.*at least one token"):
        model.prompt_ids([{"role": "user", "content": ""}], "bare")
    with pytest.raises(ContextLengthError, match="prompt: 65 tokens exceed the context of 64 tokens"):
        model.prompt_ids("a" * 65)
    with pytest.raises(ParameterError, match="token ids or messages"):
        model.prompt_ids(7)  # type: ignore[arg-type]


def test_a_model_without_template_refuses_messages(tmp_path: Path) -> None:
    byte_level(tmp_path)
    with pytest.raises(ParameterError, match="no chat template"):
        scripted(tmp_path, wandering()).generate([{"role": "user", "content": "b"}])


def test_logits_of_all_positions(model: Model) -> None:
    rows = model.logits([7, 8, 9])
    assert rows.shape == (3, 259) and rows.dtype == np.float32
    assert np.array_equal(rows[:2], model.logits([7, 8]))
    with pytest.raises(ParameterError, match="ids=259"):
        model.logits([259])


def test_completion(model: Model) -> None:
    done = model.generate("ab", max_tokens=12, n=3, seed=2, logprobs=2, temperature=0.9)
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert done.prompt_ids == (byte("a"), byte("b")) and done.seed == 2
    sampled = sum(len(choice.token_ids) for choice in done.choices)
    assert done.usage == {"prompt_tokens": 2, "completion_tokens": sampled, "total_tokens": 2 + sampled}
    for choice in done.choices:
        assert len(choice.tokens) == len(choice.logprobs) == len(choice.token_ids)
        assert choice.text == model.tokenizer.decode(choice.token_ids, skip_special=True)
    assert model.generate("ab", max_tokens=12, seed=2, temperature=0.9).token_ids == done.token_ids
    assert done.choices[0].logprobs[0].top[0][1] >= done.choices[0].logprobs[0].top[1][1]


def test_stream_is_the_same_text(model: Model) -> None:
    options = {"max_tokens": 20, "seed": 6, "stop": ("q",)}
    done = model.generate("ab", **options)
    events = model.generate("ab", stream=True, **options)
    assert "".join(event.text for event in events) == done.text
    assert events.seed == done.seed == 6


def test_no_tokens(model: Model) -> None:
    done = model.generate("ab", max_tokens=0)
    assert (done.text, done.token_ids, done.finish_reason) == ("", (), "length")


def test_engine_and_behaviour_decide(folder: Path) -> None:
    model = scripted(folder, speaking("hello", 1))
    kept = Behaviour(semantics=resolve("reference"), include_stop=True)
    assert model.generate("a", behaviour=kept, stop="ll", temperature=0.0).text == "hell"
    assert model.generate("a", engine="vllm", stop="ll", temperature=0.0).text == "he"


def test_plain_data_and_notebook(model: Model) -> None:
    done = model.generate("ab", max_tokens=3, seed=2, logprobs=1, top_k=1, ignore_eos=True)
    plain = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert plain["token_ids"] == list(done.token_ids) and plain["logprobs"][0]["rank"] == done.logprobs[0].rank
    page = done._repr_html_()
    assert page.count("<span") == 3 and "rank" in page
    assert "rank" not in model.generate("ab", max_tokens=3, seed=2)._repr_html_()


def test_minus_infinity_is_null_in_plain_data(model: Model) -> None:
    cut = Behaviour(semantics=resolve("reference", {"logprob_stage": "post_truncation"}))
    done = model.generate("ab", behaviour=cut, max_tokens=1, seed=2, logprobs=2, top_k=1)
    assert done.logprobs[0].top[1][1] == -math.inf
    assert json.loads(json.dumps(done.to_dict(), allow_nan=False))["logprobs"][0]["top"][1][1] is None


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="tempurature=1: no such parameter; did you mean temperature?"):
        parameters({"tempurature": 1})
    with pytest.raises(ParameterError, match=r"zzz=1: no such parameter \(rule"):
        parameters({"zzz": 1})
    assert parameters({"top_k": 3, "n": 2}).sampling.top_k == 3


def test_score_is_teacher_forcing(model: Model) -> None:
    params = SamplingParams(temperature=0.5, top_k=100, frequency_penalty=0.5)
    scored = score(model, "ab", "cdc", params)
    ids = tuple(byte(c) for c in "abcdc")
    rows = model.logits(ids)
    for t, token in enumerate(scored.tokens):
        law = distribution(rows[1 + t], params, ids[:2], ids[2 : 2 + t])
        assert token.token_id == ids[2 + t] and token.text == "cdc"[t]
        assert token.raw_logprob == law.raw_logprobs[ids[2 + t]]
        assert token.in_support == (law.final[ids[2 + t]] > -math.inf)
        chance = law.probs[ids[2 + t]]
        assert token.logprob == (pytest.approx(math.log(chance), rel=1e-12) if chance else -math.inf)
        assert token.rank == 1 + np.count_nonzero(law.raw_logprobs > token.raw_logprob)
    assert scored.raw_total == math.fsum(token.raw_logprob for token in scored.tokens)


def test_score_of_what_was_drawn_is_in_support(model: Model) -> None:
    options = {"temperature": 0.7, "top_p": 0.6, "repetition_penalty": 1.3}
    done = model.generate("ab", seed=1, max_tokens=20, logprobs=0, **options)
    scored = score(model, "ab", done.token_ids, options)
    assert all(token.in_support for token in scored.tokens)
    assert [token.raw_logprob for token in scored.tokens] == [facts.logprob for facts in done.logprobs]
    assert scored.per_token == pytest.approx(scored.total / len(done.token_ids))


def test_score_outside_the_support(model: Model) -> None:
    worst = int(np.argmin(model.logits([7])[0]))
    scored = score(model, [7], [worst], {"top_k": 1})
    assert (scored.tokens[0].in_support, scored.total) == (False, -math.inf)
    assert scored.raw_total > -math.inf
    assert score(model, [7], [worst]).total == pytest.approx(scored.raw_total)


def test_score_of_what_is_too_unlikely_for_a_float(folder: Path) -> None:
    """At T = 0.01 the others lie 6000 nats below: no float64 holds their probability, yet nothing was cut."""
    scored = score(scripted(folder, speaking("b", 1)), "a", "c", {"temperature": 0.01})
    assert scored.tokens[0].in_support
    assert scored.total == pytest.approx(-6000.0)


def test_score_in_parts(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(model, "abcde", "fghij"), prompt_logprobs(model, [7, 8, 9, 10, 11, 12], 1, resolve("reference"))
    monkeypatch.setattr("refsample.generation.prefill.PREFILL_TOKENS", 2)
    parts = score(model, "abcde", "fghij"), prompt_logprobs(model, [7, 8, 9, 10, 11, 12], 1, resolve("reference"))
    assert parts == whole


def test_score_refuses(model: Model) -> None:
    for completion in ("", []):
        with pytest.raises(ParameterError, match="completion=.*at least one token"):
            score(model, "ab", completion)
    with pytest.raises(ContextLengthError, match=r"2 \+ 63 tokens exceed"):
        score(model, "ab", "c" * 63)
    assert len(score(model, "ab", "c" * 62).tokens) == 62
    with pytest.raises(ParameterError, match="max_tokens=3: no such parameter"):
        score(model, "ab", "c", {"max_tokens": 3})
    with pytest.raises(ParameterError, match="params=3"):
        score(model, "ab", "c", 3)  # type: ignore[arg-type]


def test_prompt_logprobs(model: Model) -> None:
    facts = prompt_logprobs(model, [7, 8, 9], 2, resolve("reference"))
    assert facts[0] is None
    rows = model.logits([7, 8]).astype(np.float64)
    for t, fact in enumerate(facts[1:]):
        assert fact is not None and fact.token_id == 8 + t and len(fact.top) == 2
        shifted = rows[t] - rows[t].max()
        assert fact.logprob == pytest.approx(shifted[8 + t] - math.log(np.exp(shifted).sum()), abs=1e-12)
    assert prompt_logprobs(model, [7], 2, resolve("reference")) == (None,)


def test_a_precision_is_prepared_once_by_many_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prepared = scripted(folder, wandering()), []

    def slow(self: ScriptedTransformer, name: str) -> ScriptedTransformer:
        prepared.append(name)
        Event().wait(0.05)
        return ScriptedTransformer(self.law, self.config, name)

    monkeypatch.setattr(ScriptedTransformer, "with_precision", slow)
    with ThreadPoolExecutor(4) as pool:
        found = set(map(id, pool.map(model.transformer_for, ["bf16"] * 4)))
    assert len(found) == 1 and prepared == ["bf16"]
