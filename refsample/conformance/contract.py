"""Contract checks on answers: shapes, counts, stops and choices, as the provider's page promises them.

None of them needs a reference: what is expected follows from the page or from another answer of the same endpoint.
Each yields findings; a refusal to answer at all is a finding too. Where the page prints one thing and another is meant
(`printed` and `effective`), neither is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from refsample.conformance.evidence import Evidence
from refsample.conformance.page import Kind, Page
from refsample.conformance.report import Check, Finding, finding
from refsample.conformance.session import Session, error_text
from refsample.conformance.shape import shape_errors
from refsample.conformance.transcript import Answer, Choice
from refsample.conformance.transport import Exchange

CERTAIN = 13.8
"""Gain (nats) of a deterministic answer that one hypothesis predicts and another does not: a chance of 1e-6 that an
honest answer looks otherwise."""
LONG = "Once upon a time there was a girl who lived near the sea. One day she"
ENDING = (LONG, "Hello", "She went home and slept. The end")
"""Prompts that models tend to bring to an end."""
LENGTH = 12
TRIES = 5
"""Times a question is asked whose answer may be of no use."""
ROOM = 192
"""Tokens in which an answer may come to its end."""
UNSTEADY = "greedy text is not the same twice here, so texts cannot be compared"
REFUSED = frozenset({400, 422})
"""Statuses that refuse a value; 401, 404 and 429 refuse something else."""

UNSAID = frozenset({0, 401, 403, 408, 413, 429, 502, 503, 504})
"""No answer, or one that is about the key, the load, the time or a gateway, and says nothing of a value."""

ContractCheck = Callable[[Session, Page], Iterator[Finding]]


def may_want(only: frozenset[str], check: str) -> bool:
    """Whether one of the patterns names the check, or one below it such as contract.chat.validation.n."""
    return not only or any(fnmatchcase(check, pattern) or pattern.startswith(check + ".") for pattern in only)


def sign(fault: str, faulty: bool, fine: bool) -> Evidence:
    """What a deterministic answer says of one fault: it is there, it is not, or neither."""
    return Evidence({fault: CERTAIN if faulty else -CERTAIN if fine else 0.0}, observations=1)


def refused(session: Session, check: str, title: str, kind: Kind, exchange: Exchange) -> Finding:
    said = error_text(exchange) if exchange.status != 200 else "an answer without choices"
    return finding(check, "contract", title, False, f"refused: {said}", session.curl(kind, exchange.body or {}))


def unclear(check: str, title: str, said: str) -> Finding:
    return Finding(Check(check, "contract", title, "inconclusive", said))


def skipped(check: str, title: str, said: str) -> Finding:
    return Finding(Check(check, "contract", title, "skipped", said))


def first(answer: Answer | None) -> Choice | None:
    return answer.choices[0] if answer is not None and answer.choices else None


def tokens_counted(answer: Answer | None) -> int | None:
    """usage.completion_tokens, where it is a number."""
    count = (answer.usage or {}).get("completion_tokens") if answer is not None else None
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def check_shape(session: Session, page: Page) -> Iterator[Finding]:
    """Fields and types of a plain answer, id prefix and usage. One finding for each wrong field."""
    kind = page.kind
    exchange, answer = session.ask(kind, LONG, **session.greedy(kind, LENGTH))
    curl = session.curl(kind, exchange.body or {})
    check, title = f"contract.{kind}.shape", f"{kind}: fields of the answer"
    if answer is None or not answer.choices:
        yield refused(session, check, title, kind, exchange)
        return
    spec, body = page.endpoint, exchange.json()
    yield from wrong_fields(check, title, shape_errors(body, spec.response), curl)
    prefixes = (spec.id_prefix, spec.printed_id_prefix)
    given, title = str(body.get("id", "")), f"{kind}: id starts with {' or '.join(sorted(set(prefixes)))}"
    yield finding(
        f"contract.{kind}.id_prefix", "contract", title, given.startswith(prefixes), f"id {given[:24]!r}", curl
    )
    yield _counts(answer, kind, curl)


def wrong_fields(check: str, title: str, errors: Sequence[tuple[str, str]], curl: str) -> Iterator[Finding]:
    """One finding where all fields are as promised, else one for each that is not."""
    if not errors:
        yield finding(check, "contract", title, True, "as promised", curl)
    for path, problem in errors:
        yield finding(f"{check}.{path.replace('[]', '')}", "contract", title, False, f"{path} {problem}", curl)


def _counts(answer: Answer, kind: Kind, curl: str) -> Finding:
    """usage adds up; nothing of it where no usage comes."""
    usage, title = answer.usage, f"{kind}: usage adds up"
    if usage is None:
        return skipped(f"contract.{kind}.usage", title, "the answer has no usage")
    given = [usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total")]
    counts = [c for c in given if isinstance(c, int)]
    fine = len(counts) == 3 and counts[0] + counts[1] == counts[2]
    return finding(f"contract.{kind}.usage", "contract", title, fine, f"prompt, completion, total = {given}", curl)


def check_end(session: Session, page: Page) -> Iterator[Finding]:
    """An answer that ended by itself ends again in as many tokens as usage says it has: the end token is one."""
    kind, title = page.kind, f"{page.kind}: usage counts the end token"
    check = f"contract.{kind}.end_counted"
    for prompt in ENDING:
        whole = session.ask(kind, prompt, **session.greedy(kind, ROOM))[1]
        choice, count = first(whole), tokens_counted(whole)
        if choice is None or count is None or choice.finish_reason != "stop" or not choice.text.strip():
            continue
        if not page.allows("max_tokens", count):
            continue
        exchange, again = session.ask(kind, prompt, **{**session.greedy(kind, ROOM), "max_tokens": count})
        got, curl = first(again), session.curl(kind, exchange.body or {})
        if got is None:
            yield refused(session, check, title, kind, exchange)
        elif got.text.rstrip() != choice.text.rstrip():
            yield unclear(check, title, UNSTEADY)
        else:
            fine = got.finish_reason == "stop"
            said = f"counted {count} with its end; with max_tokens {count} it ends by {got.finish_reason!r}"
            evidence = sign("eos_not_counted", got.finish_reason == "length", fine)
            yield finding(check, "contract", title, fine, said, curl, evidence=evidence)
        return
    yield skipped(check, title, "no greedy answer ended in a number of tokens that the page allows as a limit")


def check_stop(session: Session, page: Page) -> Iterator[Finding]:
    """A stop string taken from the middle of the endpoint's own greedy answer ends it there, and is removed."""
    kind = page.kind
    check, title = f"contract.{kind}.stop", f"{kind}: the answer ends before the stop text"
    if not page.takes("stop"):
        return
    greedy = session.greedy(kind, LENGTH)
    exchange, answer = session.ask(kind, LONG, **greedy)
    whole = first(answer)
    if whole is None or len(whole.text.strip()) < 8:
        said = error_text(exchange) if whole is None else f"the answer {whole.text!r} is too short to stop in"
        yield unclear(check, title, said)
        return
    text, middle = whole.text, len(whole.text) // 2
    stop = text[middle : middle + 4]
    expected = text[: text.index(stop)]
    record = page.record("stop")
    many = record is not None and "string[]" in {*record.printed_types} & {*record.types}
    exchange, answer = session.ask(kind, LONG, **greedy, stop=[stop] if many else stop)
    got = first(answer)
    if got is None:
        yield refused(session, check, title, kind, exchange)
        return
    cut, kept = got.text.rstrip() == expected.rstrip(), got.text == expected + stop
    if not cut and not kept and not repeats(session, kind, whole):
        yield unclear(check, title, UNSTEADY)
        return
    promised = "kept" in page.readings("stop_text")
    evidence = Evidence() if promised else sign("stop_text_kept", kept, cut)
    curl, fine = session.curl(kind, exchange.body or {}), cut or kept and promised
    said = f"stop {stop!r}: expected {expected!r}, got {got.text!r}"
    yield finding(check, "contract", title, fine, said, curl, evidence=evidence)
    title, said = f"{kind}: a stop text gives finish_reason stop", f"finish_reason {got.finish_reason!r}"
    yield finding(f"contract.{kind}.finish_reason", "contract", title, got.finish_reason == "stop", said, curl)


def check_n(session: Session, page: Page) -> Iterator[Finding]:
    """n choices come back with indexes 0..n-1, and usage counts the tokens of all of them."""
    kind = page.kind
    if not page.allows("n", 2):
        return
    exchange, answer = session.ask(kind, LONG, max_tokens=3, temperature=1.0, n=2, **seeded(session))
    curl, title = session.curl(kind, exchange.body or {}), f"{kind}: n choices"
    if answer is None:
        yield finding(f"contract.{kind}.n_range", "contract", title, False, f"n=2: {error_text(exchange)}", curl)
        return
    indexes = [c.index for c in answer.choices]
    yield finding(f"contract.{kind}.n", "contract", title, indexes == [0, 1], f"n=2: indexes {indexes}", curl)
    yield _n_usage(session, kind, answer)
    if "refused" not in page.readings("greedy_n"):
        yield from _greedy_n(session, page)


def _n_usage(session: Session, kind: Kind, answer: Answer | None) -> Finding:
    """Usage of two choices that the limit cut: so many tokens each. One that ends by itself is no help."""
    each, check, title = session.limit(kind, 3), f"contract.{kind}.n_usage", f"{kind}: usage counts every choice"
    for _ in range(TRIES):
        count = tokens_counted(answer)
        if answer is None or count is None or len(answer.choices) != 2:
            return skipped(check, title, "no usage of two choices to look at")
        if all(choice.finish_reason == "length" for choice in answer.choices):
            said = f"2 choices of {each} tokens: completion_tokens {count}"
            evidence = sign("usage_first_choice", count == each, count == 2 * each)
            return finding(check, "contract", title, count == 2 * each, said, None, evidence=evidence)
        each = session.limit(kind, 1)
        answer = session.ask(kind, LONG, max_tokens=1, temperature=1.0, n=2)[1]
    return skipped(check, title, f"in {TRIES} tries a choice ended by itself")


def _greedy_n(session: Session, page: Page) -> Iterator[Finding]:
    """n = 2 at temperature 0 gives two equal choices, where temperature 0 is taken at all."""
    kind, inside = page.kind, page.allows("temperature", 0)
    fields: dict[str, Any] = {"max_tokens": session.limit(kind, 3), "temperature": 0}
    ask = session.ask if inside else session.ask_beyond
    if not inside and ask(kind, LONG, **fields)[1] is None:
        return
    exchange, answer = ask(kind, LONG, **fields, n=2)
    choices = answer.choices if answer is not None else ()
    texts, curl = [c.text for c in choices], session.curl(kind, exchange.body or {})
    said = f"texts {texts}" if answer is not None else error_text(exchange)
    fine, title = len(texts) == 2 and texts[0] == texts[1], f"{kind}: n = 2 at temperature 0 gives two equal choices"
    evidence = sign("greedy_n_refused", exchange.status in REFUSED, fine)
    yield finding(f"contract.{kind}.greedy_n", "contract", title, fine, said, curl, evidence=evidence)


def repeats(session: Session, kind: Kind, known: Choice | None = None) -> bool:
    """Whether greedy text is the same again: where it is not, kernels depend on the batch, and texts prove nothing."""
    texts = {known.text} if known is not None else set()
    for _ in range(3):
        choice = first(session.ask(kind, LONG, **session.greedy(kind, LENGTH))[1])
        texts |= {choice.text} if choice is not None else set()
    return len(texts) == 1


def seeded(session: Session) -> Mapping[str, Any]:
    """A fixed seed where the endpoint takes one, so that a run can be repeated."""
    return {"seed": session.seed % 2**31} if "seed" in session.target.fields else {}


ANSWER_CHECKS: tuple[tuple[ContractCheck, tuple[str, ...]], ...] = (
    (check_shape, ("shape", "id_prefix", "usage")),
    (check_end, ("end_counted",)),
    (check_stop, ("stop", "finish_reason")),
    (check_n, ("n", "n_range", "n_usage", "greedy_n")),
)
