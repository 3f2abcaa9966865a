"""The decoding loop on a model with chosen logits: ends, usage, seeds, sharing, and what may never change a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsample.errors import ContextLengthError, ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.decode import generate_events
from refsample.generation.model import Model
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.sampling import quick
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution, draw
from refsample.sampling.rng import uniform
from refsample.sampling.semantics import resolve
from tests.generation.scripted import ScriptedTransformer, byte, scripted, speaking, wandering
from tests.text.vocabularies import byte_level

HONEST = Behaviour(semantics=resolve("reference"))
PROMPT = (byte("a"), byte("b"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("decode")
    byte_level(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return scripted(folder, wandering())


def run(
    model: Model, prompts: Sequence[Sequence[int]], behaviour: Behaviour = HONEST, **params: object
) -> dict[tuple[int, int], list[TokenEvent]]:
    """Events by (prompt, choice)."""
    found: dict[tuple[int, int], list[TokenEvent]] = {}
    for event in generate_events(model, prompts, GenerationParams(**params), behaviour):  # type: ignore[arg-type]
        found.setdefault((event.prompt_index, event.choice), []).append(event)
    return found


def ids_of(events: list[TokenEvent]) -> list[int]:
    return [event.token_id for event in events]


def text_of(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events)


# One line a case: what the model says, parameters, text, tokens sampled, finish_reason, stop_reason.
ENDS = [
    ("hi é.", {}, "hi é.", 7, "stop", None),
    ("hi é.", {"max_tokens": 3}, "hi ", 3, "length", None),
    ("hi é.", {"max_tokens": 7}, "hi é.", 7, "stop", None),
    ("hi é.", {"max_tokens": 6}, "hi é.", 6, "length", None),
    ("hi é.", {"max_tokens": 4}, "hi \ufffd", 4, "length", None),
    ("hi é.", {"stop": (" é",)}, "hi", 5, "stop", " é"),
    ("hi é.", {"stop": (" é",), "include_stop": True}, "hi é", 5, "stop", " é"),
    ("hi é.", {"stop": (" é",), "max_tokens": 5}, "hi", 5, "stop", " é"),
    ("hi é.", {"stop_token_ids": (byte("i"),)}, "h", 2, "stop", byte("i")),
    ("hi é.", {"stop_token_ids": (byte("i"),), "include_stop": True}, "hi", 2, "stop", byte("i")),
    ("hi é.", {"ignore_eos": True, "max_tokens": 9}, "hi é.", 9, "length", None),
    ("hi", {"min_tokens": 2, "max_tokens": 3, "stop": ("i",)}, "hi", 3, "stop", None),
    ("hi", {"min_tokens": 1, "stop": ("hi",)}, "", 2, "stop", "hi"),
]


@pytest.mark.parametrize(("said", "params", "text", "count", "finish", "stop"), ENDS)
def test_ends(
    folder: Path, said: str, params: dict[str, object], text: str, count: int, finish: str, stop: object
) -> None:
    greedy = SamplingParams(temperature=0.0)
    events = run(scripted(folder, speaking(said, 2)), [PROMPT], sampling=greedy, **params)[0, 0]
    assert (text_of(events), len(events)) == (text, count)
    assert (events[-1].finish_reason, events[-1].stop_reason) == (finish, stop)
    assert [event.step for event in events] == list(range(count))
    assert all(event.finish_reason is None for event in events[:-1])


def test_min_tokens_masks_end_and_stop_ids(folder: Path) -> None:
    model = scripted(folder, speaking("", 2))
    greedy = SamplingParams(temperature=0.0)
    events = run(model, [PROMPT], sampling=greedy, min_tokens=3, stop_token_ids=(1,))[0, 0]
    # With end and stop id masked all other logits are 0: the lowest id that is left is 2.
    assert ids_of(events) == [2, 2, 2, 0]
    assert events[-1].finish_reason == "stop"


def test_min_tokens_masks_end_ids_that_are_ignored(folder: Path) -> None:
    """An end id that would not end the text is no token to begin it with either (decision 21)."""
    model = scripted(folder, speaking("", 2))
    greedy = SamplingParams(temperature=0.0)
    events = run(model, [PROMPT], sampling=greedy, min_tokens=3, max_tokens=5, ignore_eos=True)
    assert ids_of(events[0, 0]) == [1, 1, 1, 0, 0]


def test_the_token_is_the_samplers(model: Model) -> None:
    """Each token is draw(law of its own history, uniform(seed, choice, step)) and nothing else."""
    sampling = SamplingParams(temperature=0.8, top_k=50, repetition_penalty=1.2, presence_penalty=0.3)
    for choice, events in run(model, [PROMPT], sampling=sampling, seed=7, n=2, max_tokens=12).items():
        output: list[int] = []
        for event in events:
            (row,) = model.transformer.forward([((*PROMPT, *output), model.transformer.new_cache())])
            law = distribution(row[0], sampling, PROMPT, output)
            assert event.token_id == draw(law.probs, uniform(7, choice[1], event.step))
            output.append(event.token_id)


SAMPLING = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
    top_p=st.sampled_from([0.5, 1.0]),
    top_k=st.sampled_from([0, 5]),
    frequency_penalty=st.sampled_from([0.0, 1.5]),
)
IDS = st.lists(st.integers(0, 258), min_size=1, max_size=6).map(tuple)


@settings(max_examples=25)
@given(IDS, st.lists(IDS, max_size=3), SAMPLING, st.integers(0, 1 << 63), st.integers(1, 4))
def test_nothing_beside_it_changes_a_choice(
    model: Model, prompt: tuple[int, ...], others: list[tuple[int, ...]], sampling: SamplingParams, seed: int, n: int
) -> None:
    """Alone, with other choices, with other prompts, with logprobs, with stops that do not occur: the same events."""
    common = {"sampling": sampling, "seed": seed, "max_tokens": 10}
    alone = run(model, [prompt], **common)[0, 0]
    assert run(model, [prompt], n=n, **common)[0, 0] == alone
    among = run(model, [*others, prompt], n=n, **common)[len(others), 0]
    assert [replace(event, prompt_index=0) for event in among] == alone
    asked = run(model, [prompt], logprobs=2, **common)[0, 0]
    assert [replace(event, logprobs=None) for event in asked] == alone
    assert all(event.logprobs is not None and event.logprobs.token_id == event.token_id for event in asked)
    unstopped = run(model, [prompt], stop=("\x00\x01\x02",), **common)[0, 0]
    assert (ids_of(unstopped), text_of(unstopped)) == (ids_of(alone), text_of(alone))


def test_choice_i_is_seed_plus_i(model: Model) -> None:
    four = run(model, [PROMPT], n=4, seed=11, max_tokens=9)
    for choice in range(4):
        alone = run(model, [PROMPT], seed=11 + choice, max_tokens=9)[0, 0]
        assert ids_of(four[0, choice]) == ids_of(alone)
    assert len({tuple(ids_of(events)) for events in four.values()}) > 1


def test_seed_rules_of_engines(model: Model) -> None:
    identical = replace(HONEST, semantics=resolve("reference", {"seed_rule": "identical"}))
    texts = run(model, [PROMPT], identical, n=3, seed=11, max_tokens=9)
    assert {tuple(ids_of(events)) for events in texts.values()} == {tuple(ids_of(texts[0, 0]))}
    ignored = replace(HONEST, semantics=resolve("reference", {"seed_rule": "ignored"}))
    assert generate_events(model, [PROMPT], GenerationParams(seed=11), ignored).seed != 11


def test_a_seed_that_was_not_given_replays(model: Model) -> None:
    first = generate_events(model, [PROMPT], GenerationParams(max_tokens=12), HONEST)
    events = list(first)
    assert list(generate_events(model, [PROMPT], GenerationParams(max_tokens=12, seed=first.seed), HONEST)) == events


def test_seed_minus_one_is_no_seed(model: Model) -> None:
    """As the API takes it: a fresh one, the same through both doors."""
    assert GenerationParams(seed=-1).seed is None
    seeds = {generate_events(model, [PROMPT], GenerationParams(seed=-1), HONEST).seed for _ in range(2)}
    assert len(seeds) == 2 and -1 not in seeds


def transformer(model: Model) -> ScriptedTransformer:
    assert isinstance(model.transformer, ScriptedTransformer)
    return model.transformer


def test_one_token_of_many_choices_is_one_prefill(folder: Path) -> None:
    model = scripted(folder, wandering())
    events = run(model, [PROMPT, (byte("c"),)], n=200, max_tokens=1, seed=1)
    assert len(events) == 400
    assert transformer(model).calls == [2]
    assert [cache.forks for cache in transformer(model).caches] == [[], []]


def test_law_of_one_token_draws(model: Model) -> None:
    """Pearson's statistic of 20000 first tokens over 20 classes; false alarm 1e-6 by design, the seed is fixed."""
    count = 20_000
    drawn = run(model, [PROMPT], n=count, max_tokens=1, seed=5)
    (row,) = model.transformer.forward([(PROMPT, model.transformer.new_cache())])
    probs = distribution(row[0], SamplingParams()).probs  # [V]
    classes = np.arange(probs.size) % 20
    expected = np.bincount(classes, probs) * count
    observed = np.bincount([classes[events[0].token_id] for events in drawn.values()], minlength=20)
    assert (
        (observed - expected) ** 2 / expected
    ).sum() < 63.68  # the 1 - 1e-6 quantile of chi-square with 19 degrees of freedom


def test_prefill_is_shared_and_ended_choices_leave(folder: Path) -> None:
    model = scripted(folder, wandering(end=4.0))
    events = run(model, [PROMPT], n=5, max_tokens=20, seed=3)
    lengths = [len(events[0, choice]) for choice in range(5)]
    calls = transformer(model).calls
    assert len(set(lengths)) > 1
    assert calls[0] == 1 and calls[1:] == sorted(calls[1:], reverse=True)
    assert sum(calls[1:]) == sum(lengths) - 5
    assert len(transformer(model).caches) == 1


def test_long_lists_of_prompts_are_prefilled_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refsample.generation.prefill.PREFILL_TOKENS", 5)
    model = scripted(folder, wandering())
    prompts = [PROMPT, PROMPT[::-1]] * 2 + [PROMPT * 4]
    parts = run(model, prompts, max_tokens=1, seed=2)
    assert transformer(model).calls == [2, 2, 1, 1]  # the last prompt is longer than a part
    assert ids_of(parts[4, 0]) == ids_of(run(scripted(folder, wandering()), prompts[4:], max_tokens=1, seed=2)[0, 0])
    firsts = [parts[p, 0][0].token_id for p in range(4)]
    assert firsts[:2] == firsts[2:]


def test_closing_stops_the_work(folder: Path) -> None:
    model = scripted(folder, speaking("x" * 40, 2))
    events = generate_events(model, [PROMPT], GenerationParams(seed=1), HONEST)
    assert transformer(model).calls == []
    for _ in range(3):
        next(events)
    events.close()
    assert list(events) == []
    assert len(transformer(model).calls) == 3


def test_no_tokens_asked_no_events(model: Model) -> None:
    assert run(model, [PROMPT], max_tokens=0) == {}


def test_dropped_parameters_do_not_act(folder: Path) -> None:
    model = scripted(folder, wandering())
    asked = SamplingParams(temperature=0.2, top_k=3, logit_bias={65: 5.0})
    faulty = replace(HONEST, dropped=frozenset({"temperature", "logit_bias"}))
    without = run(model, [PROMPT], sampling=SamplingParams(top_k=3), seed=4, max_tokens=9)
    assert run(model, [PROMPT], faulty, sampling=asked, seed=4, max_tokens=9) == without
    no_stop = replace(HONEST, dropped=frozenset({"stop"}))
    speaker = scripted(folder, speaking("stop it", 2))
    greedy = SamplingParams(temperature=0.0)
    assert text_of(run(speaker, [PROMPT], no_stop, sampling=greedy, stop=("op",))[0, 0]) == "stop it"
    no_seed = replace(HONEST, dropped=frozenset({"seed"}))
    assert generate_events(model, [PROMPT], GenerationParams(seed=4), no_seed).seed != 4
    with pytest.raises(ParameterError, match="dropped='colour'"):
        run(model, [PROMPT], replace(HONEST, dropped=frozenset({"colour"})))


def test_a_behaviour_keeps_the_stop_and_changes_the_precision(folder: Path) -> None:
    model = scripted(folder, speaking("stop it", 2))
    greedy = SamplingParams(temperature=0.0)
    kept = run(model, [PROMPT], replace(HONEST, include_stop=True), sampling=greedy, stop=("op",))[0, 0]
    assert text_of(kept) == "stop"
    other = replace(HONEST, precision="float64")  # the scripted model negates its logits there
    assert run(model, [PROMPT], other, sampling=greedy, max_tokens=1)[0, 0][0].token_id != byte("s")


def test_logprobs_are_read_at_the_engines_stage(model: Model) -> None:
    sampling = SamplingParams(temperature=0.5, top_k=4)
    (row,) = model.transformer.forward([(PROMPT, model.transformer.new_cache())])
    law = distribution(row[0], sampling, PROMPT)
    for stage in ("raw", "post_temperature", "post_truncation"):
        behaviour = replace(HONEST, semantics=resolve("reference", {"logprob_stage": stage}))
        facts = run(model, [PROMPT], behaviour, sampling=sampling, seed=1, max_tokens=1, logprobs=3)[0, 0][0].logprobs
        assert facts is not None
        values = law.logprobs(stage)
        assert facts.logprob == values[facts.token_id]
        assert [i for i, _ in facts.top] == np.argsort(-values, kind="stable")[:3].tolist()


def test_bad_requests_fail_before_any_work(folder: Path) -> None:
    model = scripted(folder, wandering(), max_position=16)
    for prompts, params, error in [
        ([()], {}, "prompt=.*at least one token"),
        ([(1, 259)], {}, r"prompt=259: token ids lie in \[0, 259\)"),
        ([(-1,)], {}, "prompt=-1"),
        ([(True,)], {}, "prompt=True: must be an integer"),
        ([(1.0,)], {}, "must be an integer"),
        (["ab"], {}, "must be text, token ids or messages"),
        ([PROMPT], {"sampling": SamplingParams(logit_bias={259: 1.0})}, r"logit_bias=259: token ids lie in"),
        ([PROMPT], {"sampling": SamplingParams(allowed_token_ids=(300,))}, "allowed_token_ids=300"),
        ([PROMPT], {"sampling": SamplingParams(banned_token_ids=(300,))}, "banned_token_ids=300"),
        ([PROMPT], {"stop_token_ids": (300,)}, "stop_token_ids=300"),
    ]:
        with pytest.raises(ParameterError, match=error):
            generate_events(model, prompts, GenerationParams(**params), HONEST)  # type: ignore[arg-type]
    for prompt, wanted in ((PROMPT, 15), ((1,) * 16, None), ((1,) * 17, 0)):
        with pytest.raises(ContextLengthError, match="exceed the context of 16 tokens"):
            generate_events(model, [prompt], GenerationParams(max_tokens=wanted), HONEST)
    with pytest.raises(ContextLengthError, match="min_tokens=15: the prompt's 2 tokens and these exceed"):
        generate_events(model, [PROMPT], GenerationParams(min_tokens=15), HONEST)
    no_min_p = replace(HONEST, semantics=resolve("reference", {"order": ("mask", "greedy", "temperature")}))
    with pytest.raises(ParameterError, match=r"min_p=0\.1: this engine has no such step"):
        generate_events(model, [PROMPT], GenerationParams(sampling=SamplingParams(min_p=0.1)), no_min_p)
    for sampling, least, name in [
        (SamplingParams(allowed_token_ids=(5,), banned_token_ids=(5, 6)), 0, "allowed_token_ids"),
        (SamplingParams(banned_token_ids=tuple(range(259))), 0, "banned_token_ids"),
        (SamplingParams(allowed_token_ids=(0, 7)), 1, "min_tokens"),
    ]:
        params = GenerationParams(sampling=sampling, min_tokens=least, stop_token_ids=(7,))
        with pytest.raises(ParameterError, match="leaves no token that could be drawn") as caught:
            generate_events(model, [PROMPT], params, HONEST)
        assert caught.value.parameter == name
    assert transformer(model).calls == []
    assert len(run(model, [PROMPT], max_tokens=14, ignore_eos=True)[0, 0]) == 14


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("max_tokens", -1, "at least 0"),
        ("max_tokens", 1.5, "an integer"),
        ("n", 0, "at least 1"),
        ("n", True, "an integer"),
        ("stop", ("",), "not empty"),
        ("stop", (3,), "a string"),
        ("stop", 3, "a list"),
        ("stop_token_ids", (-1,), "at least 0"),
        ("min_tokens", -1, "at least 0"),
        ("logprobs", -1, "at least 0"),
        ("seed", 1 << 64, "64 bits"),
        ("ignore_eos", 1, "true or false"),
    ],
)
def test_parameters_are_checked(name: str, value: object, rule: str) -> None:
    with pytest.raises(ParameterError, match=rule) as caught:
        GenerationParams(**{name: value})  # type: ignore[arg-type]
    assert caught.value.parameter == name


def test_min_tokens_beyond_max_tokens() -> None:
    with pytest.raises(ParameterError, match="must not exceed max_tokens=3"):
        GenerationParams(min_tokens=4, max_tokens=3)


def test_mirostat_remembers_each_choice_by_itself(model: Model) -> None:
    """Tokens are those of one distribution after another, each with the memory of the choice's own draws."""
    sampling = SamplingParams(mirostat=2, mirostat_tau=2.0, mirostat_eta=0.5)
    found = run(model, [PROMPT], sampling=sampling, seed=3, n=2, max_tokens=8)
    means = []
    for choice in (0, 1):
        memory, ids = None, ids_of(found[(0, choice)])
        for step, token_id in enumerate(ids):
            row = model.logits([*PROMPT, *ids[:step]])[-1]
            law = distribution(row, sampling, PROMPT, ids[:step], state=memory)
            assert draw(law.probs, uniform(3, choice, step)) == token_id
            memory = law.memory_after(token_id)
        means.append(memory)
    assert len({memory.mu for memory in means if memory is not None}) == 2


@pytest.mark.parametrize("more", [
    {}, {"temperature": 0.0}, {"top_k": 9, "top_p": 0.8, "repetition_penalty": 1.3, "frequency_penalty": 0.4},
    {"min_p": 0.02, "presence_penalty": 0.5, "logit_bias": {5: 3.0, 9: -100.0}}, {"typical_p": 0.9},
], ids=str)  # fmt: skip
def test_the_quick_way_is_the_definition(model: Model, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Several prompts and choices at once, across min_tokens, with logprobs, with a prediction: event for event."""
    asked = {"sampling": SamplingParams(**{"temperature": 1.3, **more}), "seed": 5, "max_tokens": 12, "min_tokens": 4}
    guess = tuple(ids_of(run(model, [PROMPT], **asked)[0, 0]))
    variants: list[dict[str, Any]] = [
        {}, {"n": 3}, {"n": 3, "logprobs": 3}, {"ranked": True}, {"prediction": guess}, {"prediction": (1, 2, 3)},
    ]  # fmt: skip
    for variant in variants:
        found = []
        for rows in (0, 1 << 30):
            monkeypatch.setattr(quick, "_left", rows)
            found.append(run(model, [PROMPT, (7, 8, 9)], **asked, **variant))
        assert found[0] == found[1]
