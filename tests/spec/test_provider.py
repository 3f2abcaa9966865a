"""Provider files: what the shipped one says, and what a broken one is told."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refsample.errors import SpecError
from refsample.sampling.semantics import resolve
from refsample.spec.load import folder
from refsample.spec.provider import provider, provider_from, providers

Data = dict[str, Any]


@pytest.fixture
def data() -> Data:
    """OpenAI's file, parsed, to be broken."""
    return tomllib.loads((folder() / "providers" / "openai.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", providers())
def test_every_file_reads(name: str) -> None:
    page = provider(name)
    assert page.name == name
    assert page.engine == "unknown" or resolve(page.engine)
    for endpoint in page.endpoints.values():
        for record in endpoint.parameters.values():
            parent = record.name.rpartition(".")[0].removesuffix("[]")
            assert not parent or parent in endpoint.parameters, f"{record.name} lies inside a field without a record"
            assert record.meaning and record.source


DECISIONS = range(1, 51)
"""The list "What a reference must decide"."""


@pytest.mark.parametrize("name", providers())
def test_every_record_says_what_it_is(name: str) -> None:
    for endpoint in provider(name).endpoints.values():
        for record in (*endpoint.parameters.values(), *endpoint.response.values(), *endpoint.chunk.values()):
            assert record.meaning and set(record.decisions) <= set(DECISIONS), record.name
        decided = {number for record in endpoint.parameters.values() for number in record.decisions}
        assert {4, 9, 14, 26} <= decided  # top_p, temperature, penalties and limits are on every page


OWN_DEFAULTS = {("novita", "max_tokens"): "C18: the room left in the context, never silently 16"}


@pytest.mark.parametrize("name", providers())
def test_where_a_page_prints_no_default_it_is_openais(name: str) -> None:
    for endpoint in provider(name).endpoints.values():
        usual = provider("openai").endpoints[endpoint.name].parameters
        for record in endpoint.parameters.values():
            theirs = usual.get(record.name)
            if theirs is None or theirs.default is None or record.extension or (name, record.name) in OWN_DEFAULTS:
                continue
            assert record.default is not None, f"{name} {record.name}"


def test_openai_as_printed() -> None:
    page = provider("openai")
    completions, chat = page.endpoints["completions"].parameters, page.endpoints["chat"].parameters
    assert completions["temperature"].printed is not None
    assert completions["temperature"].printed.about() == "0 <= x <= 2"
    assert completions["max_tokens"].default == 16
    assert chat["max_tokens"].default is None
    assert chat["max_completion_tokens"].means == "max_tokens"
    assert completions["prompt"].types == ("string", "string[]", "integer[]", "integer[][]")
    assert completions["logprobs"].types == ("integer",) and chat["logprobs"].types == ("boolean",)
    assert {r.name for r in completions.values() if r.extension} == {
        "top_k", "min_p", "repetition_penalty", "ignore_eos", "min_tokens", "stop_token_ids",
        "include_stop_str_in_output", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
        "return_token_ids", "prompt_logprobs", "skip_special_tokens",
        "typical_p", "top_h", "top_n_sigma", "tfs_z", "top_a", "epsilon_cutoff", "eta_cutoff", "xtc_probability",
        "xtc_threshold", "dynatemp_range", "dynatemp_exponent", "mirostat", "mirostat_tau", "mirostat_eta",
        "no_repeat_ngram_size", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
        "dry_sequence_breakers",
    }  # fmt: skip
    assert page.reading("best_of_floor") == "n" and page.reading("best_of_floor", strict=True) == "above_n"


def change(path: str, value: Any) -> Callable[[Data], None]:
    """Sets (or, with `...`, removes) the key at a dotted path."""

    def apply(data: Data) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        if value is ...:
            del data[last]
        else:
            data[last] = value

    return apply


TEMPERATURE = "endpoints/completions/parameters/temperature"


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (change("title", ...), "missing key title"),
        (change("colour", "red"), "unknown key colour"),
        (change("engine", 5), "engine=5"),
        (change("envelope", "xml"), "envelope='xml'"),
        (change("auth", ...), "[[auth]] is missing"),
        (change("auth", {"scheme": "Bearer"}), "must be a list"),
        (change("auth", [{"place": "header", "name": "token"}]), "[[auth]] 0: missing key scheme"),
        (change("auth", [{"place": "query", "name": "token", "scheme": ""}]), "place='query'"),
        (change("known", [{"check": "contract.chat"}]), "[[known]] 0: missing key summary"),
        (change("models_shape", "table"), "models_shape='table'"),
        (change("errors/busy", ...), "[errors.busy] is missing"),
        (change("errors/invalid", ...), "[errors.invalid] is missing"),
        (change("errors/teapot", {"status": 418}), "unknown key errors.teapot"),
        (change("errors/invalid/status", "400"), "status='400'"),
        (change("behaviours/stop_text/effective", "eaten"), "behaviours.stop_text='eaten'"),
        (change("behaviours/stop_text/grade", "Z"), "grade='Z'"),
        (change("behaviours/mood", {}), "unknown key behaviours.mood"),
        (change("endpoints/completions/path", "v1"), "path='v1'"),
        (change("endpoints/completions/kind", "images"), "kind='images'"),
        (change("endpoints/completions/path", "/health"), "path='/health'"),
        (change("endpoints/completions/parameters/prompt", ...), "kind completions needs the record prompt"),
        (change("endpoints/chat/parameters/model", ...), "kind chat needs the record model"),
        (change("errors/unknown_path/status", 999), "status=999"),
        (change("name", "../a b"), "name='../a b'"),
        (change("engine", "nope"), "engine='nope'"),
        (change("endpoints/completions/parameters", ...), "completions.parameters is missing"),
        (change(f"{TEMPERATURE}/types", ["float"]), "temperature: types: 'float'"),
        (change("endpoints/completions/parameters/heat", {"meaning": "warmth"}), "heat: missing key types"),
        (change("endpoints/completions/parameters/heat", {"types": ["number"]}), "heat: missing key meaning"),
        (change("endpoints/completions/parameters/groups", ["none"]), "groups: 'none' is none of"),
        (change("endpoints/completions/parameters/groups", "all"), "groups='all': must be a list"),
        (change("endpoints/completions/merged", ["more"]), "merged='more'"),
        (change("endpoints/completions/logprobs", "tree"), "logprobs='tree'"),
        (change("endpoints/chat/parameters/groups", ["sampling", "messages"]), "needs the record tools[].function"),
        (change(f"{TEMPERATURE}/grade", ...), "temperature: missing key grade"),
        (change(f"{TEMPERATURE}/effective", "0..2"), "temperature: effective='0..2'"),
        (change(f"{TEMPERATURE}/printed", "3 <= x <= 2"), "holds no number"),
        (change(f"{TEMPERATURE}/default", 3), "temperature: default=3"),
        (change(f"{TEMPERATURE}/default", "warm"), "temperature: default='warm'"),
        (change(f"{TEMPERATURE}/nulable", True), "unknown key nulable"),
        (change(f"{TEMPERATURE}/required", "yes"), "required='yes'"),
        (change(f"{TEMPERATURE}/neutral", [1]), "neutral"),
        (change(f"{TEMPERATURE}/support", "maybe"), "support='maybe'"),
        (change(f"{TEMPERATURE}/extension", True), "extension is not on the page"),
        (change("endpoints/completions/response/id/types", ["text"]), "response.id: types"),
    ],
)
def test_a_broken_file_is_named(data: Data, broken: Callable[[Data], None], named: str) -> None:
    broken(data)
    with pytest.raises(SpecError) as caught:
        provider_from(data, "mine.toml")
    message = str(caught.value)
    assert message.startswith("mine.toml") and named in message and "\n" not in message


def test_a_file_by_its_path(tmp_path: Path) -> None:
    text = (folder() / "providers" / "openai.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace('title = "OpenAI"', 'title = "Mine"'), encoding="utf-8")
    assert provider(str(tmp_path / "mine.toml")).title == "Mine"
    (tmp_path / "mine.toml").write_text(text.replace('title = "OpenAI"', 'title = "Ours"'), encoding="utf-8")
    assert provider(str(tmp_path / "mine.toml")).title == "Ours"
    assert provider("openai") is provider("openai")


def test_behaviours_may_be_left_out(data: Data) -> None:
    del data["behaviours"]
    assert provider_from(data, "mine.toml").reading("stop_text") == "removed"


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(SpecError, match="openai"):
        provider("opnai")
