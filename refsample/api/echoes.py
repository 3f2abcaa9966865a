"""What an answer says of its prompts: their text put in front, their tokens' logprobs. Knows no drawn token."""

from __future__ import annotations

from typing import Any

from refsample.api import tokens
from refsample.api.answer import Job, LogprobRow, goes_on
from refsample.generation.scoring import prompt_logprobs


def echo(job: Job) -> list[tuple[str, list[LogprobRow]]]:
    """For each prompt its text (as it was sent, or its ids decoded) and its logprobs, if asked for; [] without echo."""
    if not job.request.echo:
        return []
    decode, wanted = job.model.tokenizer.decode, job.params.logprobs
    texts = [
        sent if isinstance(sent, str) else decode(ids)
        for sent, ids in zip(job.request.prompts, job.prompts, strict=True)
    ]
    if wanted is None:
        return [(text, []) for text in texts]
    return [(text, _rows(job, ids, wanted)) for text, ids in zip(texts, job.prompts, strict=True)]


def _rows(job: Job, ids: tuple[int, ...], wanted: int) -> list[LogprobRow]:
    """The facts of one prompt: all of them or, out of time, RequestTimeoutError; there is no half of them to give."""
    goes_on(job)
    behaviour = job.behaviour
    most = job.params.max_tokens
    to_come = job.model.config.max_position - len(ids) if most is None else most
    return list(prompt_logprobs(job.model, ids, wanted, behaviour.semantics, behaviour.precision, to_come))


def of_prompts(job: Job) -> list[dict[str, Any]]:
    """For each prompt vLLM's fields about it that were asked for: `prompt_logprobs`, `prompt_token_ids`."""
    request, found = job.request, []
    for ids in job.prompts:
        facts: dict[str, Any] = {}
        if request.prompt_logprobs is not None:
            wanted = request.prompt_logprobs
            rows = _rows(job, ids, wanted)
            facts["prompt_logprobs"] = tokens.of_prompt(rows, wanted, job.model.tokenizer, job.behaviour.semantics)
        if request.return_token_ids:
            facts["prompt_token_ids"] = list(ids)
        found.append(facts)
    return found
