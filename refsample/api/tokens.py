"""Logprobs as APIs write them: arrays side by side, an object per token, bare numbers; vLLM's of a prompt.

Knows no request and no sampling.
"""

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
    drawn: bool = True,
) -> dict[str, list[Any]]:
    """`tokens`, `token_logprobs`, `top_logprobs`, `text_offset` of a completion.

    A row that is None stands for the first of `prompt_ids`: null, null. `text_offset` counts characters over the token
    strings, from `offset`; a fragment of a character is an empty string (its bytes cannot be shown here). Not `drawn`:
    the drawn token is left out where it is none of the best, which no honest server does.
    """
    result: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for row in rows:
        text = tokenizer.token_text(prompt_ids[0] if row is None else row.token_id)
        result["tokens"].append(text)
        result["token_logprobs"].append(None if row is None else rendered(row.logprob, semantics))
        result["top_logprobs"].append(None if row is None else _best(row, tokenizer, semantics, drawn))
        result["text_offset"].append(offset)
        offset += len(text)
    return result


def _best(row: TokenLogprobs, tokenizer: Tokenizer, semantics: Semantics, drawn: bool) -> dict[str, float]:
    """Up to N + 1 entries: the best N and always the drawn token. Of several ids with one text the likeliest is shown,
    but the drawn token's own value stands at its text."""
    best: dict[str, float] = {}
    for token_id, logprob in row.top:
        best.setdefault(tokenizer.token_text(token_id), rendered(logprob, semantics))
    if drawn:
        best[tokenizer.token_text(row.token_id)] = rendered(row.logprob, semantics)
    return best


def bare(rows: Iterable[TokenLogprobs | None], semantics: Semantics) -> list[float]:
    """The drawn tokens' values alone."""
    return [rendered(row.logprob, semantics) for row in rows if row is not None]


def of_prompt(
    rows: Iterable[TokenLogprobs | None], count: int, tokenizer: Tokenizer, semantics: Semantics
) -> list[dict[str, dict[str, Any]] | None]:
    """vLLM's `prompt_logprobs`: for each token of a prompt an object by token id; null for the first.

    The token itself comes first with its rank, then the others of the best `count` with ranks from 1.
    """

    def entry(token_id: int, logprob: float, rank: int) -> dict[str, Any]:
        text = tokenizer.token_text(token_id)
        return {"logprob": rendered(logprob, semantics), "rank": rank, "decoded_token": text}

    found: list[dict[str, dict[str, Any]] | None] = []
    for row in rows:
        if row is None:
            found.append(None)
            continue
        best = sorted(row.top, key=lambda one: -one[1])[:count]
        ranked = {str(one[0]): entry(*one, rank) for rank, one in enumerate(best, 1)}
        own = {str(row.token_id): entry(row.token_id, row.logprob, row.rank)}
        found.append(own | {key: value for key, value in ranked.items() if key not in own})
    return found


def chat(
    rows: Iterable[TokenLogprobs | None], count: int, tokenizer: Tokenizer, semantics: Semantics
) -> list[dict[str, Any]]:
    """The `content` entries of a chat's logprobs, each with at most `count` alternatives; rows that are None have no
    place here."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": tokenizer.token_text(token_id),
            "logprob": rendered(logprob, semantics),
            "bytes": list(tokenizer.token_bytes(token_id)),
        }

    return [
        {**entry(row.token_id, row.logprob), "top_logprobs": [entry(*best) for best in row.top[:count]]}
        for row in rows
        if row is not None
    ]
