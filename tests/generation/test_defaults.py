"""generation_config.json: what is kept of it and under which name, what is not, and that it is off unless asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import refsample
from refsample.errors import CorruptFileError, MismatchError
from refsample.generation.defaults import FILE, read_defaults
from refsample.generation.model import Model
from tests.generation.caches import commit, store, tiny_files

QWEN = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "transformers_version": "4.51.0"}


def folder(place: Path, **config: Any) -> Path:
    place.mkdir(exist_ok=True)
    (place / FILE).write_text(json.dumps(config), encoding="utf-8")
    return place


def model(place: Path, **config: Any) -> Model:
    data = json.dumps({"eos_token_id": 0, **config}).encode()
    return refsample.load(store(place, "org/m", commit("x"), tiny_files(generation_config__json=data)))


# One line a case: name and value in the file, use, what it gives here.
LINES: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("temperature", 0.6, "taken", {"temperature": 0.6}),
    ("top_k", 20, "taken", {"top_k": 20}),
    ("typical_p", 0.9, "taken", {"typical_p": 0.9}),
    ("repetition_penalty", 1.05, "taken", {"repetition_penalty": 1.05}),
    ("max_new_tokens", 7, "taken", {"max_tokens": 7}),
    ("min_new_tokens", 3, "taken", {"min_tokens": 3}),
    ("stop_strings", "\n", "taken", {"stop": ("\n",)}),
    ("stop_strings", ["a", "b"], "taken", {"stop": ("a", "b")}),
    ("suppress_tokens", [3, 1], "taken", {"banned_token_ids": (1, 3)}),
    ("bad_words_ids", [[4], [2]], "taken", {"banned_token_ids": (2, 4)}),
    ("bad_words_ids", [[4, 5]], "not applied", {}),
    ("bad_words_ids", 4, "not applied", {}),
    ("do_sample", True, "taken", {}),
    ("do_sample", False, "taken", {"temperature": 0.0}),
    ("do_sample", "yes", "not applied", {}),
    ("eos_token_id", [1, 2], "always", {}),
    ("num_beams", 1, "no effect", {}),
    ("num_beams", 4, "not applied", {}),
    ("max_length", 4096, "not applied", {}),
    ("begin_suppress_tokens", [5], "not applied", {}),
    ("transformers_version", "5.0.0", "no effect", {}),
    ("top_p", None, "no effect", {}),
    ("chat_format", "chatml", "not understood", {}),
]


@pytest.mark.parametrize(("name", "value", "use", "gives"), LINES)
def test_a_line(tmp_path: Path, name: str, value: Any, use: str, gives: dict[str, Any]) -> None:
    found = read_defaults(folder(tmp_path, **{name: value}))
    (entry,) = found.entries
    assert (entry.name, entry.value, entry.use, dict(found.fields)) == (name, value, use, gives)
    assert found.left_out == ((name,) if use.startswith("not") else ())
    assert all(f"{ours}={kept!r}" in entry.detail or kept == 0 for ours, kept in gives.items())


def test_lines_together(tmp_path: Path) -> None:
    greedy = read_defaults(folder(tmp_path, do_sample=False, temperature=0.7, suppress_tokens=[1], bad_words_ids=[[2]]))
    assert dict(greedy.fields) == {"temperature": 0.0, "banned_token_ids": (1, 2)}
    assert dict(read_defaults(tmp_path / "nothing").fields) == {}


@pytest.mark.parametrize(
    ("name", "value"), [("top_p", 1.5), ("temperature", "hot"), ("max_new_tokens", -1), ("top_k", 1.5)]
)
def test_values_that_cannot_be(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(MismatchError, match=f"{FILE}: {name}=.*: must"):
        read_defaults(folder(tmp_path, **{name: value}))
    (tmp_path / FILE).write_text("[")
    with pytest.raises(CorruptFileError):
        read_defaults(tmp_path)


def test_off_unless_asked_for(tmp_path: Path) -> None:
    loaded = model(tmp_path, temperature=0.3, max_new_tokens=4, suppress_tokens=[300])
    plain, asked = refsample.load("tiny"), {"seed": 3, "max_tokens": 9}
    assert loaded.generate("Once", **asked).token_ids == plain.generate("Once", **asked).token_ids
    spelled = plain.generate("Once", seed=3, temperature=0.3, max_tokens=4, banned_token_ids=(300,))
    assert loaded.generate("Once", seed=3, use_generation_config=True).token_ids == spelled.token_ids
    events = list(loaded.generate("Once", stream=True, seed=3, use_generation_config=True))
    assert tuple(event.token_id for event in events) == spelled.token_ids


def test_what_is_given_stands_above(tmp_path: Path) -> None:
    loaded = model(tmp_path, do_sample=False, min_new_tokens=5, max_new_tokens=10**6, stop_strings=["e"])
    given = {"temperature": 1.0, "max_tokens": 3, "stop": (), "seed": 5}
    ours = loaded.generate("Once", use_generation_config=True, **given)
    assert ours.token_ids == loaded.generate("Once", **given).token_ids and len(ours.token_ids) == 3
    greedy = loaded.generate("Once", use_generation_config=True, stream=True)
    assert (greedy.params.max_tokens, greedy.params.min_tokens, greedy.params.stop) == (None, 5, ("e",))
    assert greedy.params.sampling.temperature == 0 and loaded.generation_defaults.left_out == ()


def test_over_the_api(tmp_path: Path) -> None:
    """The same, under the names of a request; null leaves open; the answer says what was taken."""
    from dataclasses import replace

    from refsample.api.answer import default_behaviour
    from refsample.spec.provider import provider

    loaded = model(tmp_path, **QWEN, max_new_tokens=5, min_new_tokens=20)
    behaviour = replace(default_behaviour(provider("openai")), generation_config=True)
    answer = refsample.complete(loaded, {"prompt": "Once", "seed": 1, "top_p": None}, behaviour=behaviour)
    assert answer["usage"]["completion_tokens"] == 5
    taken = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 5}  # no min_tokens beyond them
    assert answer["refsample"]["generation_config"] == taken
    spelled = {"prompt": "Once", "seed": 1, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 5}
    plain = refsample.complete(loaded, spelled)
    assert answer["choices"] == plain["choices"] and "generation_config" not in plain["refsample"]
    other = refsample.complete(loaded, {**spelled, "temperature": 1.5, "max_tokens": 7}, behaviour=behaviour)
    assert other["choices"] == refsample.complete(loaded, {**spelled, "temperature": 1.5, "max_tokens": 7})["choices"]
    messages = [{"role": "user", "content": "Hi"}]
    talk = refsample.chat(loaded, {"messages": messages, "max_completion_tokens": 3, "seed": 1}, behaviour=behaviour)
    assert talk["usage"]["completion_tokens"] == 3 and "max_tokens" not in talk["refsample"]["generation_config"]
