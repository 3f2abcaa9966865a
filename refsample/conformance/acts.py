"""Questions that show whether a parameter acts, where no law and no other contract check does: constraints, time
limits, predictions, fields without effect. Each gives a check and a note for the parameter report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from refsample.conformance.act import Act, Seen, answered, asker, refusal
from refsample.conformance.bias import bias_act
from refsample.conformance.calls import CALLS, SCHEMA
from refsample.conformance.contract import ENDING, LENGTH, LONG, UNSTEADY, first, may_want, repeats, sign
from refsample.conformance.derived import derived, without_effect
from refsample.conformance.evidence import Evidence
from refsample.conformance.heat import heat_acts
from refsample.conformance.inputs import INPUT_ACTS
from refsample.conformance.oracle import Oracle
from refsample.conformance.page import Page
from refsample.conformance.penalties import penalty_acts
from refsample.conformance.report import Check, Finding, Mark, Note, Status
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Answer, Choice

MARK: Mapping[Status, Mark] = {
    "honoured": "consistent",
    "different": "inconsistent",
    "dropped": "inconsistent",
    "rejected": "inconsistent",
    "unknown": "skipped",
}
FORMAT = {"name": "answer", "description": "Whether it is so.", "strict": True, "schema": SCHEMA}
DETAILS, ACCEPTED = "completion_tokens_details", "accepted_prediction_tokens"
TIMED_OUT = frozenset({408, 504})


def act_findings(session: Session, oracle: Oracle | None, only: frozenset[str]) -> Iterator[Finding]:
    """One finding for each act that a page has the parameter of."""
    for kind in session.target.kinds:
        page = session.target.pages[kind]
        other = (*penalty_acts(oracle), *_lawless(oracle, first_route=kind == session.target.kinds[0]))
        for act in (*INPUT_ACTS, *ACTS, bias_act(oracle), *other, *derived(page)):
            record = page.record(act.means) or page.endpoint.parameters.get(act.means)
            if record is None or (page.beside(record) and not page.extensions):
                continue
            if record.support != "served" and not act.told:
                continue
            check = f"contract.{kind}.act.{record.name}"
            if not may_want(only, check):
                continue
            if session.exhausted:
                return
            status, said = act.see(session, page)
            limits = record.means == "max_tokens" or record.name in page.endpoint.merged
            if status in ("dropped", "different") and kind in session.overran and not limits:
                status, said = "unknown", f"more tokens came than max_tokens allows, so this shows nothing: {said}"
            kept = "printed" in page.readings("vendor_rules") and record.kept_from(session.target.model)
            if status == "rejected" and kept:
                status, said = "honoured", f"kept for {', '.join(record.kept_for)}, and refused: {said}"
            # what is not on the page is no promise: it is told, and no endpoint is called faulty for it
            told = act.told or page.beside(record)
            quiet = told and status != "honoured" or act.model_dependent and status == "rejected"
            found = Check(check, "contract", f"{kind}: {record.name} acts", "skipped" if quiet else MARK[status], said)
            shown = (record.name, *(name for name in act.inner if name in page.endpoint.parameters))
            evidence = sign(act.fault, status == "dropped", status == "honoured") if act.fault else Evidence()
            yield Finding(found, evidence, tuple(Note(kind, name, status, said) for name in shown))


def _lawless(oracle: Oracle | None, *, first_route: bool) -> tuple[Act, ...]:
    """Acts of fields whose law is not tested: all of them on a further route, temperature where nothing is known."""
    temperature, *cuts = heat_acts()
    if first_route:
        return (temperature,) if oracle is None else ()
    return (Act("seed", _seed, told=True), temperature, *cuts)


def _constrained(fits: Callable[[str], bool], **fields: Any) -> Callable[[Session, Page], Seen]:
    """The text has to fit, unless the token limit cut it short."""

    def judge(choice: Choice, answer: Answer) -> Seen:
        text = choice.text
        if choice.finish_reason == "length":
            return "unknown", f"cut short after {text[:40]!r}"
        return ("honoured" if fits(text.strip()) else "dropped"), f"answered {text[:40]!r}"

    def see(session: Session, page: Page) -> Seen:
        return answered(session, page, judge, **session.greedy(page.kind, 128), **fields)

    return see


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _fits_schema(text: str) -> bool:
    return _is_object(text) and list(json.loads(text)) == ["ok"] and isinstance(json.loads(text)["ok"], bool)


def _ignore_eos(session: Session, page: Page) -> Seen:
    """An answer that ends by itself runs into the limit."""
    for prompt in ENDING[1:]:
        greedy = session.greedy(page.kind, 24)
        plain = first(session.ask(page.kind, prompt, **greedy)[1])
        if plain is not None and plain.finish_reason == "stop":

            def judge(choice: Choice, answer: Answer) -> Seen:
                said = f"finish_reason {choice.finish_reason!r} instead of 'stop'"
                return ("honoured" if choice.finish_reason == "length" else "dropped"), said

            return answered(session, page, judge, prompt, **greedy, ignore_eos=True)
    return "unknown", "no answer ended by itself"


def _include_stop(session: Session, page: Page) -> Seen:
    greedy = session.greedy(page.kind, LENGTH)
    whole = first(session.greedily(page.kind, LONG, LENGTH))
    if whole is None or len(whole.text.strip()) < 8 or not page.takes("stop"):
        return "unknown", "no text to stop in"
    stop = whole.text[len(whole.text) // 2 :][:4]
    expected = whole.text[: whole.text.index(stop)]

    def judge(choice: Choice, answer: Answer) -> Seen:
        kept, cut = choice.text == expected + stop, choice.text.rstrip() == expected.rstrip()
        return ("honoured" if kept else "dropped" if cut else "unknown"), f"stop {stop!r}, got {choice.text!r}"

    return answered(session, page, judge, LONG, **greedy, stop=[stop], include_stop_str_in_output=True)


def _prediction(session: Session, page: Page) -> Seen:
    """A prediction changes no text; where usage has a place for its tokens, those of the very answer are accepted."""
    greedy = session.greedy(page.kind, LENGTH)
    plain = first(session.greedily(page.kind, LONG, LENGTH))
    if plain is None or not plain.text.strip():
        return "unknown", "no plain answer to compare with"

    def judge(choice: Choice, answer: Answer) -> Seen:
        said = f"answered {choice.text[:40]!r}"
        if choice.text != plain.text:
            return ("different", said) if repeats(session, page.kind, plain) else ("unknown", UNSTEADY)
        if f"usage.{DETAILS}.{ACCEPTED}" not in page.endpoint.response:
            return "unknown", f"{said}, and usage has no place for what was accepted"
        details = (answer.usage or {}).get(DETAILS)
        count = details.get(ACCEPTED) if isinstance(details, dict) else None
        taken = isinstance(count, int) and count > 0
        return ("honoured" if taken else "dropped"), f"{said}, {ACCEPTED} {count} for the very answer"

    content = {"type": "content", "content": plain.text}
    return answered(session, page, judge, LONG, **greedy, prediction=content)


def _timeout(session: Session, page: Page) -> Seen:
    """A long answer does not come within a thousandth of a second, and a short one does within a minute."""
    kind, least = page.kind, session.limit(page.kind, 1)
    exchange, answer = session.ask(kind, "Hello", max_tokens=least, inference_timeout=60)
    if answer is None:
        return refusal(exchange)
    long = session.greedy(kind, 128)
    exchange, answer = session.ask(kind, LONG, **long, inference_timeout=0.001)
    choice = first(answer)
    if exchange.status in {*TIMED_OUT, page.provider.errors["timeout"].status}:
        return "honoured", f"60 taken; 0.001: {error_text(exchange)}"
    if choice is None:
        return "unknown", f"60 taken; 0.001: {error_text(exchange)}"
    whole = first(session.ask(kind, LONG, **long)[1])
    said = f"60 taken; 0.001 gave {choice.text[:40]!r}"
    if whole is not None and len(choice.text) < len(whole.text):
        return ("honoured" if "text_so_far" in page.readings("timeout") else "different"), said
    return "dropped", said


def _suffix(session: Session, page: Page) -> Seen:
    """Text after the gap is text that the model reads, so usage counts it."""
    greedy = session.greedy(page.kind, 1)
    exchange, answer = asker(session, page)(page.kind, LONG, **greedy, suffix=" saw a ship with red sails.")
    if answer is None:
        return refusal(exchange)
    plain = session.ask(page.kind, LONG, **greedy)[1]
    counts = [(a.usage or {}).get("prompt_tokens") if a is not None else None for a in (answer, plain)]
    if None in counts:
        return "unknown", "answered, and no usage tells whether it was read"
    return ("honoured" if counts[0] != counts[1] else "dropped"), f"prompt_tokens {counts[0]}, without it {counts[1]}"


def _seed(session: Session, page: Page) -> Seen:
    """Texts of one seed are equal and those of another differ; kernel noise may part them, so no more than told."""
    texts: list[str] = []
    for seed in (1, 1, 2):
        exchange, answer = session.ask(page.kind, LONG, max_tokens=LENGTH, temperature=1.0, seed=seed)
        choice = first(answer)
        if choice is None:
            return refusal(exchange)
        texts.append(choice.text)
    said = f"seeds 1, 1 and 2 gave {', '.join(repr(text[:24]) for text in texts)}"
    if texts[0] != texts[1]:
        return "dropped", said
    return ("honoured" if texts[1] != texts[2] else "unknown"), said


ACTS: tuple[Act, ...] = (
    Act("guided_choice", _constrained(lambda t: t in ("alpha", "beta"), guided_choice=["alpha", "beta"])),
    Act("guided_regex", _constrained(lambda t: re.fullmatch("[0-9]{3}", t) is not None, guided_regex="[0-9]{3}")),
    Act("guided_json", _constrained(_fits_schema, guided_json=SCHEMA)),
    Act("guided_grammar", _constrained(lambda t: t in ("yes", "no"), guided_grammar='root ::= "yes" | "no"')),
    Act("response_format", _constrained(_is_object, response_format={"type": "json_object"}), model_dependent=True),
    Act(
        "response_format.json_schema",
        _constrained(_fits_schema, response_format={"type": "json_schema", "json_schema": FORMAT}),
        model_dependent=True,
        inner=("response_format.type", *(f"response_format.json_schema.{key}" for key in FORMAT)),
    ),
    *CALLS,
    Act("ignore_eos", _ignore_eos),
    Act("include_stop_str_in_output", _include_stop),
    Act("prediction", _prediction, model_dependent=True, inner=("prediction.type", "prediction.content")),
    Act("suffix", _suffix, model_dependent=True),
    Act("user", without_effect("user", "refsample")),
    Act("safety_identifier", without_effect("safety_identifier", "refsample")),
    Act("inference_timeout", _timeout),
)
