"""From logits to the law of the next token. It knows the engine's order only as data, and nothing of models or text.

`distribution` is the door: it checks ids and logits. `decide` trusts its caller and is what generation uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refsample.checks import token_id as checked_id
from refsample.checks import token_ids
from refsample.errors import ParameterError
from refsample.sampling.context import Context, Memory, State, Step, is_greedy
from refsample.sampling.edges import NEAR
from refsample.sampling.further import mirostat_after
from refsample.sampling.own import OwnStep
from refsample.sampling.params import SamplingParams, sampling_params
from refsample.sampling.semantics import resolve
from refsample.sampling.steps import advance, plan, sequence
from refsample.sampling.trace import StepTrace, Trace, idle, record
from refsample.spec.types import STAGES, EngineSpec, Semantics, Stage
from refsample_kernels import draw as draw_kernel
from refsample_kernels.softmax import log_softmax, row_log_softmax, softmax

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
History = Sequence[int] | Ids


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Distribution:
    """The law of one token. Everything beside `probs` is worked out when it is asked for."""

    probs: Floats
    """[V] float64 in token-id order; sums to 1; exactly 0 outside the support. Read-only."""
    logits: Floats
    """[V] float64 as they came from the model. Read-only."""
    final: Floats
    """[V] float64 after the last step, -inf where cut; `probs` is their softmax. Read-only."""
    context: Context
    """Parameters, semantics, history and what a grammar allows."""
    row: NDArray[np.floating]
    """[V] what `logits` were made of, in the type of the model. Read-only."""

    @property
    def raw_logprobs(self) -> Floats:
        """[V] log-softmax of the model's logits, before every step."""
        return row_log_softmax(self.row)

    @property
    def support(self) -> NDArray[np.bool_]:
        """[V] True where no step cut the token; its probability may still be too small for a float64."""
        return self.final > -np.inf

    @property
    def trace(self) -> Trace:
        """What every step did; computed anew at each call. Where a grammar makes it draw twice: in the second draw.
        Where XTC tosses a coin: as it falls on acting."""
        return trace(self.logits, self.context)

    @property
    def boundary(self) -> Ids:
        """Ids within 1e-6 of a cut: another correct implementation may keep or drop them."""
        return self.boundary_within(NEAR)

    def boundary_within(self, near: float) -> Ids:
        """The same for an implementation that errs by up to `near` in a logit (nats) or a mass.

        Of every draw that the law is mixed of: both sides of XTC's coin, with a grammar and without it.
        """
        sides = [self.context]
        if 0.0 < self.context.params.xtc_probability < 1.0:
            sides.append(replace(self.context, coin=False))
        if self.context.allowed is not None and self.context.semantics.grammar_rule == "redraw":
            sides += [replace(side, allowed=None) for side in sides]
        found = [trace(self.logits, side, near).undecidable for side in sides]
        return np.unique(np.concatenate(found))

    def logprobs(self, stage: Stage | None = None) -> Floats:
        """[V] logprobs at a stage (None: the engine's own), -inf where cut. Raises ParameterError for other names."""
        wanted = stage or self.context.semantics.logprob_stage
        masked = wanted == "raw_grammar" and self.context.allowed is not None
        if wanted in STAGES and not masked and not stage_plan(self.context, wanted):
            return self.raw_logprobs
        return stage_logprobs(self.logits, self.context, wanted)

    def memory_after(self, token_id: int) -> Memory | None:
        """The `state` of the next draw, after this one gave `token_id`; None where no step has a memory.

        Raises ParameterError for a token that cannot be drawn.
        """
        if not self.context.params.mirostat:
            return None
        drawn = checked_id("token_id", token_id, self.probs.size)
        probability = float(self.probs[drawn])
        if probability == 0.0:
            raise ParameterError("token_id", drawn, "has no probability here, so it was not drawn")
        return mirostat_after(probability, self.context)

    def __repr__(self) -> str:
        best = np.argsort(-self.probs, kind="stable")[:3]
        shown = ", ".join(f"{i}: {self.probs[i]:.4g}" for i in best)
        return f"Distribution(V={self.probs.size}, support={np.count_nonzero(self.support)}, {{{shown}, ...}})"


def distribution(
    logits: ArrayLike,
    params: SamplingParams | Mapping[str, object] | None,
    prompt_ids: History = (),
    output_ids: History = (),
    engine: str | EngineSpec | Semantics = "reference",
    state: Memory | None = None,
    *,
    allowed: ArrayLike | None = None,
    steps: Sequence[OwnStep] = (),
) -> Distribution:
    """The law of the next token.

    `logits` [V] are the model's own; -inf means impossible. `params` may be a mapping of the fields. `prompt_ids` and
    `output_ids` are the history that the penalties see. `engine` is a name, a spec or Semantics. `state` is what
    `Distribution.memory_after` gave for the draw before (mirostat); None: nothing was drawn yet. `allowed` [V] bool:
    the tokens that a grammar lets through, cut in the step `mask`. `steps` are your own beside the engine's. Raises
    ParameterError for NaN or +inf, for ids outside [0, V), and where no token is left.
    """
    if not isinstance(state, Memory | None):
        raise ParameterError("state", state, "must be what Distribution.memory_after gave, or None")
    asked = sampling_params(params, "distribution")
    try:
        kind = np.float32 if isinstance(logits, np.ndarray) and logits.dtype == np.float32 else np.float64
        array: NDArray[np.floating] = np.array(logits, dtype=kind)  # a copy: the caller may reuse its buffer
    except (TypeError, ValueError, OverflowError):  # texts, complex numbers, lists of different lengths, huge integers
        raise ParameterError("logits", logits, "must be numbers of the shape [V]") from None
    if array.ndim != 1 or not array.size:
        raise ParameterError("logits", array.shape, "must have the shape [V] with V >= 1")
    check_named(asked, array.size)
    prompt, output = _history("prompt_ids", prompt_ids, array.size), _history("output_ids", output_ids, array.size)
    return decide(array, asked, prompt, output, resolve(engine), _allowed(allowed, array.size), state, tuple(steps))


def decide(
    logits: NDArray[np.floating],
    params: SamplingParams,
    prompt_ids: History,
    output_ids: History,
    semantics: Semantics,
    allowed: NDArray[np.bool_] | None = None,
    memory: Memory | None = None,
    steps: tuple[OwnStep, ...] = (),
) -> Distribution:
    """`distribution` for callers that have checked ids and shapes. It does not copy: the logits are theirs to keep."""
    raw = np.asarray(logits, dtype=np.float64).view()  # [V]; a view, so that the caller's own stays writeable
    top = raw.max()
    if not np.isfinite(top):
        rule = "must hold a finite value" if top == -np.inf else "must not hold NaN or +inf"
        raise ParameterError("logits", float(top), rule)
    context = Context(params, semantics, prompt_ids, output_ids, allowed, memory, own=steps)
    final = _final(raw, context)
    if allowed is not None and semantics.grammar_rule == "redraw":
        final = _redrawn(_final(raw, replace(context, allowed=None)), final, allowed)
    probs, row = softmax(final), logits.view()
    for array in (probs, raw, final, row):
        array.flags.writeable = False
    return Distribution(probs, raw, final, context, row)


def _final(logits: Floats, context: Context) -> Floats:
    """[V] after the last step; where XTC tosses a coin, the log of the mixture of both its sides."""
    return _after(logits, context, plan(context))


def _after(logits: Floats, context: Context, steps: Sequence[Step]) -> Floats:
    """[V] after the last of some steps."""
    chance = context.params.xtc_probability if any(step.name == "xtc" for step in steps) else 1.0
    # A difference of two huge logits may overflow to -inf, which is what it means here: no chance.
    with np.errstate(over="ignore"):
        if chance < 1.0:
            others = tuple(step for step in steps if step.name != "xtc")
            sides = (_walked(logits, context, steps), _walked(logits, context, others))
            return _mixed(chance, *map(log_softmax, sides))
        return _walked(logits, context, steps)


def _walked(logits: Floats, context: Context, steps: Sequence[Step]) -> Floats:
    final = logits
    for _, _, after in walk(logits, context, steps):
        final = after.logits
    return final


def _mixed(chance: float, heads: Floats, tails: Floats) -> Floats:
    """[V] logprobs of a law that is `heads` with this chance and else `tails`, both logprobs [V]."""
    with np.errstate(divide="ignore"):
        both: Floats = np.logaddexp(np.log(chance) + heads, np.log1p(-chance) + tails)
    return both


def _redrawn(free: Floats, masked: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """[V] the law of two draws: one without the grammar, and where it does not fit, one with it (D20)."""
    first = log_softmax(free)  # [V]
    rejected = float(np.exp(first[~allowed]).sum())
    with np.errstate(divide="ignore"):
        again = np.log(rejected) + log_softmax(masked)  # [V]
    both: Floats = np.logaddexp(np.where(allowed, first, -np.inf), again)
    return both


def walk(logits: Floats, context: Context, steps: Sequence[Step]) -> Iterator[tuple[Step, State, State]]:
    """Each step with the state before and after it."""
    state = State(logits, logits, logits.size)
    for step in steps:
        before, state = state, advance(state, step, context)
        yield step, before, state


def trace(logits: Floats, context: Context, near: float = NEAR) -> Trace:
    """The record of every step in order, active or not; undecidable is what lies within `near` of a cut."""
    records: list[StepTrace] = []
    acting = {step.name for step in plan(context)}
    state = State(logits, logits, logits.size)
    with np.errstate(over="ignore"):
        for step in sequence(context):
            before = state
            if step.name in acting:
                state = advance(state, step, context)
                records.append(record(step, before, state, context, near))
            else:
                records.append(idle(step, state))
    return Trace(logits, tuple(records))


def stage_logprobs(logits: Floats, context: Context, stage: Stage) -> Floats:
    """[V] logprobs read at a stage, which is a place in the engine's order; -inf where cut.

    Raises ParameterError for a name that is no stage.
    """
    if stage not in STAGES:
        raise ParameterError("logprob_stage", stage, f"must be one of {', '.join(STAGES)}")
    with np.errstate(over="ignore"):
        final = logits
        if stage == "raw_grammar" and context.allowed is not None:
            final = np.where(context.allowed, logits, -np.inf)  # [V]
        return log_softmax(_after(final, context, stage_plan(context, stage)))


def stage_plan(context: Context, stage: Stage) -> tuple[Step, ...]:
    """The acting steps that lie before a stage."""
    order, acting = sequence(context), plan(context)
    if stage in ("raw", "raw_grammar"):
        return ()
    if stage == "raw_masked":
        return tuple(step for step in acting if step.name == "mask")
    if is_greedy(context) and context.semantics.greedy_logprobs == "temperature_one":
        return tuple(step for step in acting if step.kind == "adjust")
    if stage == "post_truncation":
        return acting
    kinds = ("adjust",) if stage == "post_penalty" else ("greedy", "scale")
    last = max((place for place, step in enumerate(order) if step.kind in kinds), default=-1)
    before = {step.name for step in order[: last + 1]}
    return tuple(step for step in acting if step.name in before)


def draw(probs: Floats, u: float) -> int:
    """The token that u in [0, 1) picks: inverse CDF in token-id order, never one of probability 0."""
    return int(draws(probs, np.array([u]))[0])


def draws(probs: Floats, us: NDArray[np.float64]) -> Ids:
    """`draw` for many u [N] -> ids [N]. Raises ParameterError for a u outside [0, 1)."""
    uniforms = np.asarray(us, dtype=np.float64)
    inside = (uniforms >= 0.0) & (uniforms < 1.0)
    if not inside.all():
        raise ParameterError("u", float(uniforms[~inside][0]), "must lie in [0, 1)")
    return draw_kernel.draws(probs, uniforms)


def check_named(params: SamplingParams, size: int) -> None:
    """The ids that parameters name lie in a vocabulary of that size. Raises ParameterError."""
    token_ids("logit_bias", tuple(params.logit_bias), size)
    token_ids("allowed_token_ids", params.allowed_token_ids or (), size)
    token_ids("banned_token_ids", params.banned_token_ids, size)
    for index, run in enumerate(params.dry_sequence_breakers):
        token_ids(f"dry_sequence_breakers[{index}]", run, size)


def _allowed(values: ArrayLike | None, size: int) -> NDArray[np.bool_] | None:
    """A copy of a grammar's mask, which the caller may reuse."""
    if values is None:
        return None
    array = np.array(values)
    if array.dtype != np.bool_ or array.shape != (size,):
        raise ParameterError("allowed", array.shape, f"must be {size} booleans, one for each token")
    array.flags.writeable = False
    return array


def _history(name: str, ids: History, size: int) -> History:
    """A history whose ids lie in the vocabulary; a long one is looked at as a whole, one that is wrong id by id."""
    try:
        array = np.asarray(ids)
    except ValueError:  # lists of different lengths
        return token_ids(name, ids, size)
    if array.ndim == 1 and array.dtype.kind in "iu" and array.min(initial=0) >= 0 and array.max(initial=0) < size:
        return ids
    return token_ids(name, ids, size)
