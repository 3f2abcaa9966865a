"""Acts that follow from a page's records alone: fields refused or ignored, second names, objects that are merged.

Which fields those are stands in the provider's file; nothing here knows a field by what it is for, but for the values
that show a stop or a logprob.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from refsample.conformance.act import Act, Seen, refusal
from refsample.conformance.contract import LENGTH, LONG, UNSTEADY, first, repeats, tokens_counted
from refsample.conformance.page import Page
from refsample.conformance.session import Session, error_text
from refsample.conformance.transcript import Choice, read_answer, read_stream
from refsample.spec.provider import ParameterSpec

MADE: dict[str, Any] = {
    "string": "refsample", "string[]": ["refsample"], "object": {"refsample": "refsample"}, "object[]": [],
    "map<string,string>": {"refsample": "refsample"}, "boolean": True, "integer": 1, "number": 1.0,
}  # fmt: skip
"""A value of each type that asks for something."""
WRONG_KEY = frozenset({401, 403})


def derived(page: Page) -> Iterator[Act]:
    """Acts for records of the page that have no act of their own."""
    for record in page.endpoint.parameters.values():
        if record.extension or "[]" in record.name:
            continue
        main = page.record(record.means)
        if record.support == "refused":
            yield Act(record.name, _refused(record), told=True)
        elif record.support == "ignored":
            value = record.neutral[-1] if record.neutral else _made(record)
            yield Act(record.name, without_effect(record.name, value, made=not record.neutral), told=True)
        elif record.secret:
            yield Act(record.name, _key(record))
        elif main is not None and main is not record:
            if record.means == "max_tokens":
                yield Act(record.name, _limit(record.name))
            elif record.means in ("stop", "logprobs"):
                yield Act(record.name, _second_name(record))
    main = page.record("max_tokens")
    for outer in page.endpoint.merged:
        if main is not None and not page.endpoint.parameters[outer].extension:
            yield Act(outer, _limit(main.name, outer))


def _made(record: ParameterSpec) -> Any:
    return record.choices[0] if record.choices else MADE[record.types[0]]


def _refused(record: ParameterSpec) -> Callable[[Session, Page], Seen]:
    """A value that asks for something is an error that names the field; one that asks for nothing is taken.

    What a provider's file has as refused is what a server of text alone refuses: another may well serve it.
    """

    def see(session: Session, page: Page) -> Seen:
        least = {"max_tokens": session.limit(page.kind, 1)}
        exchange, answer = session.ask_beyond(page.kind, "Hello", **least, **{record.name: _made(record)})
        said = error_text(exchange)
        if answer is not None:
            return "different", f"{_made(record)!r} gave an answer"
        if not 400 <= exchange.status < 500:
            return "unknown", said
        if record.name not in exchange.text:
            return "different", f"refused without its name: {said}"
        for neutral in record.neutral[:1]:
            exchange, answer = session.ask(page.kind, "Hello", **least, **{record.name: neutral})
            if answer is None:
                return "different", f"{neutral!r} is refused too: {error_text(exchange)}"
        taken = f", {record.neutral[0]!r} taken" if record.neutral else ""
        return "honoured", f"refused as the page's file says{taken}: {said}"

    return see


def _key(record: ParameterSpec) -> Callable[[Session, Page], Seen]:
    """A key in the body is taken there; a wrong one may be refused as such.

    An endpoint that is asked with a key puts that in place of the one made up here, and no probe ever sees it.
    """

    def see(session: Session, page: Page) -> Seen:
        fields = {"max_tokens": session.limit(page.kind, 1), record.name: "refsample-no-key"}
        exchange, answer = session.ask_beyond(page.kind, "Hello", **fields)
        if answer is not None:
            return "honoured", "a key is taken in the body"
        if exchange.status in WRONG_KEY:
            return "honoured", f"a wrong key is refused: {error_text(exchange)}"
        return refusal(exchange)

    return see


def without_effect(name: str, value: Any, *, made: bool = False) -> Callable[[Session, Page], Seen]:
    """The value is taken, and the greedy answer is the one without it.

    name: may reach into an object. made: nobody promised that this value is one; its refusal says nothing.
    """
    outer, _, inner = name.partition(".")

    def see(session: Session, page: Page) -> Seen:
        kind, stream = page.kind, outer == "stream_options"
        body = session.body(kind, LONG, **session.greedy(kind, LENGTH))
        body |= {outer: {inner: value} if inner else value} | ({"stream": True} if stream else {})
        exchange = session.post(kind, body)
        choice = first(read_stream(exchange) if stream else read_answer(exchange))
        if choice is None:
            status, said = refusal(exchange)
            return ("unknown" if made else status), f"{value!r}: {said}"
        return _same(session, page, choice)

    return see


def _same(session: Session, page: Page, choice: Choice) -> Seen:
    plain = first(session.greedily(page.kind, LONG, LENGTH))
    if plain is None:
        return "unknown", "no plain answer to compare with"
    if choice.text == plain.text:
        return "honoured", "taken, and the answer is the same without it"
    if not repeats(session, page.kind, plain):
        return "unknown", UNSTEADY
    return "different", f"answered {choice.text[:40]!r}, without it {plain.text[:40]!r}"


def _second_name(record: ParameterSpec) -> Callable[[Session, Page], Seen]:
    """A second name of stop or logprobs does what the first one does, and that is something."""

    def see(session: Session, page: Page) -> Seen:
        kind, greedy = page.kind, session.greedy(page.kind, LENGTH)
        plain = first(session.greedily(kind, LONG, LENGTH))
        if plain is None or len(plain.text.strip()) < 8:
            return "unknown", "no plain answer to compare with"
        value: Any = True if "boolean" in record.types else 1
        if record.means == "stop":
            stop = plain.text[len(plain.text) // 2 :][:4]
            value = [stop] if "string[]" in record.types else stop
        answers = [session.ask(kind, LONG, **greedy, **{name: value}) for name in (record.name, record.means)]
        mine, main = (first(answer) for _, answer in answers)
        if mine is None:
            return refusal(answers[0][0])
        shown = [_shown(choice) for choice in (mine, main, plain) if choice is not None]
        said = f"{value!r} gave {_told(mine)}"
        if len(shown) < 3 or shown[1] == shown[2]:
            return "unknown", f"{said}, but {record.means} shows nothing to compare with"
        if shown[0] == shown[1]:
            return "honoured", f"{said}, as {record.means} does"
        return ("dropped" if shown[0] == shown[2] else "different"), f"{said}, not what {record.means} gives"

    return see


def _shown(choice: Choice) -> tuple[str, str | None, int | None]:
    return choice.text, choice.finish_reason, None if choice.tokens is None else len(choice.tokens)


def _told(choice: Choice) -> str:
    return f"{choice.text[:40]!r} with {'no' if choice.tokens is None else len(choice.tokens)} logprobs"


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
            return refusal(exchange)
        told = tokens_counted(answer)
        said = f"{name} {count}: {told} tokens, finish_reason {choice.finish_reason!r}"
        if choice.finish_reason == "length" and told in (None, count):
            return "honoured", said
        return ("unknown" if choice.finish_reason == "stop" and (told or 0) <= count else "dropped"), said

    return see
