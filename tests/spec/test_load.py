"""Engine files: what they must hold, and what a broken one is told."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from refsample.errors import SpecError
from refsample.spec.load import engine, engines, folder, names
from refsample.spec.types import STEP_NAMES

REFERENCE = (folder() / "engines" / "reference.toml").read_text(encoding="utf-8")


def test_the_engines_of_this_release() -> None:
    assert engines() == ("hf", "llamacpp", "mlx", "reference", "sglang", "tgi", "vllm")
    assert names("engines") == engines()


@pytest.mark.parametrize("name", engines())
def test_every_engine_file_is_complete(name: str) -> None:
    spec = engine(name)
    assert spec.name == name
    assert set(spec.semantics.order) | set(spec.semantics.mirostat_order) <= set(STEP_NAMES)
    assert {"repetition", "greedy", "temperature", "top_k", "top_p", "mask"} <= set(spec.semantics.order)
    assert spec.title and spec.version and spec.source
    for entry in spec.known:
        assert entry.check.startswith(("contract.", "law.")) and entry.summary and entry.source
    assert pickle.loads(pickle.dumps(spec.semantics)) == spec.semantics


def test_reference_values_are_the_bold_ones() -> None:
    rules = engine("reference").semantics
    assert rules.order == STEP_NAMES
    assert (rules.top_k_ties, rules.top_p_rule, rules.top_p_ties) == ("exact_low_id", "ge", "low_id")
    assert (rules.top_p_base, rules.min_tokens_to_keep, rules.bias_clamp) == ("sequential", 1, 100.0)
    assert (rules.temperature_clamp, rules.greedy_below) == (0.0, 0.0)
    assert (rules.repetition_scope, rules.additive_scope) == ("prompt_and_output", "output")
    assert (rules.logprob_stage, rules.rank_rule, rules.minus_inf) == ("raw", "strict", -9999.0)
    assert (rules.top_logprobs_rule, rules.seed_rule) == ("rank_sorted", "seed_plus_choice")
    assert rules.grammar_rule == "mask"


def test_engine_values_that_differ() -> None:
    llama, vllm = engine("llamacpp"), engine("vllm")
    chain = ("top_k", "typical_p", "top_p", "min_p", "xtc", "greedy", "temperature", "dynamic_temperature")
    assert llama.semantics.order[-8:] == chain
    assert llama.semantics.mirostat_order == ("mask", "logit_bias", "greedy", "temperature", "mirostat")
    assert (llama.semantics.additive_scope, llama.semantics.penalty_window) == ("window", 64)
    assert llama.aliases == {"repetition_penalty": "repeat_penalty"}
    assert vllm.semantics.rank_rule == "ge"
    assert (vllm.semantics.logprob_stage, llama.semantics.grammar_rule) == ("raw_grammar", "redraw")
    assert vllm.semantics.temperature_clamp == 0.01
    assert vllm.aliases == {}


def test_an_engine_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(REFERENCE.replace('top_p_rule = "ge"', 'top_p_rule = "gt"'), encoding="utf-8")
    assert engine(str(path)).semantics.top_p_rule == "gt"
    path.write_text(REFERENCE, encoding="utf-8")  # edited, same path: no stale answer
    assert engine(str(path)).semantics.top_p_rule == "ge"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('top_p_rule = "ge" ', 'top_p_rule = "le" ', ("top_p_rule", "le", "ge, gt")),
        ("min_tokens_to_keep = 1", "min_tokens_to_keep = 1\nzzz = 2", ("semantics", "unknown key zzz")),
        ("min_tokens_to_keep = 1", "", ("missing key min_tokens_to_keep",)),
        ("min_tokens_to_keep = 1", "min_tokens_to_keep = 0", ("min_tokens_to_keep=0",)),
        ("min_tokens_to_keep = 1", "min_tokens_to_keep = 1.5", ("min_tokens_to_keep=1.5", "integer")),
        ("min_tokens_to_keep = 1", "min_tokens_to_keep = true", ("min_tokens_to_keep=True", "integer")),
        ("bias_clamp = 100.0", "bias_clamp = -1", ("bias_clamp", "not negative")),
        ("bias_clamp = 100.0", 'bias_clamp = "100"', ("bias_clamp", "number")),
        ("bias_clamp = 100.0", "bias_clamp = nan", ("bias_clamp", "number")),
        ('"min_p", "top_k", "top_p"', '"min_p", "top_n", "top_p"', ("order", "top_k", "top_n")),
        ('"min_p", "top_k", "top_p"', '"min_p", "min_p", "top_p"', ("order", "min_p", "more than once")),
        ("mirostat_order = []", 'mirostat_order = ["mirostat", "mirostat"]', ("mirostat_order", "more than once")),
        ("top_h_ranks = 0", "top_h_ranks = -1", ("top_h_ranks=-1", "not negative")),
        ("penalty_window = 0", "penalty_window = -1", ("penalty_window=-1", "negative")),
        ('additive_scope = "output"', 'additive_scope = "window"', ("penalty_window=0", "scope")),
        ('name = "reference"', "", ("missing key name",)),
        ('name = "reference"', "name = 3", ("name=3", "str")),
        ('name = "reference"', 'name = "reference"\ncolour = "red"', ("unknown key colour",)),
        ('name = "reference"', 'name = "reference"\naliases = {a = 1}', ("aliases",)),
        ('name = "reference"', 'name = "reference"\nknown = 1', ("known",)),
        ('name = "reference"', 'name = "reference"\nknown = [{check = "a"}]', ("[[known]] 0", "missing key summary")),
        ('name = "reference"', 'name = "reference"\nknown = [1]', ("[[known]] 0", "table")),
        ("[semantics]", "[semantik]", ("missing key semantics",)),
        ("[semantics]", "[semantics", ("broken.toml",)),
    ],
)
def test_a_broken_engine_file_is_named(tmp_path: Path, old: str, new: str, words: tuple[str, ...]) -> None:
    assert old in REFERENCE
    path = tmp_path / "broken.toml"
    path.write_text(REFERENCE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        engine(str(path))
    text = str(caught.value)
    assert text.startswith("broken.toml") and "\n" not in text
    for word in words:
        assert word in text


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="engine 'vlm' does not exist; known here: hf, llamacpp, mlx, "):
        engine("vlm")
    with pytest.raises(SpecError, match="no such file"):
        engine(str(tmp_path / "absent.toml"))
