"""The answer that a job's events make, for both kinds of endpoint. Knows no HTTP and no streams.

It is built as a superset of what any provider shows; `shape` keeps what this provider's records list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refsample.api import tokens
from refsample.api.answer import Choice, Job, LogprobRow, collect, in_time
from refsample.api.echoes import echo, of_prompts
from refsample.api.shape import Shape, fitted, shape_of
from refsample.api.usage import Tally
from refsample.api.voice import spoken
from refsample.generation.sequence import TokenEvent
from refsample.spec.provider import FieldSpec


def answered(job: Job, events: Iterable[TokenEvent]) -> dict[str, Any]:
    """The whole answer. Raises RequestTimeoutError where the request's own time is over before it is there."""
    endpoint, tally = job.request.endpoint, Tally(job)
    choices = collect(job, tally.counted(in_time(job, events)))
    prompts = of_prompts(job)
    make = _messages if endpoint.kind == "chat" else _texts
    every: dict[str, Any] = {**prompts[0]} if len(prompts) == 1 else {}
    every |= {**head(job, endpoint.object), "choices": list(make(job, choices, prompts)), "usage": tally.usage()}
    return {**fitted(every, shown(job, endpoint.response)), "refsample": replay(job)}


def shown(job: Job, records: Mapping[str, FieldSpec]) -> Shape:
    """What of a job's answer is shown. A server that writes logprobs in another shape does not hide that."""
    swapped = "logprobs_shape_swapped" in job.behaviour.flaws
    kept = {name: one for name, one in records.items() if not (swapped and name.startswith("choices[].logprobs."))}
    return shape_of(kept, strict=job.request.strict)


def head(job: Job, kind: str) -> dict[str, Any]:
    """The fields that answers and chunks begin with."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created,
        "model": job.request.model or job.model.name,
        "system_fingerprint": job.fingerprint,
    }


def replay(job: Job) -> dict[str, Any]:
    """The extension key `refsample`: what is needed to make this answer again, what of the request had no effect,
    which field the form of the text comes from, if one does, and what came from the model's generation_config.json."""
    said: dict[str, Any] = {"seed": job.seed, "ignored": list(job.request.ignored)}
    if job.behaviour.generation_config:
        said["generation_config"] = dict(job.defaults)
    return said if job.params.grammar is None else {**said, "constraint": job.params.grammar.field}


def _texts(job: Job, choices: list[Choice], prompts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    echoed = echo(job)
    for index, choice in enumerate(choices):
        text, rows = echoed[choice.prompt_index] if echoed else ("", [])
        delta, reason = spoken(job, choice.text, choice.finish_reason)
        yield {
            **prompts[choice.prompt_index],
            **_ids(job, choice.token_ids),
            "index": index,
            "text": text + (delta["content"] or ""),
            "logprobs": logprobs(job, choice.prompt_index, [*rows, *choice.logprobs]),
            "finish_reason": reason,
            "stop_reason": choice.stop_reason,
        }


def _messages(job: Job, choices: list[Choice], prompts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, choice in enumerate(choices):
        delta, reason = spoken(job, choice.text, choice.finish_reason)
        yield {
            **_ids(job, choice.token_ids),
            "index": index,
            "message": {"role": "assistant", "content": None, "refusal": None, **delta},
            "logprobs": logprobs(job, 0, choice.logprobs),
            "finish_reason": reason,
            "stop_reason": choice.stop_reason,
        }


def _ids(job: Job, ids: list[int]) -> Mapping[str, Any]:
    return {"token_ids": list(ids)} if job.request.return_token_ids else {}


def logprobs(job: Job, prompt_index: int, rows: Iterable[LogprobRow], offset: int = 0) -> Any:
    """The logprobs of rows in the endpoint's shape; null where none were asked for."""
    asked, flaws, tokenizer = job.params.logprobs, job.behaviour.flaws, job.model.tokenizer
    semantics, shape = job.behaviour.semantics, job.request.endpoint.logprobs
    if asked is None:
        return None
    if shape == "bare":
        return tokens.bare(rows, semantics)
    if (shape == "chat") != ("logprobs_shape_swapped" in flaws):
        return {"content": tokens.chat(rows, asked, tokenizer, semantics), "refusal": None}
    drawn = "top_logprobs_n" not in flaws
    return tokens.legacy(rows, job.prompts[prompt_index], tokenizer, semantics, offset, drawn)
