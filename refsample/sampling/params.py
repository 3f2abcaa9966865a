"""SamplingParams: what a request asks of the sampler. It knows no engine, no vocabulary and no provider's bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import SupportsFloat

from refsample.checks import integer, known_names
from refsample.errors import ParameterError

ANY, NOT_NEGATIVE, SHARE = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)
CLOSED: Mapping[str, tuple[float, float]] = {
    "temperature": NOT_NEGATIVE, "top_p": SHARE, "min_p": SHARE, "presence_penalty": ANY, "frequency_penalty": ANY,
    "dry_multiplier": NOT_NEGATIVE, "dry_base": (1.0, math.inf), "dynatemp_range": NOT_NEGATIVE, "typical_p": SHARE,
    "top_h": SHARE, "top_n_sigma": ANY, "tfs_z": SHARE, "top_a": SHARE, "xtc_probability": SHARE,
    "xtc_threshold": SHARE, "mirostat_eta": NOT_NEGATIVE,
}  # fmt: skip
"""Ranges of numbers, ends included where they are finite."""
POSITIVE = ("repetition_penalty", "dynatemp_exponent", "mirostat_tau")
BELOW_ONE = ("epsilon_cutoff", "eta_cutoff")
INTEGERS: Mapping[str, int] = {
    "top_k": -1, "no_repeat_ngram_size": 0, "dry_allowed_length": 0, "dry_penalty_last_n": -1, "mirostat": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling parameters, each with its neutral value as default except that temperature 1 is neutral.

    Checked here: types, and ranges outside which the mathematics has no meaning. Provider bounds (temperature <= 2
    and the like) belong to `refsample.api`; token ids are checked against a vocabulary by `pipeline.distribution`.
    Raises ParameterError.
    """

    temperature: float = 1.0
    """T >= 0, finite; 0 is greedy."""
    top_p: float = 1.0
    """[0, 1]; 1 is off."""
    top_k: int = 0
    """0 or -1 is off; larger than the vocabulary is off too."""
    min_p: float = 0.0
    """[0, 1]; 0 is off."""
    repetition_penalty: float = 1.0
    """> 0, finite; 1 is off; below 1 rewards."""
    presence_penalty: float = 0.0
    """Finite; taken once from the logit of each token that occurred."""
    frequency_penalty: float = 0.0
    """Finite; taken from the logit as often as the token occurred."""
    no_repeat_ngram_size: int = 0
    """No token may complete a run of so many tokens that occurred before; 0 is off."""
    dry_multiplier: float = 0.0
    """Finite, >= 0; 0 is off. A token that would prolong a repeat of L tokens loses multiplier * base^(L - allowed)."""
    dry_base: float = 1.75
    """>= 1, finite."""
    dry_allowed_length: int = 2
    """>= 0: repeats shorter than this cost nothing."""
    dry_penalty_last_n: int = -1
    """Tokens of the history that are searched; -1: all, 0: none."""
    dry_sequence_breakers: tuple[tuple[int, ...], ...] = ()
    """Runs of ids that no repeat reaches across; one of a single id is never penalised either."""
    dynatemp_range: float = 0.0
    """>= 0; 0 is off. The temperature lies in [temperature - range, temperature + range], by the entropy; a temperature
    of 0 is then its lower end, and not greedy."""
    dynatemp_exponent: float = 1.0
    """> 0, finite: the share of the largest entropy to this power says where in the range."""
    typical_p: float = 1.0
    """[0, 1]; 1 is off."""
    top_h: float = 0.0
    """[0, 1]; 0 is off: the best tokens with at most this share of the entropy."""
    top_n_sigma: float = 0.0
    """Finite; 0 and below is off: logits no farther below the maximum than so many standard deviations."""
    tfs_z: float = 1.0
    """[0, 1]; 1 is off: the tail-free share of the curvature."""
    top_a: float = 0.0
    """[0, 1]; 0 is off: P >= top_a * (max P)^2."""
    epsilon_cutoff: float = 0.0
    """[0, 1); 0 is off: P >= epsilon."""
    eta_cutoff: float = 0.0
    """[0, 1); 0 is off: P >= min(eta, sqrt(eta) * e^-entropy)."""
    xtc_probability: float = 0.0
    """[0, 1]; 0 is off: how often all top choices but the least are left out."""
    xtc_threshold: float = 0.1
    """[0, 1]: from which probability a token is a top choice; above 0.5 there are never two."""
    mirostat: int = 0
    """0 is off, 2 is version 2: cuts what is more surprising than `mu` bits, a state that every draw moves."""
    mirostat_tau: float = 5.0
    """> 0, finite: the surprise in bits that is aimed at; `mu` begins at twice this."""
    mirostat_eta: float = 0.1
    """>= 0, finite: the share of the miss by which `mu` moves."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> value added to its logit; -inf forbids the token where the engine does not clamp."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Only these may be drawn; None: all."""
    banned_token_ids: tuple[int, ...] = ()
    """These may not be drawn."""

    def __post_init__(self) -> None:
        for name, (low, high) in CLOSED.items():
            self._number(name, low, high)
        for name in POSITIVE:
            self._number(name, 0.0, math.inf, open_low=True)
        for name in BELOW_ONE:
            self._number(name, 0.0, 1.0, open_high=True)
        for name, least in INTEGERS.items():
            self._integer(name, least)
        if self.mirostat not in (0, 2):
            raise ParameterError("mirostat", self.mirostat, "must be 0 (off) or 2 (version 2)")
        breakers = _runs("dry_sequence_breakers", self.dry_sequence_breakers)
        object.__setattr__(self, "dry_sequence_breakers", breakers)
        object.__setattr__(self, "logit_bias", _bias(self.logit_bias))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", _ids("allowed_token_ids", self.allowed_token_ids))
            if not self.allowed_token_ids:
                raise ParameterError("allowed_token_ids", (), "must name at least one token")
        object.__setattr__(self, "banned_token_ids", _ids("banned_token_ids", self.banned_token_ids))

    def __reduce__(self) -> tuple[object, ...]:
        # A MappingProxyType does not pickle, and frozen slots have no setattr: rebuild through the constructor.
        values = {name: getattr(self, name) for name in self.__slots__}
        return _rebuild, ({**values, "logit_bias": dict(self.logit_bias)},)

    def __hash__(self) -> int:
        values = (getattr(self, name) for name in self.__slots__ if name != "logit_bias")
        return hash((*values, tuple(self.logit_bias.items())))

    def _number(
        self, name: str, low: float, high: float, open_low: bool = False, open_high: bool = False
    ) -> None:
        value = getattr(self, name)
        number = _float(name, value)
        if not math.isfinite(number):
            raise ParameterError(name, value, "must be finite")
        if number < low or number > high or (open_low and number == low) or (open_high and number == high):
            closed = math.isfinite(high) and not open_high
            bounds = f"{'(' if open_low else '['}{low:g}, {high:g}{']' if closed else ')'}"
            raise ParameterError(name, value, f"must lie in {bounds}")
        object.__setattr__(self, name, number)

    def _integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        number = integer(name, value)
        if number < least:
            off = "must be -1, 0 (both off) or positive" if name == "top_k" else f"must be at least {least}"
            raise ParameterError(name, value, off)
        object.__setattr__(self, name, number)


def _rebuild(values: Mapping[str, object]) -> SamplingParams:
    return SamplingParams(**values)  # type: ignore[arg-type]  # the values come from a checked instance


def sampling_params(values: SamplingParams | Mapping[str, object] | None, source: str) -> SamplingParams:
    """SamplingParams as they are, made of a mapping of their fields, or all neutral for None. Raises ParameterError."""
    if values is None:
        return SamplingParams()
    if isinstance(values, SamplingParams):
        return values
    if not isinstance(values, Mapping):
        raise ParameterError("params", values, "must be SamplingParams or a mapping of its fields", source)
    known_names(values, SamplingParams.__slots__, source)
    return SamplingParams(**values)  # type: ignore[arg-type]  # checked at construction


def _float(name: str, value: object) -> float:
    """`value` as a float, which may be NaN or infinite; texts, booleans and arrays are no numbers."""
    if type(value) is float or type(value) is int:  # by far the most, and asking a protocol is slow
        plain = True
    else:
        plain = isinstance(value, SupportsFloat) and not isinstance(value, bool | complex)
    if not plain or getattr(value, "shape", ()) != ():
        raise ParameterError(name, value, "must be a number")
    try:
        return float(value)  # type: ignore[arg-type]  # just tested
    except OverflowError:
        raise ParameterError(name, value, "must fit into a float") from None
    except (TypeError, ValueError):
        raise ParameterError(name, value, "must be a number") from None


def _ids(name: str, values: Iterable[object]) -> tuple[int, ...]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ParameterError(name, values, "must be a list of token ids")
    ids = sorted({integer(name, value) for value in values})
    if ids and ids[0] < 0:
        raise ParameterError(name, ids[0], "token ids are not negative")
    return tuple(ids)


def _runs(name: str, values: object) -> tuple[tuple[int, ...], ...]:
    """Runs of token ids, each in its own order."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ParameterError(name, values, "must be a list of lists of token ids")
    runs = []
    for run in values:
        if isinstance(run, (str, bytes)) or not isinstance(run, Iterable):
            raise ParameterError(name, run, "must be a list of token ids")
        ids = tuple(integer(name, value, 0) for value in run)
        if not ids:
            raise ParameterError(name, run, "must hold at least one token id")
        runs.append(ids)
    return tuple(runs)


def _bias(values: object) -> Mapping[int, float]:
    if not isinstance(values, Mapping):
        raise ParameterError("logit_bias", values, "must map token ids to numbers")
    checked: dict[int, float] = {}
    for key in values:
        token, value = integer("logit_bias", key), values[key]
        if token < 0:
            raise ParameterError("logit_bias", token, "token ids are not negative")
        number = _float(f"logit_bias[{token}]", value)
        if math.isnan(number) or number == math.inf:
            raise ParameterError(f"logit_bias[{token}]", value, "must be a number below infinity")
        checked[token] = number
    return MappingProxyType(dict(sorted(checked.items())))


def check_left(sampling: SamplingParams, size: int, cause: tuple[str, object] | None = None) -> None:
    """ParameterError where the ids that are allowed, of a vocabulary of so many, are all banned; `cause`: the parameter
    that bans them, and its value."""
    allowed, banned = sampling.allowed_token_ids, frozenset(sampling.banned_token_ids)
    if len(banned) >= size if allowed is None else banned.issuperset(allowed):
        own = ("banned_token_ids", sampling.banned_token_ids)
        name, value = cause or (own if allowed is None else ("allowed_token_ids", allowed))
        raise ParameterError(name, value, "leaves no token that could be drawn")
