"""Logprobs of tokens that are no text of their own: fragments of characters, marks, ids with one text, -inf."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from refsample.api import tokens
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.generation.model import Model
from refsample.sampling.logprobs import TokenLogprobs
from refsample.sampling.semantics import resolve

REFERENCE = resolve("reference")


def fragments(model: Model) -> list[int]:
    """Ids whose bytes are no text of their own."""
    tokenizer = model.tokenizer
    found = []
    for token_id in range(tokenizer.vocab_size):
        try:
            tokenizer.token_bytes(token_id).decode()
        except UnicodeDecodeError:
            found.append(token_id)
    return found


def only(ids: list[int]) -> dict[str, int]:
    """A bias under which nothing but `ids` has a chance."""
    return {str(i): 100 for i in ids}


def test_a_character_in_pieces(model: Model) -> None:
    pieces = model.tokenizer.encode("🐢", bos=False)
    assert len(pieces) > 1, "the character has to span tokens here"
    for step, token_id in enumerate(pieces):
        messages = [{"role": "user", "content": "Draw."}]
        result = chat(model, {"messages": messages, "max_tokens": 1, "logprobs": True, "logit_bias": only([token_id])})
        (entry,) = result["choices"][0]["logprobs"]["content"]
        assert bytes(entry["bytes"]) == model.tokenizer.token_bytes(token_id)
        assert "�" not in entry["token"], f"piece {step}"
    assert b"".join(model.tokenizer.token_bytes(i) for i in pieces) == "🐢".encode()


def test_fragments_give_empty_strings_and_still_offsets(model: Model) -> None:
    bad = fragments(model)
    assert len(bad) > 100
    body = {"prompt": "x", "max_tokens": 10, "logprobs": 5, "seed": 1, "logit_bias": only(bad), "temperature": 2}
    (choice,) = complete(model, body)["choices"]
    found = choice["logprobs"]
    assert found["text_offset"] == [sum(map(len, found["tokens"][:i])) for i in range(10)]
    assert all(token in best for token, best in zip(found["tokens"], found["top_logprobs"], strict=True))
    json.dumps(choice).encode()


def row(token_id: int, logprob: float, *top: tuple[int, float]) -> TokenLogprobs:
    return TokenLogprobs(token_id, logprob, 1, top)


def legacy(model: Model, *rows: TokenLogprobs | None, **changes: Any) -> dict[str, list[Any]]:
    return tokens.legacy(rows, [5], model.tokenizer, replace(REFERENCE, **changes), 7)


def test_the_drawn_token_is_always_there(model: Model) -> None:
    text = model.tokenizer.token_text
    found = legacy(model, row(40, -9.0, (41, -0.1), (42, -0.2)))
    assert found["top_logprobs"] == [{text(41): -0.1, text(42): -0.2, text(40): -9.0}]
    assert found["text_offset"] == [7]


def test_ids_with_one_text(model: Model) -> None:
    """The likeliest stands for them, except that the drawn token's own value is never hidden."""
    one, two, three = fragments(model)[:3]
    assert {model.tokenizer.token_text(i) for i in (one, two, three)} == {""}
    assert legacy(model, row(40, -3.0, (one, -0.1), (two, -0.2)))["top_logprobs"][0][""] == -0.1
    assert legacy(model, row(three, -3.0, (one, -0.1), (two, -0.2)))["top_logprobs"][0] == {"": -3.0}


def test_minus_infinity_is_a_number(model: Model) -> None:
    found = legacy(model, row(40, -math.inf, (41, -math.inf), (42, 0.0)))
    assert found["token_logprobs"] == [-9999.0] and min(found["top_logprobs"][0].values()) == -9999.0
    assert legacy(model, row(40, -math.inf), minus_inf=-1e4)["token_logprobs"] == [-1e4]
    (entry,) = tokens.chat([row(40, -math.inf, (41, -math.inf))], 1, model.tokenizer, REFERENCE)
    assert entry["logprob"] == entry["top_logprobs"][0]["logprob"] == -9999.0


def test_a_prompt_s_first_token_has_none(model: Model) -> None:
    found = legacy(model, None, row(40, -1.0))
    assert found["token_logprobs"] == [None, -1.0] and found["top_logprobs"][0] is None
    assert found["tokens"][0] == model.tokenizer.token_text(5)


def test_the_other_rule_of_alternatives(model: Model) -> None:
    """vLLM puts the drawn token first: N + 1 entries in a completion, the first N of them in a chat."""
    drawn = row(40, -9.0, (40, -9.0), (41, -0.1), (42, -0.2))
    assert len(legacy(model, drawn)["top_logprobs"][0]) == 3
    (entry,) = tokens.chat([drawn], 2, model.tokenizer, REFERENCE)
    assert [one["logprob"] for one in entry["top_logprobs"]] == [-9.0, -0.1]
