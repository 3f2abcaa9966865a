"""The promise on real weights: one choice is the same bit for bit however it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import refsample
from refsample.generation.behaviour import Behaviour
from refsample.generation.decode import generate_events
from refsample.generation.model import Model
from refsample.generation.scoring import score
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.sampling.params import SamplingParams
from refsample.sampling.semantics import resolve
from refsample_kernels.jit import set_threads, threads

HONEST = Behaviour(semantics=resolve("reference"))
PROMPTS = ("Once upon a time", "<|user|>Name an animal.<|endoftext|><|assistant|>", "é\U0001f642 1 + 2 =")
SAMPLING = SamplingParams(temperature=1.3, top_p=0.98, min_p=1e-4, presence_penalty=0.2, repetition_penalty=1.1)
COMMON = GenerationParams(sampling=SAMPLING, seed=21, max_tokens=12, logprobs=4, ignore_eos=True)


@pytest.fixture(scope="module")
def model() -> Model:
    return refsample.load("tiny")


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts the number of threads back."""
    before = threads()
    yield
    set_threads(before)


def choice(model: Model, prompts: Sequence[str], place: int, index: int = 0, **changed: object) -> list[TokenEvent]:
    """Events of one choice, as if it were the only one."""
    ids = [model.prompt_ids(prompt) for prompt in prompts]
    events = generate_events(model, ids, replace(COMMON, **changed), HONEST)  # type: ignore[arg-type]
    return [replace(e, prompt_index=0) for e in events if (e.prompt_index, e.choice) == (place, index)]


@pytest.mark.parametrize("place", range(len(PROMPTS)))
def test_events_are_the_same_bit_for_bit(model: Model, place: int, restored: None) -> None:
    prompt = PROMPTS[place]
    alone = choice(model, [prompt], 0)
    assert len(alone) == 12
    assert choice(model, [prompt], 0, n=4) == alone
    assert choice(model, PROMPTS, place, n=2) == alone
    third = [replace(event, choice=0) for event in choice(model, PROMPTS, place, index=3, n=5, seed=18)]
    assert third == alone
    set_threads(1)
    assert choice(model, PROMPTS, place, n=3) == alone


def test_stream_and_whole_agree(model: Model) -> None:
    options = {"seed": 3, "max_tokens": 40, "temperature": 1.5, "stop": (" the", "\n")}
    done = model.generate(PROMPTS[0], **options)
    events = list(model.generate(PROMPTS[0], stream=True, **options))
    assert "".join(event.text for event in events) == done.text
    assert tuple(event.token_id for event in events) == done.token_ids
    assert (events[-1].finish_reason, events[-1].stop_reason) == (done.finish_reason, done.stop_reason)


def test_text_is_the_decoded_ids(model: Model) -> None:
    """Very hot sampling: fragments of characters and marks of all kinds occur."""
    for seed in range(6):
        done = model.generate("a", seed=seed, max_tokens=60, temperature=20.0, ignore_eos=True)
        assert done.text == model.tokenizer.decode(done.token_ids, skip_special=True)


def test_scoring_repeats_the_logprobs_of_generation(model: Model) -> None:
    done = model.generate("Once", seed=5, max_tokens=30, logprobs=0, temperature=0.9)
    scored = score(model, "Once", done.token_ids, {"temperature": 0.9})
    assert [token.raw_logprob for token in scored.tokens] == [facts.logprob for facts in done.logprobs]
    assert all(token.in_support for token in scored.tokens)


def test_logits_of_a_text_are_those_of_its_steps(model: Model) -> None:
    ids = model.tokenizer.encode(PROMPTS[0])
    rows = model.logits(ids)
    assert rows.shape == (len(ids), model.config.vocab_size) and rows.dtype == np.float32
    cache = model.transformer.new_cache()
    steps = [model.transformer.forward([([token_id], cache)])[0][0] for token_id in ids]
    assert np.array_equal(rows, np.stack(steps))


def test_precisions_are_prepared_once_and_differ(model: Model) -> None:
    rough = model.transformer_for("int4-g32")
    assert model.transformer_for("int4-g32") is rough
    assert model.transformer_for("float32") is model.transformer
    ids = [model.prompt_ids(PROMPTS[0])]
    asked = replace(COMMON, max_tokens=1)
    values = {
        precision: next(generate_events(model, ids, asked, replace(HONEST, precision=precision))).logprobs
        for precision in ("float32", "int4-g32", "float64")
    }
    exact, quantised, double = (
        dict(facts.top) for facts in (values["float32"], values["int4-g32"], values["float64"]) if facts is not None
    )
    shared = exact.keys() & double.keys()
    assert shared and max(abs(exact[i] - double[i]) for i in shared) < 1e-4
    assert exact != quantised


def test_threads_of_python_do_not_disturb_each_other(model: Model) -> None:
    jobs = [(prompt, seed) for prompt in PROMPTS for seed in (1, 2)]

    def write(job: tuple[str, int]) -> tuple[int, ...]:
        return model.generate(job[0], seed=job[1], max_tokens=10, temperature=1.2).token_ids

    expected = [write(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, jobs)) == expected
