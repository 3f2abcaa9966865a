"""From a body to finished choices: the model it names, seeds, time limits, best_of. Knows no response shape."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from refsample import __version__
from refsample.api.catalog import resolve as resolve_model
from refsample.api.constraints import after_thought
from refsample.api.prompts import encode_prompts, fit_context, predicted
from refsample.api.types import UNSET, Request
from refsample.api.validate import parse, sent_model
from refsample.errors import ParameterError, RequestTimeoutError
from refsample.generation.behaviour import OVERLAY, Behaviour
from refsample.generation.decode import Events, generate_events
from refsample.generation.defaults import applied, with_defaults
from refsample.generation.sequence import GenerationParams, TokenEvent
from refsample.sampling.logprobs import TokenLogprobs
from refsample.sampling.semantics import resolve
from refsample.spec.provider import EndpointSpec, ProviderSpec
from refsample.text.reasoning import Marks, find_marks

if TYPE_CHECKING:
    from refsample.generation.model import Model

LogprobRow = TokenLogprobs | None
"""None: the first token of a prompt, which nothing predicts."""


def _waited_for() -> None:
    """A job in process: its caller waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request made ready for one model: everything that the answer depends on, and what names the answer."""

    model: Model
    request: Request
    behaviour: Behaviour
    prompts: tuple[tuple[int, ...], ...]
    params: GenerationParams
    """What is really done: n is the number of choices drawn, and what the behaviour drops is dropped."""
    seed: int
    """The seed in effect, drawn here if the request has none."""
    events: Events
    """The tokens, computed while this is iterated; closing it stops the work."""
    marks: Marks | None
    """Between which marks the answer thinks; None: all of it is content."""
    deadline: float | None
    """On the monotonic clock, in seconds; None: somebody waits for however long it takes."""
    defaults: Mapping[str, Any]
    """What of the model's generation_config.json fills what the request leaves open."""
    wanted: Callable[[], None] = _waited_for
    """Raises where nobody waits for the answer any more; asked between passes that make no event."""
    id: str
    created: int
    fingerprint: str


@dataclass(slots=True)
class Choice:
    """One finished choice; grows while events come in."""

    prompt_index: int
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[LogprobRow] = field(default_factory=list)
    finish_reason: str = "length"  # of a choice that may not hold a single token, or ran out of time
    stop_reason: str | int | None = None
    """The stop string or stop id that ended it."""
    raw: float = 0.0
    """Sum of the tokens' raw logprobs, where choices are ranked."""

    @property
    def mean_logprob(self) -> float:
        """Mean raw logprob of the tokens, whatever stage the behaviour reports; without a token the worst."""
        return self.raw / len(self.token_ids) if self.token_ids else -math.inf

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.texts)


def default_behaviour(provider: ProviderSpec, *, strict: bool = False) -> Behaviour:
    """An honest server of this provider: its engine's rules, but where its own page says otherwise."""
    semantics = resolve("reference" if provider.engine == "unknown" else provider.engine)
    rule = provider.reading("top_p_rule", strict=strict)
    return Behaviour(semantics=replace(semantics, top_p_rule="gt" if rule == "gt" else "ge"))


def ready(
    models: Mapping[str, Model],
    body: object,
    page: ProviderSpec,
    endpoint: EndpointSpec,
    behaviour: Behaviour,
    *,
    strict: bool = False,
) -> Job:
    """All that can refuse a body that names one of `models`. Raises ParameterError (a ContextLengthError too),
    UnknownModelError."""
    name = sent_model(body, endpoint)
    flaws, model = behaviour.flaws, None
    if isinstance(name, str) and name:
        model = resolve_model(name, models, page, any_name="unknown_model_accepted" in flaws)
    request = parse(body, page, endpoint.name, strict=strict, model=model, model_required=True, flaws=flaws)
    if model is None:
        raise ParameterError("model", name, "must be the name of a model", page.title)
    return prepare(model, request, behaviour)


def prepare(model: Model, request: Request, behaviour: Behaviour) -> Job:
    """Everything up to the first forward pass. Raises ParameterError, ContextLengthError."""
    asked, deadline = request.generation, None
    # here, since only the door knows what was not sent; as a hypothesis it is `Oracle.overlays`
    if "other_defaults" in behaviour.flaws and all(request.fields.sent(name) is UNSET for name, _ in OVERLAY):
        overlay: dict[str, Any] = dict(OVERLAY)
        asked = replace(asked, sampling=replace(asked.sampling, **overlay))
    if request.timeout_s is not None:
        deadline = time.monotonic() + request.timeout_s
    if "greedy_n_refused" in behaviour.flaws and asked.n > 1 and asked.sampling.temperature == 0:
        raise ParameterError(request.fields.name("n"), asked.n, "must be 1 with temperature 0", request.provider.title)
    prompts = encode_prompts(model, request, behaviour)
    defaults = applied(asked, proposed(model, request, behaviour, prompts))
    asked = with_defaults(asked, defaults)
    params = fit_context(prompts, model, request, replace(asked, prediction=predicted(model, request)))
    marks = _marks(model, request, behaviour, prompts[0])
    if marks is not None and params.grammar is not None:
        params = replace(params, grammar=after_thought(params.grammar, marks))
    drawn = replace(params, n=request.best_of, ranked=request.best_of > asked.n)
    events = generate_events(model, prompts, drawn, behaviour)
    endpoint = request.endpoint
    return Job(
        model=model,
        request=request,
        behaviour=behaviour,
        prompts=prompts,
        params=events.params,
        seed=events.seed,
        events=events,
        marks=marks,
        deadline=deadline,
        defaults=defaults,
        id=(endpoint.printed_id_prefix if request.strict else endpoint.id_prefix) + secrets.token_hex(12),
        created=int(time.time()),
        fingerprint=fingerprint(model, behaviour),
    )


def proposed(
    model: Model, request: Request, behaviour: Behaviour, prompts: Sequence[Sequence[int]]
) -> Mapping[str, Any]:
    """Defaults of the model's folder for all that the request leaves open; empty where the behaviour takes none."""
    if not behaviour.generation_config:
        return {}
    defaults = model.generation_defaults
    names = (*defaults.fields, "max_tokens")
    given = {name: request.fields.value(name) for name in names if request.fields.value(name) is not None}
    return defaults.under(given, model.config.max_position - max(len(prompt) for prompt in prompts))


def _marks(model: Model, request: Request, behaviour: Behaviour, prompt: tuple[int, ...]) -> Marks | None:
    """Thoughts are split off where the provider's answer has a place for them; a form begins behind them. Where it has
    none, they are content like the rest, and the form is that of the whole text."""
    names = ("choices[].message.reasoning_content", "choices[].message.reasoning")
    records = [request.endpoint.response[name] for name in names if name in request.endpoint.response]
    shown = any(not (request.strict and record.extension) for record in records)
    if not shown:
        return None
    return find_marks(model.chat_template(behaviour.template), model.tokenizer, prompt)


Event = TypeVar("Event", TokenEvent, TokenEvent | None)
"""Where None says that the next event is not there yet."""


def in_time(job: Job, events: Iterable[Event]) -> Iterator[Event]:
    """The events until the request's own time is over. Then RequestTimeoutError, or an early end where the provider's
    page gives the text so far."""
    for event in events:
        if _is_late(job):
            check_time(job)
            return
        yield event


def goes_on(job: Job) -> bool:
    """Before a pass that makes no event: whether there is time for it. Raises RequestTimeoutError as `check_time`, and
    what the job raises where nobody waits."""
    job.wanted()
    if not _is_late(job):
        return True
    check_time(job)
    return False


def _is_late(job: Job) -> bool:
    return job.deadline is not None and time.monotonic() >= job.deadline


def check_time(job: Job) -> None:
    """RequestTimeoutError for a job whose own time is over, unless the provider's page gives the text so far."""
    request = job.request
    if request.timeout_s is not None and request.provider.reading("timeout", strict=request.strict) == "refused":
        raise RequestTimeoutError(request.timeout_s)


def fingerprint(model: Model, behaviour: Behaviour) -> str:
    """`fp_` and 12 hex digits that change with the weights, the behaviour and the version."""
    named = replace(behaviour, precision=model.transformer_for(behaviour.precision).precision)
    text = json.dumps([model.fingerprint, asdict(named), __version__], default=sorted, sort_keys=True)
    return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:12]


def collect(job: Job, events: Iterable[TokenEvent]) -> list[Choice]:
    """The choices to answer with, by index (prompt by prompt).

    With best_of > n: the n of highest mean raw logprob, the end token included, best first; the earlier wins ties.
    """
    drawn = job.params.n
    choices = [Choice(index // drawn) for index in range(len(job.prompts) * drawn)]
    for event in events:
        choice = choices[event.prompt_index * drawn + event.choice]
        choice.texts.append(event.text)
        choice.token_ids.append(event.token_id)
        choice.raw += 0.0 if event.raw_logprob is None else event.raw_logprob
        if event.logprobs is not None:
            choice.logprobs.append(event.logprobs)
        if event.finish_reason is not None:
            choice.finish_reason, choice.stop_reason = event.finish_reason, event.stop_reason
    wanted = job.request.generation.n
    if drawn <= wanted:
        return choices
    best: list[Choice] = []
    for start in range(0, len(choices), drawn):
        candidates = choices[start : start + drawn]
        if "best_of_ignored" not in job.behaviour.flaws:
            candidates = sorted(candidates, key=lambda choice: -choice.mean_logprob)
        best.extend(candidates[:wanted])
    return best
