"""Contract checks on answers: shapes, counts, stops, choices, logprobs, streams, as the provider's page promises them.

None of them needs a reference: what is expected follows from the page or from another answer of the same endpoint.
Each yields findings; a refusal to answer at all is a finding too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from refsample.conformance.evidence import Evidence
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import TOP_LOGPROBS, Kind, Session, error_text, logprob_fields
from refsample.conformance.shape import shape_errors
from refsample.conformance.transcript import Answer, Choice, read_stream
from refsample.conformance.transport import Exchange
from refsample.spec.provider import EndpointSpec, FieldSpec, ProviderSpec

CERTAIN = 13.8
"""Gain (nats) of a deterministic answer that one hypothesis predicts and another does not: a chance of 1e-6 that an
honest answer looks otherwise."""
LONG = "Once upon a time there was a girl who lived near the sea. One day she"
LENGTH = 12
GREEDY = {"max_tokens": LENGTH, "temperature": 0.0}
UNSTEADY = "greedy text is not the same twice here, so texts cannot be compared"

ContractCheck = Callable[[Session, ProviderSpec, Kind], Iterator[Finding]]


def endpoint_of(provider: ProviderSpec, kind: Kind) -> EndpointSpec:
    return next(e for e in provider.endpoints.values() if e.kind == kind)


def _refused(session: Session, check: str, title: str, kind: Kind, exchange: Exchange) -> Finding:
    said = error_text(exchange) if exchange.status != 200 else "an answer without choices"
    return finding(check, "contract", title, False, f"refused: {said}", session.curl(kind, exchange.body or {}))


def _first(answer: Answer | None) -> Choice | None:
    return answer.choices[0] if answer is not None and answer.choices else None


def check_shape(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """Fields and types of a plain answer, id prefix, usage, and the token limit. One finding for each wrong field."""
    exchange, answer = session.ask(kind, LONG, **GREEDY)
    curl = session.curl(kind, exchange.body or {})
    check, title = f"contract.{kind}.shape", f"{kind}: fields of the answer"
    if answer is None or not answer.choices:
        yield _refused(session, check, title, kind, exchange)
        return
    spec, body = endpoint_of(provider, kind), exchange.json()
    yield from _fields(check, title, shape_errors(body, spec.response), curl)
    prefix, title = str(body.get("id", "")), f"{kind}: id starts with {spec.id_prefix}"
    fine = prefix.startswith(spec.id_prefix)
    yield finding(f"contract.{kind}.id_prefix", "contract", title, fine, f"id {prefix[:24]!r}", curl)
    yield from _counts(answer, kind, curl)


def _fields(check: str, title: str, errors: Sequence[tuple[str, str]], curl: str) -> Iterator[Finding]:
    """One finding where all fields are as promised, else one for each that is not."""
    if not errors:
        yield finding(check, "contract", title, True, "as promised", curl)
    for path, problem in errors:
        yield finding(f"{check}.{path.replace('[]', '')}", "contract", title, False, f"{path} {problem}", curl)


def _counts(answer: Answer, kind: Kind, curl: str) -> Iterator[Finding]:
    """usage adds up, and the token limit is kept and named; nothing of it where no usage comes."""
    usage = answer.usage
    if usage is None:
        title = f"{kind}: usage adds up"
        yield Finding(Check(f"contract.{kind}.usage", "contract", title, "skipped", "the answer has no usage"))
        return
    given = [usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total")]
    counts = [c for c in given if isinstance(c, int)]
    fine = len(counts) == 3 and counts[0] + counts[1] == counts[2]
    said = f"prompt, completion, total = {given}"
    yield finding(f"contract.{kind}.usage", "contract", f"{kind}: usage adds up", fine, said, curl)
    reason, count = answer.choices[0].finish_reason, counts[1] if len(counts) == 3 else None
    kept = count == LENGTH if reason == "length" else reason == "stop" and count is not None and count <= LENGTH
    said = f"finish_reason {reason!r} after {count} of {LENGTH} tokens"
    yield finding(f"contract.{kind}.max_tokens", "contract", f"{kind}: max_tokens is kept", kept, said, curl)


def check_stop(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """A stop string taken from the middle of the endpoint's own greedy answer ends it there, and is removed."""
    check, title = f"contract.{kind}.stop", f"{kind}: the answer ends before the stop text"
    exchange, answer = session.ask(kind, LONG, **GREEDY)
    whole = _first(answer)
    if whole is None or len(whole.text.strip()) < 8:
        said = error_text(exchange) if whole is None else f"the answer {whole.text!r} is too short to stop in"
        yield Finding(Check(check, "contract", title, "inconclusive", said))
        return
    text, middle = whole.text, len(whole.text) // 2
    stop = text[middle : middle + 4]
    expected = text[: text.index(stop)]
    exchange, answer = session.ask(kind, LONG, **GREEDY, stop=[stop])
    got = _first(answer)
    if got is None:
        yield _refused(session, check, title, kind, exchange)
        return
    fine, kept = got.text.rstrip() == expected.rstrip(), got.text == expected + stop
    if not fine and not kept and not _repeats(session, kind, whole):
        yield Finding(Check(check, "contract", title, "inconclusive", UNSTEADY))
        return
    evidence = Evidence({"stop_text_kept": CERTAIN if kept else -CERTAIN if fine else 0.0}, observations=1)
    curl = session.curl(kind, exchange.body or {})
    said = f"stop {stop!r}: expected {expected!r}, got {got.text!r}"
    yield finding(check, "contract", title, fine, said, curl, evidence=evidence)
    title, said = f"{kind}: a stop text gives finish_reason stop", f"finish_reason {got.finish_reason!r}"
    yield finding(f"contract.{kind}.finish_reason", "contract", title, got.finish_reason == "stop", said, curl)


def check_n(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """n choices come back with indexes 0..n-1, usage counts the tokens of all of them, and greedy ones are equal."""
    exchange, answer = session.ask(kind, LONG, max_tokens=3, temperature=1.0, n=2, **_seeded(session))
    curl, title = session.curl(kind, exchange.body or {}), f"{kind}: n choices"
    if answer is None:
        yield finding(f"contract.{kind}.n_range", "contract", title, False, f"n=2: {error_text(exchange)}", curl)
        return
    indexes = [c.index for c in answer.choices]
    yield finding(f"contract.{kind}.n", "contract", title, indexes == [0, 1], f"n=2: indexes {indexes}", curl)
    exchange, answer = session.ask(kind, LONG, max_tokens=3, temperature=0.0, n=2)
    choices = answer.choices if answer is not None else ()
    texts, curl = [c.text for c in choices], session.curl(kind, exchange.body or {})
    said = f"texts {texts}" if answer is not None else error_text(exchange)
    fine, title = len(texts) == 2 and texts[0] == texts[1], f"{kind}: n = 2 at temperature 0 gives two equal choices"
    yield finding(f"contract.{kind}.greedy_n", "contract", title, fine, said, curl)
    if answer is not None and answer.usage is not None and fine and all(c.finish_reason == "length" for c in choices):
        count = answer.usage.get("completion_tokens")
        title, said = f"{kind}: usage counts every choice", f"2 choices of 3 tokens: completion_tokens {count}"
        yield finding(f"contract.{kind}.n_usage", "contract", title, count == 6, said, curl)


def _repeats(session: Session, kind: Kind, known: Choice | None = None) -> bool:
    """Whether greedy text is the same again: where it is not, kernels depend on the batch, and texts prove nothing."""
    texts = {known.text} if known is not None else set()
    for _ in range(3):
        choice = _first(session.ask(kind, LONG, **GREEDY)[1])
        texts |= {choice.text} if choice is not None else set()
    return len(texts) == 1


def _seeded(session: Session) -> dict[str, int]:
    """A fixed seed where the endpoint takes one, so that a run can be repeated."""
    return {"seed": session.seed % 2**31} if "seed" in session.target.fields else {}


def check_logprobs(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """Logprobs come in the shape of the route, one entry a token, none above 0."""
    check, title = f"contract.{kind}.logprobs", f"{kind}: one logprob a token, none above 0"
    if session.target.top_logprobs.get(kind) is None:
        yield Finding(Check(check, "contract", title, "skipped", "the endpoint returns none"))
        return
    exchange, answer = session.ask(kind, LONG, **GREEDY, **logprob_fields(kind, TOP_LOGPROBS))
    curl, choice = session.curl(kind, exchange.body or {}), _first(answer)
    if answer is None or choice is None or choice.tokens is None:
        yield _refused(session, check, title, kind, exchange)
        return
    shape = choice.logprobs_shape
    name = f"{kind}: shape of logprobs"
    yield finding(f"contract.{kind}.logprobs_shape", "contract", name, shape == kind, f"{shape} shape", curl)
    if shape == kind:
        records = {n: f for n, f in endpoint_of(provider, kind).response.items() if n.startswith("choices[].logprobs.")}
        yield from _fields(f"contract.{kind}.logprobs_fields", name, shape_errors(exchange.json(), records), curl)
    values = [r.logprob for t in choice.tokens for r in (t.chosen, *t.top) if r.logprob is not None]
    count, largest = (answer.usage or {}).get("completion_tokens"), max(values, default=0.0)
    said = f"{len(choice.tokens)} entries for {'untold' if count is None else count} tokens, largest {largest:.3g}"
    yield finding(check, "contract", title, count in (None, len(choice.tokens)) and largest <= 1e-6, said, curl)


def check_stream(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """A stream tells the same answer, ends with [DONE], and carries usage in a chunk of its own when asked."""
    plain = session.ask(kind, LONG, **GREEDY)[1]
    body: dict[str, Any] = session.body(kind, LONG, **GREEDY, stream=True, stream_options={"include_usage": True})
    exchange = session.send("POST", session.target.paths[kind], body)
    streamed, curl = read_stream(exchange), session.curl(kind, body)
    check, title = f"contract.{kind}.stream", f"{kind}: a stream tells the same answer"
    if streamed is None or plain is None:
        yield _refused(session, check, title, kind, exchange)
        return
    pairs = [[(c.text, c.finish_reason) for c in a.choices] for a in (plain, streamed)]
    same = pairs[0] == pairs[1]
    if not same and not _repeats(session, kind, _first(plain)):
        yield Finding(Check(check, "contract", title, "inconclusive", UNSTEADY))
    else:
        yield finding(
            check, "contract", title, same, "equal" if same else f"plain {pairs[0]}, streamed {pairs[1]}", curl
        )
    records, name = endpoint_of(provider, kind).chunk, f"{kind}: fields of a stream's chunks"
    yield from _fields(f"contract.{kind}.chunk", name, _chunk_errors(exchange, records), curl)
    title, said = f"{kind}: a stream ends with [DONE]", "[DONE] seen" if streamed.done else "no [DONE] at the end"
    yield finding(f"{check}_done", "contract", title, streamed.done, said, curl)
    title = f"{kind}: usage comes in one chunk without choices"
    said = f"choices in the chunks with usage: {list(streamed.usage_events)}"
    yield finding(f"{check}_usage_place", "contract", title, streamed.usage_events == (0,), said, curl)
    if streamed.usage is not None and plain.usage is not None:
        counts = [usage.get("completion_tokens") for usage in (plain.usage, streamed.usage)]
        title, said = f"{kind}: a stream counts the same tokens", f"plain {counts[0]}, streamed {counts[1]}"
        yield finding(f"{check}_usage", "contract", title, counts[0] == counts[1], said, curl)


def _chunk_errors(exchange: Exchange, records: Mapping[str, FieldSpec]) -> list[tuple[str, str]]:
    """What is wrong in any chunk of a stream, each field once."""
    found: dict[str, str] = {}
    for payload in exchange.events():
        if payload != "[DONE]":
            for path, problem in shape_errors(json.loads(payload), records):
                found.setdefault(path, problem)
    return list(found.items())


ANSWER_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_shape, ("shape", "id_prefix", "usage", "max_tokens")),
    (check_stop, ("stop", "finish_reason")),
    (check_n, ("n", "n_range", "n_usage", "greedy_n")),
    (check_logprobs, ("logprobs", "logprobs_shape", "logprobs_fields")),
    (check_stream, ("stream", "stream_done", "stream_usage_place", "stream_usage", "chunk")),
)
