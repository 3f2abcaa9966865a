"""One run against one endpoint: what it takes, how to ask it, what has been spent. It judges nothing.

`discover` finds out by asking: which routes are there, how many choices fit into one request, whether logprobs come,
which of the sampling fields beyond OpenAI's page are taken. Probes then stay inside what was found.
"""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from refsample.conformance.transcript import Answer, read_answer, read_stream
from refsample.conformance.transport import Endpoint, Exchange
from refsample.errors import EndpointError

Kind = Literal["completions", "chat"]
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


@dataclass(slots=True)
class Target:
    """What the endpoint takes."""

    model: str
    paths: Mapping[Kind, str]
    """Route of each kind of request, as the provider's file has it."""
    kinds: tuple[Kind, ...] = ()
    choices: int = 1
    top_logprobs: Mapping[Kind, int | None] = field(default_factory=dict)
    """Most alternatives a kind returns; None: no logprobs."""
    fields: frozenset[str] = frozenset()
    """Sampling fields taken without an error."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names the engine has for some of our fields (llama.cpp: repeat_penalty)."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Field -> what the endpoint said when it refused it."""


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
        self._on_request, self._max_tokens = on_request, max_tokens

    def begin(self, check: str) -> None:
        """Request seeds depend on the run's seed and the check alone, so a check can be repeated alone."""
        self._rng = random.Random(f"refsample probes {self.seed} {check}")

    @property
    def exhausted(self) -> bool:
        """True once the token budget given by the user is spent."""
        return self._max_tokens is not None and self.tokens >= self._max_tokens

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Exchange:
        exchange = self.endpoint.send(method, path, body)
        self.requests += 1
        self.tokens += tokens_of(exchange)
        if self._on_request is not None:
            self._on_request()
        return exchange

    def body(self, kind: Kind, prompt: Any, **fields: Any) -> dict[str, Any]:
        """A request body: `prompt` is the prompt or, for chat, a user's message or a list of messages."""
        ask = (
            {"prompt": prompt}
            if kind == "completions"
            else {"messages": prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]}
        )
        renamed = {self.target.aliases.get(name, name): value for name, value in fields.items()}
        return {"model": self.target.model, **ask, **renamed}

    def ask(self, kind: Kind, prompt: Any, **fields: Any) -> tuple[Exchange, Answer | None]:
        exchange = self.send("POST", self.target.paths[kind], self.body(kind, prompt, **fields))
        return exchange, read_answer(exchange)

    def law_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a law probe, everything that the endpoint takes set explicitly."""
        return {**{n: v for n, v in NEUTRAL.items() if n in self.target.fields}, **fields}

    def fresh_seed(self) -> int:
        return self._rng.randrange(2**31)

    def curl(self, kind: Kind, body: Mapping[str, Any]) -> str:
        """A command that repeats a request."""
        return (
            f"curl -s {shlex.quote(self.endpoint.url + self.target.paths[kind])} -H 'content-type: application/json' "
            f'-H "authorization: Bearer $KEY" -d {shlex.quote(json.dumps(body))}'
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


def error_text(exchange: Exchange) -> str:
    """What a refusal says, on one line."""
    body = exchange.json()
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    head = f"HTTP {exchange.status}" if exchange.status else "no answer"
    return f"{head}: {str(message or exchange.text)[:160]}".replace("\n", " ")


def first_model(endpoint: Endpoint) -> str:
    """The first name that /v1/models lists. Raises EndpointError where it lists none."""
    exchange = endpoint.send("GET", "/v1/models")
    body = exchange.json()
    entries = body.get("data") if isinstance(body, dict) else None
    listed = entries if isinstance(entries, list) else []
    names = [e["id"] for e in listed if isinstance(e, dict) and isinstance(e.get("id"), str)]
    if not names:
        raise EndpointError(
            f"{endpoint.url}/v1/models lists no model ({error_text(exchange)}): give the name to ask for"
        )
    return str(names[0])


def discover(session: Session) -> None:
    """Fill `session.target` by asking. No route that answers is an EndpointError that says what came instead."""
    target = session.target
    found = {kind: session.ask(kind, "Hello", max_tokens=1, temperature=1.0)[0] for kind in target.paths}
    target.kinds = tuple(kind for kind in found if read_answer(found[kind]) is not None)
    if not target.kinds:
        said = "; ".join(f"{target.paths[kind]}: {error_text(found[kind])}" for kind in found)
        raise EndpointError(f"{session.endpoint.url} answers no completion for model {target.model!r}: {said}")
    kind = target.kinds[0]
    for count in CHOICE_STEPS:
        answer = session.ask(kind, "Hello", max_tokens=1, temperature=1.0, n=count)[1]
        if answer is not None and len(answer.choices) == count:
            target.choices = count
            break
    target.top_logprobs = {k: _top_logprobs(session, k) for k in target.kinds}
    _discover_fields(session, kind)


def logprob_fields(kind: Kind, top: int) -> dict[str, Any]:
    return {"logprobs": top} if kind == "completions" else {"logprobs": True, "top_logprobs": top}


def _top_logprobs(session: Session, kind: Kind) -> int | None:
    answer = session.ask(kind, "Hello", max_tokens=1, temperature=1.0, **logprob_fields(kind, TOP_LOGPROBS))[1]
    return TOP_LOGPROBS if answer is not None and answer.choices and answer.choices[0].tokens else None


def _discover_fields(session: Session, kind: Kind) -> None:
    probe: dict[str, Any] = {**NEUTRAL, "logit_bias": {"1": 0}, "seed": 1}
    if session.ask(kind, "Hello", max_tokens=1, **probe)[1] is not None:
        session.target.fields = frozenset(probe)
        return
    taken, refused = set(), {}
    for name, value in probe.items():
        exchange, answer = session.ask(kind, "Hello", max_tokens=1, **{name: value})
        if answer is not None:
            taken.add(name)
        else:
            refused[name] = error_text(exchange)
    session.target.fields, session.target.refused = frozenset(taken), refused
