"""Behaviour: the frozen bundle of everything that decides an answer. It knows nothing of requests or HTTP.

An honest server is one Behaviour; a fault is a map from one Behaviour to another (`refsample.conformance.faults`).
The server serves a Behaviour, the verifier uses the very same object as a hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from refsample.sampling.params import SamplingParams
from refsample.spec.types import Semantics


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How answers come about, beside the weights and the request."""

    semantics: Semantics
    """Order, ties, scopes, logprob stage and seed rule: the engine file's."""
    dropped: frozenset[str] = frozenset()
    """Names of request fields that are taken and silently not applied: SamplingParams fields, "seed"."""
    precision: str = "float32"
    """Name for `Transformer.with_precision`."""
    keep_stop: bool = False
    """True: the matched stop text stays in the answer."""
    template: str | None = None
    """Name of a chat template of the model folder; None is the default one."""


def applied(params: SamplingParams, behaviour: Behaviour) -> SamplingParams:
    """The parameters that really act: dropped ones are back at their neutral value."""
    neutral = SamplingParams()
    names = [f.name for f in fields(params) if f.name in behaviour.dropped]
    return replace(params, **{name: getattr(neutral, name) for name in names}) if names else params
