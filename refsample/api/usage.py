"""Counts what an answer cost: prompt tokens, sampled tokens, predicted ones. Knows no text and no shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from refsample.api.answer import Event, Job
from refsample.text.reasoning import thought_tokens


class Tally:
    """Follows the events of one job and counts them."""

    __slots__ = ("_job", "_sampled", "_texts")

    def __init__(self, job: Job) -> None:
        self._job = job
        self._sampled = 0
        self._texts: dict[tuple[int, int], list[str]] = {}
        """Of models that think aloud: the text of each token, by prompt and choice."""

    def counted(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events. None, where the next is not there yet, passes through."""
        flaws, ends = self._job.behaviour.flaws, self._job.model.tokenizer.eos_token_ids
        for event in events:
            if event is None:
                yield event
                continue
            first = event.prompt_index == event.choice == 0
            ended = event.finish_reason == "stop" and event.stop_reason is None and event.token_id in ends
            uncounted = ("eos_not_counted" in flaws and ended) or ("usage_first_choice" in flaws and not first)
            self._sampled += not uncounted
            if self._job.marks is not None:
                self._texts.setdefault((event.prompt_index, event.choice), []).append(event.text)
            yield event

    def usage(self) -> dict[str, Any]:
        """Prompt tokens once per prompt; every sampled token, end tokens and unanswered candidates included.

        With a prediction also how many of its tokens were drawn and how many were not. Those cost nothing here, so
        `completion_tokens` is what it is without a prediction. Of a model that thinks aloud also the thought's tokens.
        """
        job = self._job
        prompt = sum(len(ids) for ids in job.prompts)
        counts: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": self._sampled,
            "total_tokens": prompt + self._sampled,
        }
        details: dict[str, int] = {}
        if job.request.prediction is not None:
            details["accepted_prediction_tokens"] = job.events.accepted_prediction
            details["rejected_prediction_tokens"] = job.events.rejected_prediction
        if job.marks is not None:
            details["reasoning_tokens"] = sum(thought_tokens(texts, job.marks) for texts in self._texts.values())
        return {**counts, "completion_tokens_details": details} if details else counts
