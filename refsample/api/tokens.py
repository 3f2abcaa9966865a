"""Logprobs as the two endpoints write them: legacy arrays and chat objects. Knows no request and no sampling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from refsample.sampling.logprobs import TokenLogprobs, rendered
from refsample.spec.types import Semantics
from refsample.text.tokenizer import Tokenizer


def legacy(
    rows: Iterable[TokenLogprobs | None],
    prompt_ids: Sequence[int],
    tokenizer: Tokenizer,
    semantics: Semantics,
    offset: int,
) -> dict[str, list[Any]]:
    """`tokens`, `token_logprobs`, `top_logprobs`, `text_offset` of a completion.

    A row that is None stands for the first of `prompt_ids`: null, null. `text_offset` counts characters over the token
    strings, from `offset`; a fragment of a character is an empty string (its bytes cannot be shown here).
    """
    result: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for row in rows:
        text = tokenizer.token_text(prompt_ids[0] if row is None else row.token_id)
        result["tokens"].append(text)
        result["token_logprobs"].append(None if row is None else rendered(row.logprob, semantics))
        result["top_logprobs"].append(None if row is None else _best(row, tokenizer, semantics))
        result["text_offset"].append(offset)
        offset += len(text)
    return result


def _best(row: TokenLogprobs, tokenizer: Tokenizer, semantics: Semantics) -> dict[str, float]:
    """Up to N + 1 entries: the best N and always the drawn token. Of several ids with one text the likeliest is shown,
    but the drawn token's own value stands at its text."""
    best: dict[str, float] = {}
    for token_id, logprob in row.top:
        best.setdefault(tokenizer.token_text(token_id), rendered(logprob, semantics))
    best[tokenizer.token_text(row.token_id)] = rendered(row.logprob, semantics)
    return best


def chat(rows: Iterable[TokenLogprobs], count: int, tokenizer: Tokenizer, semantics: Semantics) -> list[dict[str, Any]]:
    """The `content` entries of a chat's logprobs, each with at most `count` alternatives."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": tokenizer.token_text(token_id),
            "logprob": rendered(logprob, semantics),
            "bytes": list(tokenizer.token_bytes(token_id)),
        }

    return [
        {**entry(row.token_id, row.logprob), "top_logprobs": [entry(*best) for best in row.top[:count]]} for row in rows
    ]
