"""Many prompts at once: finished rows leave, waiting ones enter, adapters stand side by side, and no bit changes."""

from __future__ import annotations

from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.errors import ContextLengthError, ParameterError
from refsample.generation.batch import Batcher
from refsample.generation.model import Model
from refsample.generation.sequence import TokenEvent
from refsample_kernels.jit import jit_disabled
from tests.adapters import write_lora
from tests.factories import write_llama
from tests.generation.scripted import ScriptedTransformer, scripted, wandering
from tests.text.vocabularies import byte_level

few = settings(max_examples=2 if jit_disabled() else 20)
MOST = 4 if jit_disabled() else 17
HEADS = ("", "In the old house by the sea ", "In the old house by the sea the three cats of Anna ")
NAMES = ("base", "a", "b")

texts = st.builds(
    str.__add__, st.sampled_from(HEADS), st.text("abc the\n", min_size=1, max_size=5 if jit_disabled() else 30)
)


@cache
def models(kept: bool) -> dict[str, Model]:
    """A base and two adapters; with a prefix cache or without."""
    if kept:
        folder = models(False)["base"].folder
    else:
        folder = write_llama(Path(mkdtemp(prefix="refsample-test-")), eos=[0, 40, 41])
        for n, name in enumerate(NAMES[1:]):
            write_lora(folder / "adapters" / name, seed=n, rank=3 + n)
    base = refsample.load(folder, prefix_cache=1 << 20 if kept else 0)
    return {"base": base} | {name: base.with_adapter(name, folder / "adapters" / name) for name in NAMES[1:]}


options = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63),
        "max_tokens": st.integers(0, 4 if jit_disabled() else 12),
        "temperature": st.sampled_from([0.0, 0.8, 1.7]),
        "top_p": st.sampled_from([1.0, 0.9]),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "logprobs": st.sampled_from([None, 2]),
        "n": st.integers(1, 3),
    }
)


@few
@given(st.lists(texts, min_size=2, max_size=MOST), options, st.integers(1, 20))
def test_every_prompt_gets_what_it_gets_alone(prompts: list[str], asked: dict[str, Any], max_live: int) -> None:
    """Alone and fresh, beside up to sixteen others, over kept prefixes, again and again."""
    alone = [models(False)["base"].generate(prompt, **asked) for prompt in prompts]
    for kept in (False, True, True):
        assert models(kept)["base"].generate_many(prompts, max_live=max_live, **asked) == alone


@few
@given(st.lists(st.tuples(st.sampled_from(NAMES), texts), min_size=2, max_size=MOST), options)
def test_adapters_side_by_side(jobs: list[tuple[str, str]], asked: dict[str, Any]) -> None:
    """A base, adapter A and adapter B in one batch, each request as it is alone."""

    def events(kept: bool, name: str, prompt: str) -> Any:
        return models(kept)[name].generate(prompt, stream=True, **asked)

    alone = [list(events(False, *job)) for job in jobs]
    with closing(Batcher(max_live=8)) as batcher:
        running = [batcher.submit(events(True, *job)) for job in jobs]
        assert [list(ticket) for ticket in running] == alone


def test_finished_rows_leave_and_waiting_rows_enter(tmp_path: Path) -> None:
    byte_level(tmp_path)
    model = scripted(tmp_path, wandering(end=4.0))
    run = model.transformer
    assert isinstance(run, ScriptedTransformer)
    prompts = [chr(97 + n) * (1 + n % 3) for n in range(20)]
    done = model.generate_many(prompts, max_live=4, seed=5, max_tokens=15)
    assert run.calls[:2] == [4, 4] and max(run.calls) == 4
    lengths = [len(one.token_ids) for one in done]
    assert len(set(lengths)) > 2 and sum(run.calls) == sum(lengths)
    assert len(run.calls) < sum(lengths) / 2  # the places of those that ended were taken at once
    fresh = scripted(tmp_path, wandering(end=4.0))
    assert done == [fresh.generate(prompt, seed=5, max_tokens=15) for prompt in prompts]
    assert {one.seed for one in done} == {5}


def test_a_prompt_of_many_choices_is_begun_as_a_whole(tmp_path: Path) -> None:
    byte_level(tmp_path)
    model = scripted(tmp_path, wandering(end=-9.0))
    done = model.generate_many(["a", "bc"], max_live=2, n=5, seed=1, max_tokens=3, ignore_eos=True)
    assert [len(one.choices) for one in done] == [5, 5]
    assert model.transformer.calls == [1, 5, 5, 1, 5, 5]  # type: ignore[attr-defined]


def test_streamed_and_whole_are_the_same(tmp_path: Path) -> None:
    byte_level(tmp_path)
    model = scripted(tmp_path, wandering())
    prompts, options = ["a", [5, 6], "bc"], {"seed": 2, "max_tokens": 9}
    events: list[TokenEvent] = list(model.generate_many(prompts, stream=True, max_live=2, **options))  # type: ignore[call-overload]
    whole = model.generate_many(prompts, max_live=2, **options)  # type: ignore[call-overload]
    for place, one in enumerate(whole):
        assert "".join(event.text for event in events if event.prompt_index == place) == one.text
    assert len({one.seed for one in model.generate_many(["a", "b"], max_tokens=1)}) == 1
    assert model.generate_many([], max_tokens=1) == []


def test_all_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    byte_level(tmp_path)
    model = scripted(tmp_path, wandering())
    with pytest.raises(ContextLengthError, match="65 tokens"):
        model.generate_many(["a", "b" * 65])
    with pytest.raises(ParameterError, match="max_live=0"):
        model.generate_many(["a"], max_live=0)
    with pytest.raises(ParameterError, match="prompts='ab': must be a list"):
        model.generate_many("ab")
    with pytest.raises(ParameterError, match="max_token=3: no such parameter"):
        model.generate_many(["a"], max_token=3)
    assert model.transformer.calls == []  # type: ignore[attr-defined]
