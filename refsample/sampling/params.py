"""SamplingParams: what a request asks of the sampler. It knows no engine, no vocabulary and no provider's bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import SupportsFloat

from refsample.checks import integer, known_names
from refsample.errors import ParameterError


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
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> value added to its logit; -inf forbids the token where the engine does not clamp."""
    allowed_token_ids: tuple[int, ...] | None = None
    """Only these may be drawn; None: all."""
    banned_token_ids: tuple[int, ...] = ()
    """These may not be drawn."""

    def __post_init__(self) -> None:
        self._number("temperature", 0.0, math.inf)
        self._number("top_p", 0.0, 1.0)
        self._number("min_p", 0.0, 1.0)
        self._number("repetition_penalty", 0.0, math.inf, open_low=True)
        self._number("presence_penalty", -math.inf, math.inf)
        self._number("frequency_penalty", -math.inf, math.inf)
        top_k = integer("top_k", self.top_k)
        if top_k < -1:
            raise ParameterError("top_k", self.top_k, "must be -1, 0 (both off) or positive")
        object.__setattr__(self, "top_k", top_k)
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

    def _number(self, name: str, low: float, high: float, open_low: bool = False) -> None:
        value = getattr(self, name)
        number = _float(name, value)
        if not math.isfinite(number):
            raise ParameterError(name, value, "must be finite")
        if number < low or number > high or (open_low and number == low):
            bounds = f"{'(' if open_low else '['}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}"
            raise ParameterError(name, value, f"must lie in {bounds}")
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
