"""Models with an adapter: found by name, several over one base at once, each as if it were alone."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsample
from refsample.errors import MismatchError, ParameterError, UnknownModelError
from refsample.generation.batch import Batcher
from refsample.generation.decode import Events
from refsample.generation.load import adapters
from refsample.generation.model import Model
from refsample.generation.scoring import score
from refsample.tiny import FOLDER
from tests.adapters import write_lora
from tests.factories import Shape, write_llama

TINY = Shape(vocab_size=3072, layers=6, width=192, heads=6, kv_heads=3, head_width=32, feed_forward=512)
NAMES = ("tiny", "pirate", "noise")
PROMPTS = ("Once upon a time", "My name is", "<|user|>Name an animal.<|endoftext|><|assistant|>")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """tiny, its own adapter, and a random one of another rank."""
    base = refsample.load("tiny")
    noise = write_lora(tmp_path_factory.mktemp("noise"), TINY, rank=3, lora_alpha=3)
    pirate = adapters(FOLDER)["pirate"]
    return {"tiny": base, "pirate": base.with_adapter("pirate", pirate), "noise": base.with_adapter("noise", noise)}


def test_one_base_lends_its_memory_to_all(models: dict[str, Model]) -> None:
    base, pirate, noise = models.values()
    for model in (pirate, noise):
        assert model.base is base and model.tokenizer is base.tokenizer and model.template is base.template
        assert np.shares_memory(
            model.transformer.weights.layers[3].up.weight, base.transformer.weights.layers[3].up.weight
        )
        assert model.transformer_for("int4-g32").weights is base.transformer_for("int4-g32").weights
        assert model.transformer_for("int4-g32") is model.transformer_for("int4-g32")
        assert model.transformer_for(None) is model.transformer_for("float32") is model.transformer
    assert len({model.fingerprint for model in models.values()}) == 3
    assert [model.name for model in models.values()] == list(models)


Job = tuple[str, str, int, int]  # model, prompt, seed, n


def events_of(models: dict[str, Model], job: Job) -> Events:
    name, prompt, seed, n = job
    return models[name].generate(
        prompt, stream=True, seed=seed, n=n, max_tokens=12, temperature=1.1, logprobs=3, ignore_eos=True
    )


@settings(max_examples=6)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(PROMPTS), st.integers(0, 2**63), st.integers(1, 3)),
        min_size=2,
        max_size=8,
    )
)
def test_side_by_side_each_writes_what_it_writes_alone(models: dict[str, Model], jobs: list[Job]) -> None:
    """Tokens, texts and logprobs of a base and its adapters, in threads and in one batcher."""
    alone = [list(events_of(models, job)) for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        assert list(pool.map(lambda job: list(events_of(models, job)), jobs)) == alone
    with closing(Batcher()) as batcher:
        running = [batcher.submit(events_of(models, job)) for job in jobs]
        assert [list(events) for events in running] == alone


def test_the_three_write_by_different_laws(models: dict[str, Model]) -> None:
    """Else the property above would say nothing."""
    for prompt in PROMPTS:
        first = [next(iter(events_of(models, (name, prompt, 4, 1)))).logprobs for name in NAMES]
        assert all(a != b for a, b in combinations(first, 2))


def test_scoring_is_by_the_adapted_law(models: dict[str, Model]) -> None:
    text = " there was a lass named Mia. Arr!"
    pirate, base = (score(models[name], PROMPTS[0], text).total for name in ("pirate", "tiny"))
    assert pirate > base + 20


def test_load_finds_adapters_by_name_by_folder_and_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_llama(tmp_path / "base")
    folder = write_lora(tmp_path / "mine")
    by_folder = refsample.load(base, adapter=folder)
    assert by_folder.name == str(folder) and by_folder.base is not None and by_folder.base.name == str(base)
    assert adapters(base) == {}
    write_lora(base / "adapters" / "own")
    (base / "adapters" / "nothing").mkdir()
    assert list(adapters(base)) == ["own"]
    own = refsample.load(base, adapter="own", precision="float64")
    assert own.name == "own" and own.transformer.precision == "float64" and own.fingerprint == by_folder.fingerprint
    snapshot = tmp_path / "hub" / "models--org--lora" / "snapshots" / "1"
    snapshot.parent.mkdir(parents=True)
    os.symlink(folder, snapshot)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refsample.load(base, adapter="org/lora").fingerprint == by_folder.fingerprint
    for name, said in (("org/none", "HF_HUB_OFFLINE"), ("./none", "no such folder"), ("", "give a folder"),
                       (str(folder / "adapter_config.json"), "it is a file")):  # fmt: skip
        with pytest.raises(UnknownModelError, match=said):
            refsample.load(base, adapter=name)


def test_an_adapter_of_another_model_and_one_over_another_are_refused(models: dict[str, Model], tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="rank 4 over the base makes"):
        models["tiny"].with_adapter("x", write_lora(tmp_path, Shape(layers=6)))
    with pytest.raises(ParameterError, match="model pirate has an adapter already"):
        models["pirate"].with_adapter("x", tmp_path)
