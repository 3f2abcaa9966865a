"""One run against one endpoint: what it takes, how to ask it, what has been spent. It judges nothing.

`discover` finds out by asking: which routes are there, how many choices fit into one request, whether logprobs come,
which of the page's sampling fields are taken. Probes stay inside the page, and inside what was found.
"""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refsample.conformance.page import STEP, Kind, Page
from refsample.conformance.transcript import Answer, read_answer, read_stream
from refsample.conformance.transport import Endpoint, Exchange
from refsample.errors import EndpointError

NEUTRAL: Mapping[str, float | int] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Sent with every request whose law is tested: a server's own defaults are not the API's (sampler-semantics 2.1)."""
CHOICE_STEPS = (32, 8, 4, 2, 1)
TOP_LOGPROBS = 5
GREEDY_SEED = 2
"""Any: no chance is left where temperature 0 is heeded."""

ACTING: Mapping[str, float | int] = {"top_k": 5, "min_p": 0.1, "best_of": 2}
"""Sent where a field's neutral value is refused: a page may have no value for "off"."""


@dataclass(slots=True)
class Target:
    """What the endpoint takes."""

    model: str
    pages: Mapping[Kind, Page]
    """What may be sent to each kind of route, as the provider's file has it."""
    models_path: str = "/v1/models"
    kinds: tuple[Kind, ...] = ()
    silent: Mapping[Kind, Exchange] = field(default_factory=dict)
    """Routes of the page that gave no answer that can be read, and what they gave."""
    choices: int = 1
    top_logprobs: Mapping[Kind, int | None] = field(default_factory=dict)
    """Most alternatives a kind returns; None: no logprobs."""
    fields: frozenset[str] = frozenset()
    """Sampling fields taken without an error."""
    neutral: Mapping[str, float | int] = field(default_factory=dict)
    """Values that switch the other sampling fields off, where the page has one and the endpoint takes it."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Field -> why it is not used: what the endpoint said, or that it is not on the page."""

    def path(self, kind: Kind) -> str:
        return self.pages[kind].endpoint.path


class Session:
    """Asks, counts, and draws the seeds of its requests from one private generator."""

    def __init__(
        self,
        endpoint: Endpoint,
        target: Target,
        seed: int,
        on_request: Callable[[], None] | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.endpoint, self.target, self.seed = endpoint, target, seed
        self.begin("")
        self.requests = self.tokens = 0
        self.edges: list[Mapping[str, Any]] = []
        """Bodies sent to see what happens outside the page; all others stay inside it."""
        self.overran: set[Kind] = set()
        """Routes on which more tokens came than the limit allows: there, texts of a length cannot be compared."""
        self._on_request, self._max_tokens = on_request, max_tokens
        self._greedy: dict[tuple[Kind, str, int], Answer | None] = {}

    def begin(self, check: str) -> None:
        """Request seeds depend on the run's seed and the check alone, so a check can be repeated alone."""
        self._rng = random.Random(f"refsample probes {self.seed} {check}")

    @property
    def exhausted(self) -> bool:
        """True once the token budget given by the user is spent."""
        return not self.affords(1)

    def affords(self, tokens: int) -> bool:
        """Whether so many more output tokens are within the budget."""
        return self._max_tokens is None or self.tokens + tokens <= self._max_tokens

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        exchange = self.endpoint.send(method, path, body)
        self.requests += 1
        self.tokens += tokens_of(exchange)
        if self._on_request is not None:
            self._on_request()
        return exchange

    def body(self, kind: Kind, prompt: Any, **fields: Any) -> dict[str, Any]:
        """A request body under the page's names: `prompt` is the prompt or, for chat, a user's message or messages."""
        ask = (
            {"prompt": prompt}
            if kind == "completions"
            else {"messages": prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]}
        )
        renamed = {self.target.pages[kind].name(name): value for name, value in fields.items()}
        return {"model": self.target.model, **ask, **renamed}

    def ask(self, kind: Kind, prompt: Any, **fields: Any) -> tuple[Exchange, Answer | None]:
        """One question inside the page: the token limit is raised to the least that it has."""
        if "max_tokens" in fields:
            fields["max_tokens"] = self.limit(kind, fields["max_tokens"])
        exchange = self.post(kind, self.body(kind, prompt, **fields))
        return exchange, read_answer(exchange)

    def ask_beyond(self, kind: Kind, prompt: Any, **fields: Any) -> tuple[Exchange, Answer | None]:
        """One question about an edge of the page: it may ask, knowingly, for something outside."""
        exchange = self.post(kind, self.body(kind, prompt, **fields), beyond=True)
        return exchange, read_answer(exchange)

    def post(self, kind: Kind, body: Mapping[str, Any], *, beyond: bool = False) -> Exchange:
        """A body as it stands. beyond: it may ask for something outside the page."""
        if beyond:
            self.edges.append(body)
        before = self.tokens
        exchange = self.send("POST", self.target.path(kind), body)
        if _over(self.tokens - before, body, self.target.pages[kind].name("max_tokens")):
            self.overran.add(kind)
        return exchange

    def limit(self, kind: Kind, count: int) -> int:
        """That many tokens, or the nearest number that the page allows."""
        return int(self.target.pages[kind].near("max_tokens", count))

    def greedy(self, kind: Kind, count: int) -> dict[str, Any]:
        """Fields of an answer without chance. Where temperature 0 is off the page, a tiny top_p leaves one token."""
        page = self.target.pages[kind]
        cold = page.near("temperature", 0)
        least = {"top_p": page.near("top_p", STEP)} if cold > 0 and page.takes("top_p") else {}
        return {"max_tokens": self.limit(kind, count), "temperature": cold, **least}

    def greedily(self, kind: Kind, prompt: str, count: int) -> Answer | None:
        """The answer without chance, asked for once in a run; seeded, for an endpoint that draws all the same."""
        key = (kind, prompt, count)
        if key not in self._greedy:
            seeded = self.target.pages[kind].takes("seed") and "seed" in self.target.fields
            seed = {"seed": GREEDY_SEED} if seeded else {}
            self._greedy[key] = self.ask(kind, prompt, **self.greedy(kind, count), **seed)[1]
        return self._greedy[key]

    def law_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a law probe, everything that the endpoint takes set explicitly, numbers inside the page."""
        page = self.target.pages[self.target.kinds[0]]
        inside = {n: page.near(n, v) if isinstance(v, int | float) else v for n, v in fields.items()}
        return {**self.target.neutral, **inside}

    def logprob_fields(self, kind: Kind, top: int) -> dict[str, Any]:
        """Fields that ask for logprobs; none where the page has none."""
        return self.target.pages[kind].logprob_fields(top) or {}

    def fresh_seed(self) -> int:
        return self._rng.randrange(2**31)

    def curl_bare(self, method: str, path: str) -> str:
        """A command that sends a request without a body, with the key from the variable KEY where a header holds it."""
        page = self.target.pages[self.target.kinds[0]]
        headers = (a for a in page.provider.auth if a.place == "header")
        shown = [f'-H "{a.name}: {a.scheme + " " if a.scheme else ""}$KEY" ' for a in headers][:1]
        verb = "" if method == "GET" else f"-X {method} "
        return f"curl -s {verb}{''.join(shown)}{shlex.quote(self.endpoint.url + path)}"

    def curl(self, kind: Kind, body: Mapping[str, Any]) -> str:
        """A command that repeats a request, with the key from the variable KEY where the page wants one."""
        page = self.target.pages[kind]
        auth = next((a for a in page.provider.auth if a.printed), page.provider.auth[0])
        inside = auth.place == "body"
        header = "" if inside else f'-H "{auth.name}: {auth.scheme + " " if auth.scheme else ""}$KEY" '
        more = (h for h in page.provider.headers if h.name != "content-type")
        header += "".join(f"-H {shlex.quote(f'{h.name}: {h.value}')} " for h in more)
        data = shlex.quote(json.dumps({**body, **({auth.name: "$KEY"} if inside else {})}))
        if inside:
            data = data.replace('"$KEY"', '"\'"$KEY"\'"')
        return (
            f"curl -s {shlex.quote(self.endpoint.url + page.endpoint.path)} -H 'content-type: application/json' "
            f"{header}-d {data}"
        )


def tokens_of(exchange: Exchange) -> int:
    """Output tokens an exchange cost, by the endpoint's own count where it gives one, else all that it was asked for.

    A refusal costs none; an answer that cannot be read, or that did not come in time, may have cost all of them.
    """
    if exchange.status not in (0, 200) or exchange.body is None:
        return 0
    answer = read_stream(exchange) if exchange.content_type == "text/event-stream" else read_answer(exchange)
    choices = len(answer.choices) if answer is not None else 0
    count = (answer.usage or {}).get("completion_tokens") if answer is not None else None
    if isinstance(count, int):
        return max(count, choices)
    asked = [exchange.body.get(name, 1) for name in ("max_tokens", "n")]
    limit, n = (value if isinstance(value, int) and value > 0 else 1 for value in asked)
    return limit * max(n, choices)


def _over(tokens: int, body: Mapping[str, Any], name: str) -> bool:
    """Whether that many tokens are surely more than a body's limit; one more may be an end token."""
    limit = body.get(name)
    given = [value for key in ("n", "best_of") if isinstance(value := body.get(key), int)]
    return isinstance(limit, int) and tokens > (limit + 1) * max([1, *given])


def error_text(exchange: Exchange) -> str:
    """What a refusal says, on one line."""
    message = error_message(exchange.json())
    head = f"HTTP {exchange.status}" if exchange.status else "no answer"
    joint = " " if 300 <= exchange.status < 400 and exchange.text.startswith("to ") else ": "
    return f"{head}{joint}{str(message or exchange.text)[:160]}".replace("\n", " ")


def error_message(body: Any) -> Any:
    """The message of an error body in any of the shapes in use (nested, flat, under `detail`); None: there is none."""
    for key in ("error", "detail"):
        if isinstance(body, dict) and body.get(key) is not None:
            body = body[key]
    return body.get("message") if isinstance(body, dict) else body if isinstance(body, str) else None


def first_model(endpoint: Endpoint, path: str = "/v1/models") -> str:
    """The first name that the list of models has. Raises EndpointError where it has none."""
    exchange = endpoint.send("GET", path) if path else None
    names = model_names(exchange.json()) if exchange is not None else []
    if not names:
        said = "the provider has no list of models" if exchange is None else (
            f"{endpoint.url}{path} lists no model ({error_text(exchange)})")  # fmt: skip
        raise EndpointError(f"{said}: give the name to ask for")
    return names[0]


def model_names(body: Any) -> list[str]:
    """Names of a list of models: a list object of cards, or a bare array of names."""
    entries = body.get("data") if isinstance(body, dict) else body
    named = [e.get("id") if isinstance(e, dict) else e for e in entries] if isinstance(entries, list) else []
    return [name for name in named if isinstance(name, str)]


def discover(session: Session) -> None:
    """Fill `session.target` by asking. No route that answers is an EndpointError that says what came instead.

    What the token budget does not reach is not asked, and counts as not there.
    """
    target = session.target
    found: dict[Kind, Exchange] = {}
    for kind in target.pages:
        if not found or not session.exhausted:
            found[kind] = session.ask(kind, "Hello", max_tokens=1, temperature=1.0)[0]
    target.kinds = tuple(kind for kind in found if read_answer(found[kind]) is not None)
    target.silent = {kind: exchange for kind, exchange in found.items() if kind not in target.kinds}
    if not target.kinds:
        said = "; ".join(f"{target.path(kind)}: {error_text(found[kind])}" for kind in found)
        raise EndpointError(f"{session.endpoint.url} answers no completion for model {target.model!r}: {said}")
    kind = target.kinds[0]
    for count in CHOICE_STEPS:
        within = session.affords(count * session.limit(kind, 1))
        if count == 1 or not within or not target.pages[kind].allows("n", count):
            continue
        answer = session.ask(kind, "Hello", max_tokens=1, temperature=1.0, n=count)[1]
        if answer is not None and len(answer.choices) == count:
            target.choices = count
            break
    target.top_logprobs = {k: None if session.exhausted else _top_logprobs(session, k) for k in target.kinds}
    if not session.exhausted:
        _discover_fields(session, kind)


def _top_logprobs(session: Session, kind: Kind) -> int | None:
    fields = session.target.pages[kind].logprob_fields(TOP_LOGPROBS)
    if fields is None:
        return None
    answer = session.ask(kind, "Hello", max_tokens=1, temperature=1.0, **fields)[1]
    top = int(fields.get("top_logprobs", fields["logprobs"]))
    return top if answer is not None and answer.choices and answer.choices[0].tokens else None


def _discover_fields(session: Session, kind: Kind) -> None:
    """Which sampling fields of the page are taken: all at once, else one by one, off and, where that fails, acting."""
    target, page = session.target, session.target.pages[kind]
    probe: dict[str, Any] = {**NEUTRAL, "logit_bias": {"1": 0}, "seed": 1, "best_of": 2}
    absent = {name: "not on the page" for name in probe if not page.takes(name)}
    wanted = {n: v for n, v in probe.items() if n not in absent}
    neutral = {n: v for n, v in wanted.items() if n != "best_of" and (n == "logit_bias" or page.allows(n, v))}
    taken, refused = set(neutral), {}
    if session.ask(kind, "Hello", max_tokens=1, **neutral)[1] is None:
        taken = {n for n, v in neutral.items() if session.ask(kind, "Hello", max_tokens=1, **{n: v})[1] is not None}
    off = {n: v for n, v in NEUTRAL.items() if n in taken}
    for name in (n for n in wanted if n not in taken):
        value = page.near(name, ACTING[name]) if name in ACTING else wanted[name]
        exchange, answer = session.ask(kind, "Hello", max_tokens=1, **{name: value})
        if answer is None:
            refused[name] = error_text(exchange)
        else:
            taken.add(name)
    target.fields, target.neutral, target.refused = frozenset(taken), off, {**absent, **refused}
