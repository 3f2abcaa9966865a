"""What an engine file says, as frozen records. It knows nothing of TOML files or of how a rule is carried out.

Sources of the named choices: the engines' own code, as cited line by line in `specs/engines/*.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from refsample.errors import SpecError

StepName = Literal[
    "mask", "logit_bias", "repetition", "frequency", "presence", "no_repeat_ngram", "dry",
    "greedy", "temperature", "dynamic_temperature",
    "min_p", "top_k", "top_p", "typical_p", "top_h", "top_n_sigma", "tail_free", "top_a", "epsilon", "eta",
    "xtc", "mirostat",
]  # fmt: skip
TopKTies = Literal["exact_low_id", "keep_all", "exact_any"]
TopPRule = Literal["ge", "gt"]
TopPTies = Literal["low_id", "high_id", "all"]
TopPBase = Literal["sequential", "joint"]
MinPForm = Literal["logit", "probability"]
GreedyTies = Literal["low_id", "all"]
GreedyLogprobs = Literal["temperature_one", "collapsed"]
Scope = Literal["prompt_and_output", "output", "window"]
FrequencyForm = Literal["count", "relative"]
DynatempBase = Literal["possible", "listed"]
FloorTies = Literal["low_id", "all"]
TypicalRule = Literal["ge", "gt"]
TypicalTies = Literal["low_id", "all"]
XtcRule = Literal["ge", "gt"]
XtcTies = Literal["one", "all"]
Stage = Literal["raw", "raw_grammar", "raw_masked", "post_penalty", "post_temperature", "post_truncation"]
GrammarRule = Literal["mask", "redraw"]
RankRule = Literal["strict", "ge"]
TopLogprobsRule = Literal["rank_sorted", "ties_expanded", "sampled_first_cut_n_plus_1"]
SeedRule = Literal["seed_plus_choice", "identical", "ignored"]

STEP_NAMES: tuple[StepName, ...] = get_args(StepName)
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantics:
    """Everything an engine decides about the law of a token. No field has a default: the engine file says each one."""

    order: tuple[StepName, ...]
    """Steps in the order in which they run; a step that is absent does not exist in that engine."""
    mirostat_order: tuple[StepName, ...]
    """The same while mirostat is on; empty: `order`."""
    top_k_ties: TopKTies
    """Tokens tied at rank k: the lowest ids fill k places; all stay; k of them stay, unspecified (ours: lowest)."""
    top_p_rule: TopPRule
    """ge: a token stays while the mass ranked above it is < p; gt: while it is <= p."""
    top_p_ties: TopPTies
    """Rank among equal tokens at the boundary: lowest ids first, highest first, or all stay."""
    top_p_base: TopPBase
    """Mass of top_p relative to what earlier truncations left (sequential) or to everything (joint)."""
    min_p_form: MinPForm
    """l >= max + ln(min_p), or P >= min_p * max P: equal but for rounding; equality stays in both."""
    min_tokens_to_keep: int
    """No truncation leaves fewer tokens than this (>= 1)."""
    typical_rule: TypicalRule
    """ge: typical_p keeps the tokens down to that which brings their mass to p; gt: beyond p."""
    typical_ties: TypicalTies
    """Tokens as typical as the last one that is kept: the lowest ids, or all."""
    floor_ties: FloorTies
    """Where no token reaches the cutoff of epsilon: the best with the lowest id stays, or all that equal it."""
    top_h_ranks: int
    """top_h looks at no more than this many best tokens, and cuts the rest; 0: at all."""
    xtc_rule: XtcRule
    """A token is a top choice of XTC if its probability is >= or > the threshold."""
    xtc_ties: XtcTies
    """Top choices that tie for the least: one of them stays (ours: the highest id), or all."""
    dynatemp_base: DynatempBase
    """The largest entropy of dynamic temperature is that of all tokens that are possible, or of all in the engine's
    list: a token at -inf is in it until a truncation takes it off (top_n_sigma does not)."""
    temperature_clamp: float
    """A temperature above 0 and below this is raised to it; 0.0: none."""
    greedy_below: float
    """A temperature (after the clamp) below this is taken as 0; 0.0: only 0 itself."""
    greedy_ties: GreedyTies
    """Equal maxima at temperature 0: the lowest id, or a draw among all of them."""
    greedy_logprobs: GreedyLogprobs
    """Logprobs read after temperature or truncation while greedy: penalised logits at T = 1 and uncut, or 0 / -inf."""
    repetition_scope: Scope
    """Which tokens the repetition penalty sees; window: the last `penalty_window` of prompt and output."""
    additive_scope: Scope
    """The same for frequency and presence penalty."""
    frequency_form: FrequencyForm
    """frequency_penalty times the count of a token, or times its share of the scope (count / length)."""
    penalty_window: int
    """Length of the window in tokens; unused where no scope is `window`."""
    bias_clamp: float
    """logit_bias values are clamped to [-this, this]; inf: not at all."""
    grammar_rule: GrammarRule
    """A grammar's mask acts in the step `mask`; or only where a token drawn without it does not fit (draw again)."""
    logprob_stage: Stage
    """Where in the pipeline the reported logprobs are read. raw_grammar: the model's own under a grammar's mask,
    without allowed_token_ids and the like; raw_masked: after the whole step `mask`."""
    rank_rule: RankRule
    """strict: 1 + count of greater values; ge: count of values >= (ties share the worst rank)."""
    minus_inf: float
    """The number that stands for -inf in an answer."""
    top_logprobs_rule: TopLogprobsRule
    """Best N by rank; the same and all that tie with the last; or the drawn token first, then ranks, N + 1 in all."""
    seed_rule: SeedRule
    """Key of choice i of a request: seed + i; seed for all; none (the seed is ignored)."""

    def __post_init__(self) -> None:
        """Rules between fields. Raises SpecError."""
        for name, order in (("order", self.order), ("mirostat_order", self.mirostat_order)):
            repeated = sorted({step for step in order if order.count(step) > 1})
            if repeated:
                raise SpecError(f"{name}: {', '.join(repeated)} occurs more than once")
        least = 1 if "window" in (self.repetition_scope, self.additive_scope) else 0
        if self.penalty_window < least:
            raise SpecError(f"penalty_window={self.penalty_window}: positive where a scope is 'window', not negative")
        if self.min_tokens_to_keep < 1:
            raise SpecError(f"min_tokens_to_keep={self.min_tokens_to_keep}: at least 1")
        if not self.minus_inf < 0.0:
            raise SpecError(f"minus_inf={self.minus_inf}: below 0, as every logprob is")
        for name in ("temperature_clamp", "greedy_below", "bias_clamp", "top_h_ranks"):
            if not getattr(self, name) >= 0.0:
                raise SpecError(f"{name}={getattr(self, name)}: not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDifference:
    """A difference from the API's page that the engine is known for: a verifier lists it and does not count it."""

    check: str
    """Id of a conformance check; `*` matches any ending."""
    summary: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One file of `specs/engines/`."""

    name: str
    title: str
    version: str
    """Version or commit that was read."""
    source: str
    semantics: Semantics
    known: tuple[KnownDifference, ...]
    aliases: Mapping[str, str]
    """Our name of a request field -> the name under which this engine takes it."""
