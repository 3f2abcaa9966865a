"""Contract checks: shapes, counts, stops, streams, refusals, as the provider's page promises them.

None of them needs a reference: what is expected follows from the page or from another answer of the same endpoint.
Each yields findings; a refusal to answer at all is a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from refsample.conformance.evidence import Evidence
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import TOP_LOGPROBS, Kind, Session, error_text, logprob_fields
from refsample.conformance.shape import shape_errors
from refsample.conformance.transcript import Answer, Choice, read_stream
from refsample.conformance.transport import Exchange
from refsample.spec.provider import EndpointSpec, ParameterSpec, ProviderSpec

CERTAIN = 13.8
"""Gain (nats) of a deterministic answer that one hypothesis predicts and another does not: a chance of 1e-6 that an
honest answer looks otherwise."""
LONG = "Once upon a time there was a girl who lived near the sea. One day she"
LENGTH = 12

ContractCheck = Callable[[Session, ProviderSpec, Kind], Iterator[Finding]]


def contract_findings(session: Session, provider: ProviderSpec) -> Iterator[Finding]:
    """All contract checks, on every route the endpoint has."""
    for kind in session.target.kinds:
        for check in CHECKS:
            yield from check(session, provider, kind)
    yield from _models(session)
    yield from _unknown_model(session, session.target.kinds[0])


def _endpoint(provider: ProviderSpec, kind: Kind) -> EndpointSpec:
    return next(e for e in provider.endpoints.values() if e.kind == kind)


def _refused(session: Session, check: str, title: str, kind: Kind, exchange: Exchange) -> Finding:
    said = error_text(exchange) if exchange.status != 200 else "an answer without choices"
    return finding(check, "contract", title, False, f"refused: {said}", session.curl(kind, exchange.body or {}))


def _first(answer: Answer) -> Choice | None:
    return answer.choices[0] if answer.choices else None


def check_shape(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """Fields and types of a plain answer, id prefix, finish_reason and count at the token limit, usage."""
    exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, temperature=0.0)
    curl = session.curl(kind, exchange.body or {})
    title = f"{kind}: fields of the answer"
    if answer is None or not answer.choices:
        yield _refused(session, f"contract.{kind}.shape", title, kind, exchange)
        return
    spec, body = _endpoint(provider, kind), exchange.json()
    errors = shape_errors(body, spec.response)
    yield finding(f"contract.{kind}.shape", "contract", title, not errors, "; ".join(errors) or "as promised", curl)
    prefix = str(body.get("id", ""))
    yield finding(
        f"contract.{kind}.id_prefix",
        "contract",
        f"{kind}: id starts with {spec.id_prefix}",
        prefix.startswith(spec.id_prefix),
        f"id {prefix[:24]!r}",
        curl,
    )
    yield from _counts(answer, kind, curl)


def _counts(answer: Answer, kind: Kind, curl: str) -> Iterator[Finding]:
    """usage adds up, and the token limit is kept and named."""
    usage = answer.usage or {}
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
    title, check = f"{kind}: the answer ends before the stop text", f"contract.{kind}.stop"
    exchange, whole = session.ask(kind, LONG, max_tokens=LENGTH, temperature=0.0)
    choice = _first(whole) if whole is not None else None
    if choice is None or len(choice.text.strip()) < 8:
        return
    text = choice.text
    middle = len(text) // 2
    stop = text[middle : middle + 4]
    expected = text[: text.index(stop)]
    exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, temperature=0.0, stop=[stop])
    if answer is None or not answer.choices:
        yield _refused(session, check, title, kind, exchange)
        return
    got = answer.choices[0]
    kept = got.text == expected + stop
    fine = got.text.rstrip() == expected.rstrip()
    gain = CERTAIN if kept else -CERTAIN if fine else 0.0
    curl = session.curl(kind, exchange.body or {})
    yield finding(
        check,
        "contract",
        title,
        fine,
        f"stop {stop!r}: expected {expected!r}, got {got.text!r}",
        curl,
        evidence=Evidence({"stop_text_kept": gain}, observations=1),
    )
    yield finding(
        f"contract.{kind}.finish_reason",
        "contract",
        f"{kind}: a stop text gives finish_reason stop",
        got.finish_reason == "stop",
        f"finish_reason {got.finish_reason!r}",
        curl,
    )


def check_n(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """n choices come back with indexes 0..n-1, and usage counts the tokens of all of them."""
    title = f"{kind}: n choices"
    exchange, answer = session.ask(kind, LONG, max_tokens=3, temperature=0.0, n=2)
    curl = session.curl(kind, exchange.body or {})
    if answer is None:
        yield finding("contract.n.range", "contract", title, False, f"n=2: {error_text(exchange)}", curl)
        return
    indexes = [c.index for c in answer.choices]
    yield finding(f"contract.{kind}.n", "contract", title, indexes == [0, 1], f"n=2: indexes {indexes}", curl)
    count = (answer.usage or {}).get("completion_tokens")
    complete = all(c.finish_reason == "length" for c in answer.choices)
    if complete and indexes == [0, 1]:
        yield finding(
            "contract.n.usage",
            "contract",
            f"{kind}: usage counts every choice",
            count == 6,
            f"2 choices of 3 tokens: completion_tokens {count}",
            curl,
        )


def check_logprobs(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """Logprobs come in the shape of the route, one entry a token, none above 0."""
    title = f"{kind}: shape of logprobs"
    if session.target.top_logprobs.get(kind) is None:
        yield Finding(Check(f"contract.{kind}.logprobs", "contract", title, "skipped", "the endpoint returns none"))
        return
    exchange, answer = session.ask(kind, LONG, max_tokens=LENGTH, temperature=0.0, **logprob_fields(kind, TOP_LOGPROBS))
    curl = session.curl(kind, exchange.body or {})
    choice = _first(answer) if answer is not None else None
    if answer is None or choice is None or choice.tokens is None:
        yield _refused(session, f"contract.{kind}.logprobs", title, kind, exchange)
        return
    yield finding(
        f"contract.{kind}.logprobs_shape",
        "contract",
        title,
        choice.logprobs_shape == kind,
        f"{choice.logprobs_shape} shape",
        curl,
    )
    values = [r.logprob for t in choice.tokens for r in (t.chosen, *t.top) if r.logprob is not None]
    count = (answer.usage or {}).get("completion_tokens")
    fine = len(choice.tokens) == count and all(v <= 1e-6 for v in values)
    yield finding(
        f"contract.{kind}.logprobs",
        "contract",
        f"{kind}: one logprob a token, none above 0",
        fine,
        f"{len(choice.tokens)} entries for {count} tokens, largest {max(values, default=0.0):.3g}",
        curl,
    )


def check_stream(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """A stream tells the same answer, ends with [DONE], and carries usage in a chunk of its own when asked."""
    fields: dict[str, Any] = {"max_tokens": LENGTH, "temperature": 0.0}
    plain = session.ask(kind, LONG, **fields)[1]
    body = session.body(kind, LONG, **fields, stream=True, stream_options={"include_usage": True})
    exchange = session.send("POST", session.target.paths[kind], body)
    streamed, curl = read_stream(exchange), session.curl(kind, body)
    title = f"{kind}: a stream tells the same answer"
    if streamed is None or plain is None:
        yield _refused(session, f"contract.{kind}.stream", title, kind, exchange)
        return
    pairs = [[(c.text, c.finish_reason) for c in a.choices] for a in (plain, streamed)]
    yield finding(
        f"contract.{kind}.stream",
        "contract",
        title,
        pairs[0] == pairs[1],
        "equal" if pairs[0] == pairs[1] else f"plain {pairs[0]}, streamed {pairs[1]}",
        curl,
    )
    yield finding(
        f"contract.{kind}.stream_done",
        "contract",
        f"{kind}: a stream ends with [DONE]",
        streamed.done,
        "[DONE] seen" if streamed.done else "no [DONE] at the end",
        curl,
    )
    yield finding(
        "contract.stream.usage_place",
        "contract",
        f"{kind}: usage comes in one chunk without choices",
        streamed.usage_events == (0,),
        f"choices in the chunks with usage: {list(streamed.usage_events)}",
        curl,
    )
    if streamed.usage is not None and plain.usage is not None:
        same = streamed.usage.get("completion_tokens") == plain.usage.get("completion_tokens")
        yield finding(
            f"contract.{kind}.stream_usage",
            "contract",
            f"{kind}: a stream counts the same tokens",
            same,
            f"plain {plain.usage.get('completion_tokens')}, streamed {streamed.usage.get('completion_tokens')}",
            curl,
        )


def check_prompt_options(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """echo, max_tokens 0 and a best_of below n: what the page says of the completions route."""
    if kind != "completions":
        return
    parameters = _endpoint(provider, kind).parameters
    if "echo" in parameters:
        exchange, answer = session.ask(kind, LONG, max_tokens=2, temperature=0.0, echo=True)
        text = answer.choices[0].text if answer is not None and answer.choices else error_text(exchange)
        yield finding(
            "contract.echo",
            "contract",
            "echo puts the prompt first",
            text.startswith(LONG),
            f"got {text[:40]!r}",
            session.curl(kind, exchange.body or {}),
        )
    limit = parameters.get("max_tokens")
    if limit is not None and limit.effective is not None and limit.effective.holds(0):
        exchange, answer = session.ask(kind, LONG, max_tokens=0, temperature=0.0)
        choice = _first(answer) if answer is not None else None
        shown = error_text(exchange) if choice is None else repr(choice.text)
        yield finding(
            "contract.max_tokens_zero",
            "contract",
            "max_tokens 0 gives no text",
            choice is not None and choice.text == "",
            f"got {shown}",
            session.curl(kind, exchange.body or {}),
        )
    if "best_of" in parameters:
        yield from _must_refuse(session, kind, "contract.best_of", "best_of", {"n": 2, "best_of": 1})


def check_validation(session: Session, provider: ProviderSpec, kind: Kind) -> Iterator[Finding]:
    """One value just outside each bound of the page, and one of a wrong type, are refused with an error body."""
    refusals: list[Exchange] = []
    for parameter in _endpoint(provider, kind).parameters.values():
        if parameter.extension or parameter.support != "served":
            continue
        for value in _outside(parameter):
            fields = {"max_tokens": 1, **_companions(kind, parameter.name), parameter.name: value}
            for found in _must_refuse(
                session, kind, f"contract.validation.{kind}.{parameter.name}", parameter.name, fields
            ):
                refusals += (
                    [found.exchange] if found.exchange is not None and found.check.verdict == "consistent" else []
                )
                yield found
    bodies = [e.json() for e in refusals]
    inner = [b["error"] for b in bodies if isinstance(b, dict) and isinstance(b.get("error"), dict)]
    if bodies:
        yield finding(
            f"contract.{kind}.error_body",
            "contract",
            f"{kind}: refusals carry an error object with a message",
            len(inner) == len(bodies) and all(isinstance(e.get("message"), str) for e in inner),
            f"{len(inner)} of {len(bodies)} refusals",
            None,
        )
        whole = sum("param" in e and "type" in e and "code" in e for e in inner)
        yield finding(
            "contract.error_param",
            "contract",
            f"{kind}: error objects have type, param and code",
            whole == len(bodies),
            f"{whole} of {len(bodies)} refusals",
            None,
        )


def _companions(kind: Kind, name: str) -> Mapping[str, Any]:
    return {"logprobs": True} if kind == "chat" and name == "top_logprobs" else {}


def _outside(parameter: ParameterSpec) -> Iterator[Any]:
    bounds = parameter.effective
    numeric = {"integer", "number"} & set(parameter.types)
    if bounds is None or not numeric or abs(bounds.high) > 2**53:
        return
    if bounds.high != float("inf"):
        yield bounds.high + 1
    if bounds.low != float("-inf"):
        yield bounds.low - 1
    yield "hot"


def _must_refuse(session: Session, kind: Kind, check: str, name: str, fields: Mapping[str, Any]) -> Iterator[Finding]:
    exchange, _ = session.ask(kind, "Hello", **fields)
    said = error_text(exchange) if exchange.status != 200 else "accepted"
    yield finding(
        check,
        "contract",
        f"{kind}: {name} = {fields[name]!r} is refused",
        400 <= exchange.status < 500,
        said,
        session.curl(kind, exchange.body or {}),
        exchange=exchange,
    )


def _models(session: Session) -> Iterator[Finding]:
    exchange = session.send("GET", "/v1/models")
    body = exchange.json()
    entries = body.get("data") if isinstance(body, dict) else None
    names = [e.get("id") for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    yield finding(
        "contract.models",
        "contract",
        "/v1/models lists the model",
        session.target.model in names,
        f"HTTP {exchange.status}, {names[:5]}",
        f"curl -s {session.endpoint.url}/v1/models",
    )


def _unknown_model(session: Session, kind: Kind) -> Iterator[Finding]:
    body = {**session.body(kind, "Hello", max_tokens=1), "model": "refsample-no-such-model"}
    exchange = session.send("POST", session.target.paths[kind], body)
    said = error_text(exchange) if exchange.status != 200 else "answered as if it existed"
    yield finding(
        "contract.unknown_model",
        "contract",
        "an unknown model is refused",
        400 <= exchange.status < 500,
        said,
        session.curl(kind, body),
    )


CHECKS: tuple[ContractCheck, ...] = (
    check_shape,
    check_stop,
    check_n,
    check_logprobs,
    check_stream,
    check_prompt_options,
    check_validation,
)
