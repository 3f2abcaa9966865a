"""Questions that show whether a parameter acts, where no law and no other contract check does: constraints, names of
limits, merged objects, predictions, fields without effect. Each gives a check and a note for the parameter report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refsample.conformance.contract import ENDING, LENGTH, LONG, first, may_want, tokens_counted
from refsample.conformance.page import Page
from refsample.conformance.report import Check, Finding, Mark, Note, Status
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Answer, Choice, read_answer
from refsample.conformance.transport import Exchange

Seen = tuple[Status, str]
MARK: Mapping[Status, Mark] = {
    "honoured": "consistent",
    "different": "inconsistent",
    "dropped": "inconsistent",
    "rejected": "inconsistent",
    "unknown": "skipped",
}
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks a word up.", "parameters": SCHEMA}}
ASK = "Is the sea blue? Answer."


@dataclass(frozen=True, slots=True)
class Act:
    """One parameter, and the question that shows it."""

    means: str
    see: Callable[[Session, Page], Seen]
    model_dependent: bool = False
    """A refusal may be the model's, not the page's."""


def act_findings(session: Session, only: frozenset[str]) -> Iterator[Finding]:
    """One finding for each act that a page has the parameter of."""
    for kind in session.target.kinds:
        page = session.target.pages[kind]
        for act in (*ACTS, *_names(page)):
            record = page.record(act.means) or page.endpoint.parameters.get(act.means)
            if record is None or record.support == "refused" or (record.extension and not page.extensions):
                continue
            name = record.name
            check = f"contract.{kind}.act.{name}"
            if not may_want(only, check):
                continue
            if session.exhausted:
                return
            status, said = act.see(session, page)
            excused = act.model_dependent or record.extension  # what is not on the page may be refused
            mark: Mark = "skipped" if excused and status == "rejected" else MARK[status]
            title = f"{kind}: {name} acts"
            yield Finding(Check(check, "contract", title, mark, said), notes=(Note(kind, name, status, said),))


def _answered(
    session: Session, page: Page, judge: Callable[[Choice, Answer], Seen], prompt: str = ASK, **fields: Any
) -> Seen:
    exchange, answer = session.ask(page.kind, prompt, **fields)
    choice = first(answer)
    if answer is None or choice is None:
        return _refusal(exchange)
    return judge(choice, answer)


def _asker(session: Session, page: Page) -> Callable[..., tuple[Exchange, Answer | None]]:
    """A page may keep fields for some vendors' models: whether this is one, nobody here knows."""
    return session.ask_beyond if "printed" in page.readings("vendor_rules") else session.ask


def _refusal(exchange: Exchange) -> Seen:
    return ("rejected" if 400 <= exchange.status < 500 else "unknown"), error_text(exchange)


def _constrained(fits: Callable[[str], bool], **fields: Any) -> Callable[[Session, Page], Seen]:
    """The text has to fit, unless the token limit cut it short."""

    def judge(choice: Choice, answer: Answer) -> Seen:
        text = choice.text
        if choice.finish_reason == "length":
            return "unknown", f"cut short after {text[:40]!r}"
        return ("honoured" if fits(text.strip()) else "dropped"), f"answered {text[:40]!r}"

    def see(session: Session, page: Page) -> Seen:
        return _answered(session, page, judge, **session.greedy(page.kind, 128), **fields)

    return see


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _fits_schema(text: str) -> bool:
    return _is_object(text) and list(json.loads(text)) == ["ok"] and isinstance(json.loads(text)["ok"], bool)


def _tools(session: Session, page: Page) -> Seen:
    fields: dict[str, Any] = {"tools": [TOOL], **({"tool_choice": "required"} if page.takes("tool_choice") else {})}
    exchange, answer = _asker(session, page)(page.kind, ASK, **session.greedy(page.kind, 128), **fields)
    choice = first(answer)
    if choice is None:
        return _refusal(exchange)
    entry = exchange.json()["choices"][0]
    message = entry.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    said = f"finish_reason {choice.finish_reason!r}, {len(calls or [])} calls"
    if calls or (page.kind == "completions" and choice.finish_reason == "tool_calls"):
        return "honoured", said
    return ("unknown" if choice.finish_reason == "length" else "dropped"), said


def _ignore_eos(session: Session, page: Page) -> Seen:
    """An answer that ends by itself runs into the limit."""
    for prompt in ENDING[1:]:
        greedy = session.greedy(page.kind, 24)
        plain = first(session.ask(page.kind, prompt, **greedy)[1])
        if plain is not None and plain.finish_reason == "stop":

            def judge(choice: Choice, answer: Answer) -> Seen:
                said = f"finish_reason {choice.finish_reason!r} instead of 'stop'"
                return ("honoured" if choice.finish_reason == "length" else "dropped"), said

            return _answered(session, page, judge, prompt, **greedy, ignore_eos=True)
    return "unknown", "no answer ended by itself"


def _include_stop(session: Session, page: Page) -> Seen:
    greedy = session.greedy(page.kind, LENGTH)
    whole = first(session.ask(page.kind, LONG, **greedy)[1])
    if whole is None or len(whole.text.strip()) < 8 or not page.takes("stop"):
        return "unknown", "no text to stop in"
    stop = whole.text[len(whole.text) // 2 :][:4]
    expected = whole.text[: whole.text.index(stop)]

    def judge(choice: Choice, answer: Answer) -> Seen:
        kept, cut = choice.text == expected + stop, choice.text.rstrip() == expected.rstrip()
        return ("honoured" if kept else "dropped" if cut else "unknown"), f"stop {stop!r}, got {choice.text!r}"

    return _answered(session, page, judge, LONG, **greedy, stop=[stop], include_stop_str_in_output=True)


def _prediction(session: Session, page: Page) -> Seen:
    """A prediction changes no text."""
    greedy = session.greedy(page.kind, LENGTH)
    plain = first(session.ask(page.kind, LONG, **greedy)[1])
    if plain is None:
        return "unknown", "no plain answer to compare with"

    def judge(choice: Choice, answer: Answer) -> Seen:
        return ("honoured" if choice.text == plain.text else "different"), f"answered {choice.text[:40]!r}"

    content = {"type": "content", "content": plain.text}
    return _answered(session, page, judge, LONG, **greedy, prediction=content)


def _taken(means: str, value: Any, *, model_dependent: bool = False) -> Act:
    """Nothing is to be seen of it but that it is taken."""

    def see(session: Session, page: Page) -> Seen:
        least = session.limit(page.kind, 1)
        exchange, answer = _asker(session, page)(page.kind, "Hello", max_tokens=least, **{means: value})
        return ("honoured", "taken") if answer is not None else _refusal(exchange)

    return Act(means, see, model_dependent)


def _limit(name: str, outer: str = "") -> Callable[[Session, Page], Seen]:
    """Another name of the token limit, or one inside an object that is merged, ends the answer."""

    def see(session: Session, page: Page) -> Seen:
        count = session.limit(page.kind, 3)
        greedy = session.greedy(page.kind, 3)
        del greedy["max_tokens"]
        body = session.body(page.kind, LONG, **greedy)
        exchange = session.post(page.kind, {**body, **({outer: {name: count}} if outer else {name: count})})
        answer = read_answer(exchange)
        choice = first(answer)
        if choice is None:
            return _refusal(exchange)
        told = tokens_counted(answer)
        said = f"{name} {count}: {told} tokens, finish_reason {choice.finish_reason!r}"
        if choice.finish_reason == "length" and told in (None, count):
            return "honoured", said
        return ("unknown" if choice.finish_reason == "stop" and (told or 0) <= count else "dropped"), said

    return see


def _names(page: Page) -> Iterator[Act]:
    """Other names of the token limit, and objects that are merged into the body."""
    known = page.record("max_tokens")
    for record in page.endpoint.parameters.values():
        if record.means == "max_tokens" and known is not None and record is not known and not record.extension:
            yield Act(record.name, _limit(record.name))
    for outer in page.endpoint.merged:
        if known is not None and not page.endpoint.parameters[outer].extension:
            yield Act(outer, _limit(known.name, outer))


ACTS: tuple[Act, ...] = (
    Act("guided_choice", _constrained(lambda t: t in ("alpha", "beta"), guided_choice=["alpha", "beta"])),
    Act("guided_regex", _constrained(lambda t: re.fullmatch("[0-9]{3}", t) is not None, guided_regex="[0-9]{3}")),
    Act("guided_json", _constrained(_fits_schema, guided_json=SCHEMA)),
    Act("guided_grammar", _constrained(lambda t: t in ("yes", "no"), guided_grammar='root ::= "yes" | "no"')),
    Act("response_format", _constrained(_is_object, response_format={"type": "json_object"}), model_dependent=True),
    Act("tools", _tools, model_dependent=True),
    Act("ignore_eos", _ignore_eos),
    Act("include_stop_str_in_output", _include_stop),
    Act("prediction", _prediction, model_dependent=True),
    _taken("user", "refsample"),
    _taken("safety_identifier", "refsample"),
    _taken("inference_timeout", 60),
    _taken("inference_extra_headers", {}),
    _taken("metadata", {}),
    _taken("store", False),
    _taken("service_tier", "auto"),
    _taken("parallel_tool_calls", True, model_dependent=True),
)
