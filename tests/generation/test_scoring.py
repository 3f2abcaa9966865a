"""Many transcripts scored at once: each by the definition, as if it were alone, in bounded memory."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.errors import ContextLengthError, ParameterError
from refsample.generation import prefill, scoring
from refsample.generation.model import Model
from refsample.generation.scoring import Scored, Transcript, score, score_many, transcript
from refsample.model.transformer import Transformer
from refsample.sampling.logprobs import from_values
from refsample.sampling.semantics import resolve
from refsample_kernels.jit import jit_disabled
from refsample_kernels.softmax import log_softmax, row_log_softmax
from tests.factories import write_llama
from tests.generation.scripted import scripted, speaking
from tests.text.vocabularies import byte_level

few = settings(max_examples=2 if jit_disabled() else 25)
MOST, LONGEST = (4, 20) if jit_disabled() else (17, 60)


@cache
def model(kept: bool = False) -> Model:
    """With a prefix cache or without."""
    if kept:
        return refsample.load(model().folder)
    return refsample.load(write_llama(Path(mkdtemp(prefix="refsample-test-"))), prefix_cache=0)


@st.composite
def transcripts(draw: st.DrawFn) -> list[Transcript]:
    """Beginnings that are shared, in the prompt or beyond it; prompts of every length; whole texts; the same ones."""
    stems = [np.random.default_rng(n).integers(0, 268, LONGEST).tolist() for n in range(2)]
    made: list[Transcript] = []
    for _ in range(draw(st.integers(2, MOST))):
        head = stems[draw(st.integers(0, 1))][: draw(st.sampled_from([0, 1, 7, 17, 18, 40]))]
        rest = draw(st.lists(st.integers(0, 267), min_size=2, max_size=20))
        again = made and draw(st.integers(0, 3)) == 0
        ids = draw(st.sampled_from(made)).ids if again else (*head, *rest)
        made.append(Transcript(ids, draw(st.integers(1, len(ids) - 1))))
    return made


params = st.sampled_from(
    [None, {"temperature": 0.7, "top_k": 30}, {"presence_penalty": 0.9, "top_p": 0.8}, {"mirostat": 2}, {"min_p": 0.1}]
)


@few
@given(transcripts(), params, st.sampled_from([0, 3]), st.data())
def test_each_gets_what_it_gets_alone(
    items: list[Transcript], asked: dict[str, Any] | None, top: int, data: st.DataObject
) -> None:
    """Whole, in random parts, over kept prefixes, in waves of any size."""
    alone = [next(score_many(model(), [item], asked, top=top)) for item in items]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefill, "PREFILL_TOKENS", data.draw(st.sampled_from([1, 3, 16, 2048])))
        patch.setattr(prefill, "LOGITS_BYTES", data.draw(st.sampled_from([1, 5000, 1 << 26])))
        patch.setattr(scoring, "CACHE_BYTES", data.draw(st.sampled_from([1, 20_000, 1 << 28])))
        for kept in (False, True, True):
            assert list(score_many(model(kept), items, asked, top=top)) == alone


@few
@given(transcripts(), params, st.sampled_from(["reference", "vllm", "llamacpp"]))
def test_the_numbers_are_those_of_the_definition(
    items: list[Transcript], asked: dict[str, Any] | None, engine: str
) -> None:
    semantics = resolve(engine)
    if asked and "mirostat" in asked:
        asked = None  # not every engine has it
    for item, found in zip(items, score_many(model(), items, asked, engine, top=4), strict=True):
        rows = model().logits(item.ids)
        for t, token in enumerate(found.tokens, item.start):
            law = refsample.distribution(rows[t - 1], asked, item.ids[: item.start], item.ids[item.start : t], engine)
            facts = from_values(law.raw_logprobs, item.ids[t], 4, semantics)
            assert (token.token_id, token.raw_logprob, token.rank) == (item.ids[t], facts.logprob, facts.rank)
            assert token.top == facts.top and token.in_support == law.support[item.ids[t]]
            if asked is None:
                assert token.logprob == token.raw_logprob
            else:
                assert token.logprob == pytest.approx(log_softmax(law.final)[item.ids[t]], abs=0.0)
            shares = np.exp(law.raw_logprobs)
            assert token.entropy == pytest.approx(-(shares * law.raw_logprobs).sum(), rel=1e-12)
        assert len(found.tokens) == len(item.ids) - item.start


@pytest.mark.slow
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what goes in and comes out of each pass, and by the caches that are alive."""
    seen: list[tuple[int, int]] = []
    forward = Transformer.forward

    def watched(self: Transformer, segments: Any, rows: Any = "last") -> Any:
        found = forward(self, segments, rows)
        seen.append((sum(len(ids) for ids, _ in segments), sum(block.nbytes for block in found)))
        alive.append(sum(cache.length for _, cache in segments))
        return found

    alive: list[int] = []
    monkeypatch.setattr(Transformer, "forward", watched)
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 64)
    monkeypatch.setattr(prefill, "LOGITS_BYTES", 20 * 272 * 4)
    monkeypatch.setattr(scoring, "CACHE_BYTES", 300 * 512)
    rng = np.random.default_rng(0)
    items = [Transcript(tuple(rng.integers(0, 268, 100).tolist()), int(rng.integers(1, 99))) for _ in range(9)]
    told: list[int] = []
    assert len(list(score_many(model(), items, progress=told.append))) == 9
    assert max(tokens for tokens, _ in seen) == 64 and max(size for _, size in seen) == 20 * 272 * 4
    assert max(alive) <= 300
    assert sum(told) == sum(len(item.ids) - item.start for item in items)


def test_what_items_share_is_computed_once(tmp_path: Path) -> None:
    byte_level(tmp_path)
    seen: list[int] = []

    def law(ids: tuple[int, ...]) -> Any:
        seen.append(len(ids))
        return speaking("b", 1)(ids)

    question = "Which animal says meow at night? "
    items = [(question, answer) for answer in ("A cat", "A dog", "An owl", "A cat.")]
    found = list(score_many(scripted(tmp_path, law), items))
    assert len(seen) == len(question + "A") + len(" ca") + len(" do") + len("n ow") + len(" cat")
    assert found == [score(scripted(tmp_path, law), *item) for item in items]


def test_whole_texts(tmp_path: Path) -> None:
    one = model()
    whole = score(one, "", "the cat")
    ids = one.tokenizer.encode("the cat")
    assert whole == score(one, None, ids) == score(one, ids[:1], ids[1:])
    assert [token.token_id for token in whole.tokens] == list(ids[1:])
    with pytest.raises(ParameterError, match="prompt=.*at least one token, or the completion at least two"):
        score(one, None, [5])


def test_sums() -> None:
    found = score(model(), "the", " cat and", {"temperature": 0.5}, top=2)
    count = len(found.tokens)
    assert found.perplexity == pytest.approx(math.exp(-found.raw_total / count))
    assert found.entropy == pytest.approx(sum(token.entropy for token in found.tokens) / count)
    assert all(len(token.top) == 2 for token in found.tokens)
    never = Scored((*found.tokens, scoring.ScoredToken(1, "", -math.inf, -math.inf, 9, False, 0.0)))
    assert never.perplexity == math.inf


def test_errors_name_the_item() -> None:
    one = model()
    for items, said in (
        ([("a", "b"), ("a", "")], r"items\[1\]\.completion=.*at least one token"),
        ([("a", [268, 999])], r"items\[0\]\.completion=999"),
        ([([999], "b")], r"items\[0\]\.prompt=999"),
        (["ab"], r"items\[0\]='ab': must be a pair"),
        ([("a",)], r"items\[0\].*must be a pair"),
    ):
        with pytest.raises(ParameterError, match=said):
            score_many(one, items)  # type: ignore[arg-type]
    with pytest.raises(ContextLengthError, match=r"items\[0\]\.completion: 200 \+ 100 tokens exceed"):
        score_many(one, [([5] * 200, [6] * 100)])
    with pytest.raises(ParameterError, match="top=-1"):
        score_many(one, [], top=-1)
    with pytest.raises(ParameterError, match="logit_bias=272"):
        score_many(one, [], {"logit_bias": {272: 1.0}})
    with pytest.raises(ParameterError, match="line 3: completion"):
        transcript(one, "a", "", "line 3: ")
    assert list(score_many(one, [])) == []


def test_a_row_that_is_no_law_is_refused(tmp_path: Path) -> None:
    byte_level(tmp_path)
    with pytest.raises(ParameterError, match="logits"):
        score(scripted(tmp_path, lambda ids: np.full(259, np.nan)), "a", "b")


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_angles_that_go_by_the_length_go_by_the_declared_one(kind: str, tmp_path: Path) -> None:
    """A text of prompt and answer scores as it was written, in parts as at once, with nothing kept between prompts."""
    scaled = {"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 16}
    if kind == "longrope":
        scaled |= {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 4.0, 8.0]}
    else:
        del scaled["original_max_position_embeddings"]
    context = 16 if kind == "dynamic" else 64
    model = refsample.load(write_llama(tmp_path, rope=scaled, max_position=context, eos=[]))
    prompt = list(range(40, 52))
    for count in (3, 4, 5, 20):  # 16 tokens are the original context
        written = model.generate(prompt, max_tokens=count, seed=3, logprobs=0, temperature=1.0)
        scored = refsample.score(model, prompt, list(written.token_ids))
        assert [one.raw_logprob for one in scored.tokens] == [one.logprob for one in written.logprobs]
        rows = model.logits([*prompt, *written.token_ids])[len(prompt) - 1 : -1]
        found = [float(row_log_softmax(row)[i]) for row, i in zip(rows, written.token_ids, strict=True)]
        assert found == [one.raw_logprob for one in scored.tokens]
        beside = list(refsample.score_many(model, [(prompt, list(written.token_ids)), (prompt[:9], [5, 6])]))
        assert beside[0] == scored
    short, long = (model.generate(prompt, max_tokens=n, seed=3, logprobs=0) for n in (4, 30))
    assert short.logprobs[0] != long.logprobs[0]
    assert model.prefixes.held == 0
